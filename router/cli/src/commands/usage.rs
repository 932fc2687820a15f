use std::collections::BTreeMap;

use allerac_ledger::{EnergySources, UsageRow};
use serde_json::{Map, Value};

use super::{upstreams, usage_export};
use crate::args::usage::UsageCommand;
use crate::args::{Dimension, Place, Usage};
use crate::failure::Failure;
use crate::output::{Align, Table, grouped, print_json, print_line};

/// What is counted, in the order it is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    requests: u64,
    prompt: u64,
    cached: u64,
    completion: u64,
    energy_uj: u64,
    cpu_us: u64,
    /// Of other servers, in billionths of the currency.
    cost: u64,
    electricity: u64,
    machine: u64,
}

impl Sum {
    const NAMES: [&'static str; 9] = [
        "requests",
        "prompt_tokens",
        "cached_tokens",
        "completion_tokens",
        "energy_uj",
        "cpu_us",
        "cost",
        "electricity",
        "machine",
    ];

    fn values(self) -> [u64; 9] {
        let Self { requests, prompt, cached, completion, energy_uj, cpu_us, cost, electricity, machine } = self;
        [requests, prompt, cached, completion, energy_uj, cpu_us, cost, electricity, machine]
    }

    fn tokens(self) -> [u64; 4] {
        [self.requests, self.prompt, self.cached, self.completion]
    }

    /// All that it cost, in billionths of the currency.
    fn costs(self) -> u64 {
        self.cost + self.electricity + self.machine
    }

    fn add(&mut self, row: &UsageRow) {
        self.requests += row.requests;
        self.prompt += row.prompt_tokens;
        self.cached += row.cached_tokens;
        self.completion += row.completion_tokens;
        self.energy_uj += row.energy_uj;
        self.cpu_us += row.cpu_us;
        self.cost += row.cost;
        self.electricity += row.electricity;
        self.machine += row.machine;
    }
}

impl Dimension {
    fn name(self) -> &'static str {
        match self {
            Self::Month => "month",
            Self::Day => "day",
            Self::User => "user",
            Self::Key => "key",
            Self::Model => "model",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Month => "MONTH",
            Self::Day => "DAY",
            Self::User => "USER",
            Self::Key => "KEY",
            Self::Model => "MODEL",
        }
    }

    fn of(self, row: &UsageRow) -> &str {
        match self {
            // Those of a month have it in the place of the day.
            Self::Month => row.day.get(..7).unwrap_or(&row.day),
            Self::Day => &row.day,
            Self::User => &row.user,
            Self::Key => &row.key,
            Self::Model => &row.model,
        }
    }
}

pub(crate) fn run(args: &Usage, place: &Place) -> Result<(), Failure> {
    match &args.command {
        Some(UsageCommand::Export(export)) => return usage_export::run(export, place),
        Some(UsageCommand::Upstreams(listing)) => return upstreams::list(listing.json, place),
        Some(UsageCommand::Owning(owning)) => return upstreams::owning(owning, place),
        None => {}
    }
    let by = distinct(&args.by);
    let (ledger, month) = (place.ledger()?, args.month.as_deref());
    // Without days, the sums of months say it all, and are a few rows where there are a hundred thousand.
    let rows = if by.contains(&Dimension::Day) { ledger.usage(month)? } else { ledger.usage_by_month(month)? };
    let sums = sum(&rows, &by);
    if args.json {
        return Ok(print_json(&sums.into_iter().map(|(key, sum)| object(&by, key, sum)).collect::<Vec<_>>())?);
    }
    if sums.is_empty() {
        return Ok(print_line("nothing was used yet")?);
    }
    let own = ledger.own_energy(month)?;
    let currency = ledger.currency()?.to_uppercase();
    let is_measured = own.energy_uj > 0 || sums.values().any(|sum| sum.energy_uj > 0);
    let is_priced = own.electricity > 0 || sums.values().any(|sum| sum.costs() > 0);
    let mut columns: Vec<_> = by.iter().map(|dimension| (dimension.title(), Align::Left)).collect();
    let numbers = ["REQUESTS", "PROMPT", "CACHED", "COMPLETION", if is_measured { "KWH" } else { "CPU SECONDS" }];
    columns.extend(numbers.map(|title| (title, Align::Right)));
    columns.extend(is_priced.then_some(("COST", Align::Right)));
    let mut table = Table::new(&columns);
    for (key, sum) in sums {
        let taken = if is_measured { kwh(sum.energy_uj) } else { thousandths(sum.cpu_us / 1000) };
        let cost = is_priced.then(|| format!("{} {currency}", money(sum.costs())));
        table.row(key.into_iter().chain(sum.tokens().map(grouped)).chain([taken]).chain(cost).collect());
    }
    table.print()?;
    if is_measured {
        let cost = if is_priced { format!(", {} {currency}", money(own.electricity)) } else { String::new() };
        return Ok(print_line(&format!(
            "\nwhile nothing was computed, the box took {} kWh{cost}",
            kwh(own.energy_uj)
        ))?);
    }
    Ok(print_line(&format!("\n{}", unmeasured(ledger.energy_sources()?.as_ref())))?)
}

/// Why there is no energy to show.
fn unmeasured(sources: Option<&EnergySources>) -> String {
    let shown = "shown is the time of processors";
    match sources {
        Some(sources) if !sources.unreadable.is_empty() => {
            format!("the server may not read {}; {shown}. See docs/usage.md", sources.unreadable[0])
        }
        Some(sources) if sources.counters.is_empty() => {
            format!("this machine has no counter of energy that is known here; {shown}")
        }
        Some(_) | None => format!("no energy was measured in this time; {shown}"),
    }
}

/// Millionths of a joule, in kilowatt hours to a millionth.
fn kwh(energy_uj: u64) -> String {
    let millionths = energy_uj / 3_600_000;
    format!("{}.{:06}", grouped(millionths / 1_000_000), millionths % 1_000_000)
}

/// Billionths of the currency, in the currency to a millionth.
fn money(billionths: u64) -> String {
    let millionths = billionths / 1000;
    format!("{}.{:06}", grouped(millionths / 1_000_000), millionths % 1_000_000)
}

fn thousandths(number: u64) -> String {
    format!("{}.{:03}", grouped(number / 1000), number % 1000)
}

fn distinct(by: &[Dimension]) -> Vec<Dimension> {
    let mut seen = Vec::new();
    for dimension in by {
        if !seen.contains(dimension) {
            seen.push(*dimension);
        }
    }
    seen
}

/// Sums by the given columns, in their order.
fn sum(rows: &[UsageRow], by: &[Dimension]) -> BTreeMap<Vec<String>, Sum> {
    let mut sums: BTreeMap<Vec<String>, Sum> = BTreeMap::new();
    for row in rows {
        let key = by.iter().map(|dimension| dimension.of(row).to_owned()).collect();
        sums.entry(key).or_default().add(row);
    }
    sums
}

fn object(by: &[Dimension], key: Vec<String>, sum: Sum) -> Map<String, Value> {
    let names = by.iter().map(|dimension| dimension.name().to_owned()).zip(key.into_iter().map(Value::from));
    let numbers = Sum::NAMES.map(str::to_owned).into_iter().zip(sum.values().map(Value::from));
    names.chain(numbers).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(day: &str, key: &str, model: &str, completion: u64) -> UsageRow {
        UsageRow {
            day: day.into(),
            user: "anna".into(),
            key: key.into(),
            name: String::new(),
            model: model.into(),
            served_by: "local".into(),
            requests: 1,
            prompt_tokens: 10,
            cached_tokens: 4,
            completion_tokens: completion,
            cost: 1,
            energy_uj: 2,
            cpu_us: 3,
            electricity: 4,
            machine: 5,
        }
    }

    #[test]
    fn sums_by_what_is_asked() {
        let rows = [row("d1", "k1", "m", 1), row("d2", "k1", "m", 2), row("d2", "k2", "m", 4)];
        let by_key = sum(&rows, &[Dimension::Key]);
        let completions: Vec<_> = by_key.iter().map(|(key, sum)| (key[0].as_str(), sum.completion)).collect();
        assert_eq!(completions, [("k1", 3), ("k2", 4)]);
        assert_eq!(sum(&rows, &[Dimension::Day, Dimension::Key]).len(), 3);
        let total = Sum {
            requests: 3,
            prompt: 30,
            cached: 12,
            completion: 7,
            energy_uj: 6,
            cpu_us: 9,
            cost: 3,
            electricity: 12,
            machine: 15,
        };
        assert_eq!(total.costs(), 30);
        assert_eq!(sum(&rows, &[Dimension::User]).into_values().collect::<Vec<_>>(), [total]);
    }

    #[test]
    fn amounts_are_told_to_a_millionth() {
        assert_eq!((kwh(3_600_000_000_000), kwh(3_599_999)), ("1.000000".to_owned(), "0.000000".to_owned()));
        assert_eq!((money(34_567_890_123), thousandths(4_567)), ("34.567890".to_owned(), "4.567".to_owned()));
    }

    #[test]
    fn what_is_not_measured_is_said_with_the_reason() {
        let told = |counters: &[&str], unreadable: &[&str]| {
            let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
            unmeasured(Some(&EnergySources { counters: words(counters), unreadable: words(unreadable) }))
        };
        assert!(told(&[], &[]).starts_with("this machine has no counter"));
        assert!(told(&["AMD card"], &["/sys/x"]).starts_with("the server may not read /sys/x"));
        assert!(told(&["package-0"], &[]).starts_with("no energy was measured"));
    }
}
