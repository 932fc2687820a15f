//! `[[owning]]`: machines that could compute what other servers are paid for.

use allerac_ledger::Machine;
use serde::Deserialize;

use super::load::Bounded;
use super::money::Money;

/// A machine that one might buy.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OwningSection {
    name: String,
    price: Money,
    years: Bounded<1, 50>,
    /// What it takes while it computes.
    watts: Bounded<1, 100_000>,
    /// What it takes while it waits.
    idle_watts: Bounded<0, 100_000>,
    prompt_tokens_a_second: Bounded<1, 100_000_000>,
    output_tokens_a_second: Bounded<1, 100_000_000>,
    /// The models that it would compute, by the names that other servers have for them.
    models: Vec<String>,
}

impl OwningSection {
    /// The machine, where a kilowatt hour costs so much.
    pub(super) fn machine(&self, per_kwh: u64) -> Machine {
        Machine {
            name: self.name.clone(),
            price: self.price.0,
            years: self.years.get(),
            watts: self.watts.get(),
            idle_watts: self.idle_watts.get(),
            prompt_tokens_a_second: self.prompt_tokens_a_second.get(),
            output_tokens_a_second: self.output_tokens_a_second.get(),
            models: self.models.clone(),
            per_kwh,
        }
    }
}
