use allerac_ledger::TeamRow;

use crate::args::Place;
use crate::args::people::Teams;
use crate::failure::Failure;
use crate::output::{Align, Table, grouped, print_json, print_line};

pub(crate) async fn run(command: &Teams, place: &Place) -> Result<(), Failure> {
    let ledger = place.ledger()?;
    let told = match command {
        Teams::List(args) => return list(args.json, place),
        Teams::Add(args) => {
            ledger.add_team(&args.name, &args.plan).await?;
            format!("made the team {}", args.name)
        }
        Teams::Set(args) => {
            ledger.set_team_plan(&args.name, &args.plan).await?;
            format!("the team {} has the plan {} now", args.name, args.plan)
        }
        Teams::Join(args) => {
            ledger.join_team(&args.team, &args.user).await?;
            format!("{} is in the team {} now", args.user, args.team)
        }
        Teams::Leave(args) => {
            ledger.leave_team(&args.team, &args.user).await?;
            format!("{} is no longer in the team {}", args.user, args.team)
        }
        Teams::Remove(args) => {
            ledger.remove_team(&args.name).await?;
            format!("removed the team {}", args.name)
        }
    };
    Ok(print_line(&told)?)
}

fn list(json: bool, place: &Place) -> Result<(), Failure> {
    let teams = place.ledger()?.teams(None)?;
    if json {
        return Ok(print_json(&teams)?);
    }
    if teams.is_empty() {
        return Ok(print_line("there are no teams; make one: allerac teams add NAME")?);
    }
    let (left, right) = (|title| (title, Align::Left), |title| (title, Align::Right));
    let mut table = Table::new(&[left("TEAM"), left("PLAN"), right("USED"), right("LEFT"), left("MEMBERS")]);
    for TeamRow { team, plan, members, quota, .. } in teams {
        let free = quota.free.map_or_else(|| "-".to_owned(), grouped);
        table.row(vec![team, plan, grouped(quota.used), free, members.join(", ")]);
    }
    Ok(table.print()?)
}
