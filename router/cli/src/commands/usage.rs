use std::collections::BTreeMap;

use allerac_ledger::UsageRow;
use serde_json::{Map, Value};

use super::usage_export;
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
}

impl Sum {
    const NAMES: [&'static str; 4] = ["requests", "prompt_tokens", "cached_tokens", "completion_tokens"];

    fn values(self) -> [u64; 4] {
        [self.requests, self.prompt, self.cached, self.completion]
    }

    fn add(&mut self, row: &UsageRow) {
        self.requests += row.requests;
        self.prompt += row.prompt_tokens;
        self.cached += row.cached_tokens;
        self.completion += row.completion_tokens;
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
    if let Some(UsageCommand::Export(export)) = &args.command {
        return usage_export::run(export, place);
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
    let names = by.iter().map(|dimension| (dimension.title(), Align::Left));
    let numbers = ["REQUESTS", "PROMPT", "CACHED", "COMPLETION"].map(|title| (title, Align::Right));
    let mut table = Table::new(&names.chain(numbers).collect::<Vec<_>>());
    for (key, sum) in sums {
        table.row(key.into_iter().chain(sum.values().map(grouped)).collect());
    }
    Ok(table.print()?)
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
        }
    }

    #[test]
    fn sums_by_what_is_asked() {
        let rows = [row("d1", "k1", "m", 1), row("d2", "k1", "m", 2), row("d2", "k2", "m", 4)];
        let by_key = sum(&rows, &[Dimension::Key]);
        let completions: Vec<_> = by_key.iter().map(|(key, sum)| (key[0].as_str(), sum.completion)).collect();
        assert_eq!(completions, [("k1", 3), ("k2", 4)]);
        assert_eq!(sum(&rows, &[Dimension::Day, Dimension::Key]).len(), 3);
        let total = Sum { requests: 3, prompt: 30, cached: 12, completion: 7 };
        assert_eq!(sum(&rows, &[Dimension::User]).into_values().collect::<Vec<_>>(), [total]);
    }
}
