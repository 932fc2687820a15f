//! What other servers take, and whether machines of one's own would be cheaper.

use allerac_ledger::money_text;

use crate::args::Place;
use crate::args::usage::UsageOwning;
use crate::failure::Failure;
use crate::output::{Align, Table, print_json, print_line};

/// How the budgets of other servers stand this month.
pub(crate) fn list(json: bool, place: &Place) -> Result<(), Failure> {
    let ledger = place.ledger()?;
    let budgets = ledger.upstream_budgets()?;
    if json {
        return Ok(print_json(&budgets)?);
    }
    if budgets.is_empty() {
        return Ok(print_line("nothing was spent on other servers this month, and none has a budget")?);
    }
    let currency = ledger.currency()?.to_uppercase();
    let columns = [
        ("SERVER", Align::Left),
        ("SPENT", Align::Right),
        ("SET ASIDE", Align::Right),
        ("LEFT", Align::Right),
        ("BUDGET", Align::Right),
        ("", Align::Left),
    ];
    let mut table = Table::new(&columns);
    let limit = |limit: Option<u64>| limit.map_or_else(|| "-".to_owned(), money_text);
    for budget in budgets {
        let state = budget.state;
        table.row(vec![
            budget.upstream,
            money_text(state.used),
            money_text(state.reserved),
            limit(state.free),
            limit(state.limit),
            currency.clone(),
        ]);
    }
    Ok(table.print()?)
}

/// Machines of one's own beside other servers.
pub(crate) fn owning(args: &UsageOwning, place: &Place) -> Result<(), Failure> {
    let ledger = place.ledger()?;
    let month = args.month.clone().unwrap_or_else(|| ledger.month());
    let machines = ledger.owning(&month)?;
    if args.json {
        return Ok(print_json(&machines)?);
    }
    if machines.is_empty() {
        return Ok(print_line("no machine is named to compare with; see [[owning]] in docs/usage.md")?);
    }
    let currency = ledger.currency()?.to_uppercase();
    for owning in machines {
        let (rented, owned) = (owning.rented, owning.price_share + owning.electricity);
        let cheaper = if owning.is_cheaper { "owning would have been cheaper" } else { "renting was cheaper" };
        print_line(&format!("{} in {month}: {cheaper}", owning.machine))?;
        print_line(&format!("  other servers took  {} {currency}", money_text(rented)))?;
        let machines =
            if owning.machines == 1 { "one machine".to_owned() } else { format!("{} machines", owning.machines) };
        print_line(&format!(
            "  owning takes        {} {currency}: {} of the price, {} of electricity, for {machines}",
            money_text(owned),
            money_text(owning.price_share),
            money_text(owning.electricity)
        ))?;
        let busy = 100 * owning.busy_seconds / (owning.machines * owning.seconds).max(1);
        let paid_back = owning.paid_back_days.map_or_else(|| "never".to_owned(), |days| format!("after {days} days"));
        print_line(&format!("  busy {busy} % of the time; the price is saved {paid_back}"))?;
    }
    Ok(())
}
