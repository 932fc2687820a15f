use allerac_ledger::{Counts, Plan, PlanRow, money_text};

use crate::amount::ModelSize;
use crate::args::Place;
use crate::args::plans::{Plans, PlansAdd, PlansSet};
use crate::failure::{Exit, Failure};
use crate::output::{Align, Table, bytes, grouped, print_json, print_line};

pub(crate) async fn run(command: &Plans, place: &Place) -> Result<(), Failure> {
    match command {
        Plans::List(args) => list(args.json, place),
        Plans::Add(args) => add(args, place).await,
        Plans::Set(args) => set(args, place).await,
        Plans::Remove(args) => {
            place.ledger()?.remove_plan(&args.name).await?;
            Ok(print_line(&format!("removed the plan {}", args.name))?)
        }
    }
}

async fn add(args: &PlansAdd, place: &Place) -> Result<(), Failure> {
    let ledger = place.ledger()?;
    let begin = match &args.like {
        Some(name) => ledger.plan(name)?,
        None => Plan::open(""),
    };
    let mut plan = Plan { name: args.name.clone(), ..begin };
    args.limits.apply(&mut plan);
    ledger.add_plan(plan).await?;
    Ok(print_line(&format!("made the plan {}", args.name))?)
}

async fn set(args: &PlansSet, place: &Place) -> Result<(), Failure> {
    if args.limits.is_empty() {
        return Err(Failure::new(Exit::Usage, "nothing is to be changed")
            .hint("give a limit, --tokens-a-month say; see allerac plans set --help"));
    }
    let limits = args.limits.clone();
    place.ledger()?.change_plan(&args.name, move |plan| limits.apply(plan)).await?;
    Ok(print_line(&format!("changed the plan {}", args.name))?)
}

fn list(json: bool, place: &Place) -> Result<(), Failure> {
    let plans = place.ledger()?.plans()?;
    if json {
        return Ok(print_json(&plans)?);
    }
    let columns = [
        ("PLAN", Align::Left),
        ("TOKENS A MONTH", Align::Right),
        ("COUNTS", Align::Left),
        ("REQUESTS/MIN", Align::Right),
        ("TOKENS/MIN", Align::Right),
        ("AT ONCE", Align::Right),
        ("MODELS", Align::Left),
        ("CLASS", Align::Left),
        ("UPSTREAMS", Align::Left),
        ("STORAGE", Align::Right),
        ("USERS", Align::Right),
        ("KEYS", Align::Right),
    ];
    let mut table = Table::new(&columns);
    for row in plans {
        table.row(cells(&row));
    }
    Ok(table.print()?)
}

fn cells(row: &PlanRow) -> Vec<String> {
    let plan = &row.plan;
    let limit = |limit: Option<u64>| limit.map_or_else(|| "-".to_owned(), grouped);
    let mut tokens = limit(plan.tokens_a_month);
    if let Some(soft) = plan.soft_tokens_a_month {
        tokens = format!("{tokens} (soft {})", grouped(soft));
    }
    if plan.carry_over {
        tokens += " +left";
    }
    let counts = match plan.counts {
        Counts::Weighted => format!("weighted ({})", plan.weights.len()),
        counts => counts.to_string(),
    };
    let size = plan.parameters_below.map(|below| format!("up to {}", ModelSize { below }.text()));
    let names = Some(plan.models.join(",")).filter(|names| !names.is_empty());
    let models: Vec<String> = size.into_iter().chain(names).collect();
    vec![
        plan.name.clone(),
        tokens,
        counts,
        limit(plan.requests_a_minute.map(u64::from)),
        limit(plan.tokens_a_minute),
        limit(plan.concurrency.map(u64::from)),
        if models.is_empty() { "all".to_owned() } else { models.join(": ") },
        plan.class.to_string(),
        upstreams(plan),
        plan.storage_bytes.map_or_else(|| "-".to_owned(), bytes),
        row.users.to_string(),
        row.keys.to_string(),
    ]
}

/// Whether the box may be left, and for how much a month.
fn upstreams(plan: &Plan) -> String {
    match (plan.upstreams, plan.upstream_budget_billionths) {
        (false, _) => "no".to_owned(),
        (true, None) => "yes".to_owned(),
        (true, Some(budget)) => format!("up to {}", money_text(budget)),
    }
}
