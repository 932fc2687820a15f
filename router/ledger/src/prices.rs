//! What other servers take for tokens. A request costs what its price was when it was settled.

use serde::{Deserialize, Serialize};

use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::settings;
use crate::sql::Connection;

/// All prices, as JSON.
const PRICES: &str = "prices";
/// What prices are in.
const CURRENCY: &str = "currency";
/// Where no price is looked for.
const LOCAL: &str = "local";
/// Prices that may be kept: each settlement of a request that left the box looks through them.
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
    /// Billionths of the currency for a token of output.
    pub output: u32,
}

impl Price {
    fn of(&self, prompt_tokens: u32, completion_tokens: u32) -> i64 {
        // At most 2^65: far beyond what anybody pays, so it may stop there.
        let cost = u128::from(self.input) * u128::from(prompt_tokens)
            + u128::from(self.output) * u128::from(completion_tokens);
        i64::try_from(cost).unwrap_or(i64::MAX)
    }
}

/// What a request costs elsewhere, in billionths of the currency; nothing here, and where no price is known.
pub(crate) fn cost(
    connection: &Connection,
    (served_by, model): (&str, &str),
    prompt_tokens: u32,
    completion_tokens: u32,
) -> Result<i64, LedgerError> {
    if served_by == LOCAL {
        return Ok(0);
    }
    let Some(prices) = settings::get(connection, PRICES)? else { return Ok(0) };
    let prices: Vec<Price> = serde_json::from_str(&prices).unwrap_or_default();
    let price = prices.iter().find(|price| price.served_by == served_by && price.model == model);
    Ok(price.map_or(0, |price| price.of(prompt_tokens, completion_tokens)))
}

impl Ledger {
    /// The currency that costs are in, as ISO 4217 has it, in lower case.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn currency(&self) -> Result<String, LedgerError> {
        Ok(self.read(|connection| settings::get(connection, CURRENCY))?.unwrap_or_else(|| "eur".to_owned()))
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
