//! Whether a machine of one's own would have been cheaper than the servers that were paid.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::settings;
use crate::sql::Connection;
use crate::time::Moment;

/// The machines that are thought of, as JSON.
const MACHINES: &str = "owning";
/// A year has 365.25 days.
const SECONDS_A_YEAR: u128 = 31_557_600;
/// Millionths of a watt second in a kilowatt hour.
const MICROJOULES_A_KWH: u128 = 3_600_000_000_000;

/// A machine that could compute what other servers are paid for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// What it is called.
    pub name: String,
    /// What it costs to buy, in billionths of the currency.
    pub price: u64,
    /// For how long it serves.
    pub years: u32,
    /// What it takes while it computes, in watts.
    pub watts: u32,
    /// What it takes while it waits, in watts.
    pub idle_watts: u32,
    /// Tokens of prompts that it reads in a second.
    pub prompt_tokens_a_second: u32,
    /// Tokens of output that it makes in a second, for all together.
    pub output_tokens_a_second: u32,
    /// The models that it would compute, by the names that other servers have for them.
    pub models: Vec<String>,
    /// What a kilowatt hour costs, in billionths of the currency.
    pub per_kwh: u64,
}

/// What other servers computed of a machine's models in some time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Rented {
    /// Tokens of prompts that were not known before.
    prompt_tokens: u64,
    output_tokens: u64,
    /// Billionths of the currency.
    cost: u64,
}

/// Owning beside renting, in a month or in as much of it as has passed. Money is in billionths of the currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Owning {
    /// The machine.
    pub machine: String,
    /// The time that is looked at, in seconds.
    pub seconds: u64,
    /// How long one machine would have computed, in seconds.
    pub busy_seconds: u64,
    /// How many of them it would have taken.
    pub machines: u64,
    /// What other servers took.
    pub rented: u64,
    /// The part of the machines' price that falls to the time.
    pub price_share: u64,
    /// What their electricity would have cost.
    pub electricity: u64,
    /// Whether owning would have been cheaper.
    pub is_cheaper: bool,
    /// Days after which the price is saved, if all goes on like this; `None` where it never is.
    pub paid_back_days: Option<u64>,
}

impl Machine {
    fn beside(&self, rented: Rented, seconds: u64) -> Owning {
        let seconds = u128::from(seconds.max(1));
        let time = |tokens: u64, a_second: u32| u128::from(tokens) * 1_000_000 / u128::from(a_second.max(1));
        let busy_us = time(rented.prompt_tokens, self.prompt_tokens_a_second)
            + time(rented.output_tokens, self.output_tokens_a_second);
        let machines = busy_us.div_ceil(seconds * 1_000_000).max(1);
        let idle_us = machines * seconds * 1_000_000 - busy_us;
        let energy_uj = busy_us * u128::from(self.watts) + idle_us * u128::from(self.idle_watts);
        let electricity = energy_uj * u128::from(self.per_kwh) / MICROJOULES_A_KWH;
        let price = machines * u128::from(self.price);
        let price_share = price * seconds / (u128::from(self.years.max(1)) * SECONDS_A_YEAR);
        let saved = u128::from(rented.cost).checked_sub(electricity).filter(|saved| *saved > 0);
        let fits = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
        Owning {
            machine: self.name.clone(),
            seconds: fits(seconds),
            busy_seconds: fits(busy_us / 1_000_000),
            machines: fits(machines),
            rented: rented.cost,
            price_share: fits(price_share),
            electricity: fits(electricity),
            is_cheaper: electricity + price_share < u128::from(rented.cost),
            paid_back_days: saved.map(|saved| fits((price * seconds).div_ceil(saved * 86_400))),
        }
    }
}

impl Ledger {
    /// From now on, these are the machines to compare with.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn set_machines(&self, machines: &[Machine]) -> Result<(), LedgerError> {
        let text = serde_json::to_string(machines).expect("machines are plain data");
        self.writer.call(move |connection| settings::set(connection, MACHINES, &text)).await
    }

    /// What owning each of the machines would have cost in a month (`2026-11`), beside what other servers took for their
    /// models.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn owning(&self, month: &str) -> Result<Vec<Owning>, LedgerError> {
        let seconds = self.seconds_of(month);
        self.read(|connection| {
            let text = settings::get(connection, MACHINES)?;
            let machines: Vec<Machine> = text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
            machines.iter().map(|machine| Ok(machine.beside(rented(connection, machine, month)?, seconds))).collect()
        })
    }

    /// How much of a month has passed.
    fn seconds_of(&self, month: &str) -> u64 {
        let Ok(first) = format!("{month}-01").parse::<Date>() else { return 0 };
        let Ok(begin) = first.to_zoned(self.zone().clone()) else { return 0 };
        let moment = Moment::at(begin.timestamp(), self.zone());
        let end = moment.month_ends.min(self.now().seconds);
        u64::try_from(end - moment.month_begins).unwrap_or(0)
    }
}

fn rented(connection: &Connection, machine: &Machine, month: &str) -> Result<Rented, LedgerError> {
    let mut rented = Rented::default();
    let mut statement = connection.prepare_cached(
        "SELECT coalesce(sum(prompt_tokens - cached_tokens), 0), coalesce(sum(completion_tokens), 0),
         coalesce(sum(cost), 0) FROM usage_daily WHERE month = ?1 AND model = ?2 AND served_by <> 'local'",
    )?;
    for model in &machine.models {
        let part = statement.query_row([month, model.as_str()], |row| {
            let number = |index| Ok::<_, crate::sql::DatabaseError>(row.get::<i64>(index)?.unsigned_abs());
            Ok((number(0)?, number(1)?, number(2)?))
        })?;
        rented.prompt_tokens += part.0;
        rented.output_tokens += part.1;
        rented.cost += part.2;
    }
    Ok(rented)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: u64 = 1_000_000_000;
    const DAY: u64 = 86_400;

    /// It costs 876.6 a year, 24 cents a day while it waits and 2.40 while it computes.
    fn machine() -> Machine {
        Machine {
            name: "own".into(),
            price: 8766 * UNIT / 10 * 5,
            years: 5,
            watts: 1000,
            idle_watts: 100,
            prompt_tokens_a_second: 1000,
            output_tokens_a_second: 100,
            models: vec!["m".into()],
            per_kwh: UNIT / 10,
        }
    }

    #[test]
    fn owning_is_compared_by_the_formula_of_the_documentation() {
        // Half of ten days: 216,000 seconds for prompts, as many for output.
        let busy = Rented { prompt_tokens: 216_000_000, output_tokens: 21_600_000, cost: 100 * UNIT };
        let owning = machine().beside(busy, 10 * DAY);
        assert_eq!((owning.seconds, owning.busy_seconds, owning.machines), (864_000, 432_000, 1));
        assert_eq!((owning.price_share, owning.electricity), (24 * UNIT, 132 * UNIT / 10));
        assert_eq!((owning.rented, owning.is_cheaper), (100 * UNIT, true));
        // 4383 of which 86.8 are saved in ten days.
        assert_eq!(owning.paid_back_days, Some(505));
        // Of as much, one billionth too little.
        let even = Rented { cost: 372 * UNIT / 10, ..busy };
        assert!(!machine().beside(even, 10 * DAY).is_cheaper);
        assert!(machine().beside(Rented { cost: even.cost + 1, ..even }, 10 * DAY).is_cheaper);
    }

    #[test]
    fn what_one_machine_cannot_do_takes_several() {
        let busy = Rented { prompt_tokens: 0, output_tokens: 100 * DAY + 1, cost: UNIT };
        let owning = machine().beside(busy, DAY);
        assert_eq!((owning.machines, owning.price_share), (2, 48 * UNIT / 10));
        assert_eq!((owning.is_cheaper, owning.paid_back_days), (false, None));
        let none = machine().beside(Rented::default(), 0);
        assert_eq!((none.seconds, none.machines, none.rented, none.paid_back_days), (1, 1, 0, None));
    }
}
