//! What other servers take for tokens. A request costs what its price was when it was begun.

use serde::{Deserialize, Serialize};

use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::reservation::Settlement;
use crate::settings;
use crate::sql::Connection;

/// All prices, as JSON.
const PRICES: &str = "prices";
/// What prices are in.
const CURRENCY: &str = "currency";
/// Where no price is looked for.
pub(crate) const LOCAL: &str = "local";
/// Prices that may be kept: each request that leaves the box looks through them.
const PRICES_MAX: usize = 1000;

/// What a server takes for the tokens of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Where it is computed: `upstream:NAME`.
    pub served_by: String,
    /// The model.
    pub model: String,
    /// Billionths of the currency for a token of the prompt.
    pub input: u32,
    /// For one that the server knew from before; `None` for as much as for others.
    pub cached_input: Option<u32>,
    /// Billionths of the currency for a token of output.
    pub output: u32,
}

/// What tokens cost a request, in billionths of the currency. Nothing here, and where no price is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TokenPrices {
    pub(crate) input: u32,
    pub(crate) cached: u32,
    pub(crate) output: u32,
}

impl TokenPrices {
    /// Those of a model on a server.
    pub(crate) fn find(connection: &Connection, served_by: &str, model: &str) -> Result<Self, LedgerError> {
        if served_by == LOCAL {
            return Ok(Self::default());
        }
        let prices = prices(connection)?;
        let price = prices.iter().find(|price| price.served_by == served_by && price.model == model);
        Ok(price.map_or_else(Self::default, |price| Self {
            input: price.input,
            cached: price.cached_input.unwrap_or(price.input),
            output: price.output,
        }))
    }

    /// The most that a request can cost: nobody knows before how much of its prompt the server knows.
    pub(crate) fn most(self, prompt_tokens: u32, output_tokens: u32) -> i64 {
        total([(self.input.max(self.cached), prompt_tokens), (self.output, output_tokens), (0, 0)])
    }

    /// What it did cost.
    pub(crate) fn cost(self, used: Settlement) -> i64 {
        let cached = used.cached_tokens.min(used.prompt_tokens);
        let new = used.prompt_tokens - cached;
        total([(self.input, new), (self.cached, cached), (self.output, used.completion_tokens)])
    }
}

fn total(parts: [(u32, u32); 3]) -> i64 {
    // At most 2^65: far beyond what anybody pays, so it may stop there.
    let total: u128 = parts.into_iter().map(|(price, tokens)| u128::from(price) * u128::from(tokens)).sum();
    i64::try_from(total).unwrap_or(i64::MAX)
}

/// Billionths of the currency as people write money: all digits that say something, two of a fraction at least.
#[must_use]
pub fn money_text(billionths: u64) -> String {
    let text = format!("{}.{:09}", billionths / 1_000_000_000, billionths % 1_000_000_000);
    let digits = text.trim_end_matches('0').len().max(text.len() - 7);
    text[..digits].to_owned()
}

impl Ledger {
    /// The currency that costs are in, as ISO 4217 has it, in lower case.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn currency(&self) -> Result<String, LedgerError> {
        self.read(currency)
    }

    /// What other servers take.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn prices(&self) -> Result<Vec<Price>, LedgerError> {
        self.read(prices)
    }

    /// From now on, these are the prices, in this currency.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn set_prices(&self, prices: &[Price], currency: &str) -> Result<(), LedgerError> {
        let currency = currency.to_owned();
        let prices = &prices[..prices.len().min(PRICES_MAX)];
        let text = serde_json::to_string(prices).expect("prices are plain data");
        let set = self.writer.call(move |connection| {
            settings::set(connection, PRICES, &text)?;
            settings::set(connection, CURRENCY, &currency)
        });
        set.await
    }
}

fn prices(connection: &Connection) -> Result<Vec<Price>, LedgerError> {
    let text = settings::get(connection, PRICES)?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
}

pub(crate) fn currency(connection: &Connection) -> Result<String, LedgerError> {
    Ok(settings::get(connection, CURRENCY)?.unwrap_or_else(|| "eur".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reservation::Outcome;

    #[test]
    fn what_the_server_knew_costs_its_own_price() {
        let prices = TokenPrices { input: 2500, cached: 250, output: 10_000 };
        let used = |prompt_tokens, cached_tokens| Settlement {
            prompt_tokens,
            cached_tokens,
            completion_tokens: 7,
            outcome: Outcome::Completed,
        };
        assert_eq!(prices.cost(used(11, 5)), 6 * 2500 + 5 * 250 + 7 * 10_000);
        // A server that knows more than there was knew all of it.
        assert_eq!(prices.cost(used(11, 12)), 11 * 250 + 7 * 10_000);
        assert_eq!(prices.most(11, 7), 11 * 2500 + 7 * 10_000);
        let all = TokenPrices { input: u32::MAX, cached: u32::MAX, output: u32::MAX };
        assert_eq!(all.most(u32::MAX, u32::MAX), i64::MAX);
    }

    #[test]
    fn money_is_written_to_its_last_digit() {
        let texts = [0, 1, 20_000_000_000, 12_345_678_900].map(money_text);
        assert_eq!(texts, ["0.00", "0.000000001", "20.00", "12.3456789"]);
    }
}
