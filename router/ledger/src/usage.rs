//! Who used what, and how much is left.

use rusqlite::{Connection, OptionalExtension};
use serde::Serialize;

use crate::error::LedgerError;
use crate::key::Principal;
use crate::ledger::Ledger;
use crate::time::Moment;

/// The tokens of one key with one model on one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UsageRow {
    /// In the owner's time zone.
    pub day: String,
    /// Whose.
    pub user: String,
    /// The key's public id.
    pub key: String,
    /// What the key is for.
    pub name: String,
    /// The model.
    pub model: String,
    /// Where it was computed.
    pub served_by: String,
    /// Requests.
    pub requests: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Of these, known from before.
    pub cached_tokens: u64,
    /// Tokens of output.
    pub completion_tokens: u64,
}

/// What an account has left this month. `limit = used + reserved + free`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct QuotaState {
    /// Tokens of the plan; `None` for no limit.
    pub limit: Option<u64>,
    /// Tokens used.
    pub used: u64,
    /// Tokens set aside for running requests.
    pub reserved: u64,
    /// When the month ends, in seconds since 1970.
    pub renews_at: i64,
}

impl Ledger {
    /// Usage by day, key, model and place, newest day first; of one month (`2026-11`) or of all.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn usage(&self, month: Option<&str>) -> Result<Vec<UsageRow>, LedgerError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT day, users.name, keys.public_id, keys.label, model, served_by, count(*), sum(prompt_tokens),
                 sum(cached_tokens), sum(completion_tokens)
                 FROM usage JOIN keys ON keys.id = usage.key_id JOIN users ON users.id = usage.user_id
                 WHERE ?1 IS NULL OR month = ?1
                 GROUP BY day, usage.key_id, model, served_by ORDER BY day DESC, users.name, keys.id, model",
            )?;
            let rows = statement.query_map([month], |row| {
                Ok(UsageRow {
                    day: row.get(0)?,
                    user: row.get(1)?,
                    key: row.get(2)?,
                    name: row.get(3)?,
                    model: row.get(4)?,
                    served_by: row.get(5)?,
                    requests: row.get::<_, i64>(6)?.unsigned_abs(),
                    prompt_tokens: row.get::<_, i64>(7)?.unsigned_abs(),
                    cached_tokens: row.get::<_, i64>(8)?.unsigned_abs(),
                    completion_tokens: row.get::<_, i64>(9)?.unsigned_abs(),
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// What the user behind a key has left this month.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn quota(&self, principal: &Principal) -> Result<QuotaState, LedgerError> {
        let now = Moment::now(&self.zone);
        let account = format!("user:{}", principal.user);
        let balance = self.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT used, reserved FROM balances WHERE account = ?1 AND month = ?2")?;
            let balance = statement.query_row([&account, &now.month], |row| Ok((row.get(0)?, row.get(1)?)));
            Ok(balance.optional()?.unwrap_or((0i64, 0i64)))
        })?;
        Ok(QuotaState {
            limit: principal.user_plan.tokens_a_month(),
            used: balance.0.unsigned_abs(),
            reserved: balance.1.unsigned_abs(),
            renews_at: now.month_ends,
        })
    }

    /// Checks that every balance is what its usage rows and open reservations add up to.
    ///
    /// # Errors
    /// [`LedgerError::Inconsistent`] naming the first account that is not.
    pub fn verify(&self) -> Result<(), LedgerError> {
        self.read(verify)
    }
}

fn verify(connection: &Connection) -> Result<(), LedgerError> {
    let mut statement = connection.prepare_cached(
        "WITH rows AS (
            SELECT 'user:' || user_id AS account, month, prompt_tokens + completion_tokens AS used, 0 AS reserved FROM usage
            UNION ALL SELECT 'key:' || key_id, month, prompt_tokens + completion_tokens, 0 FROM usage WHERE key_account
            UNION ALL SELECT 'user:' || user_id, month, 0, tokens FROM reservations
            UNION ALL SELECT 'key:' || key_id, month, 0, tokens FROM reservations WHERE key_account
            UNION ALL SELECT account, month, -used, -reserved FROM balances
        )
        SELECT account, month, sum(used), sum(reserved) FROM rows GROUP BY account, month
        HAVING sum(used) <> 0 OR sum(reserved) <> 0 LIMIT 1",
    )?;
    let wrong = statement.query_row([], |row| {
        let (account, month): (String, String) = (row.get(0)?, row.get(1)?);
        let (used, reserved): (i64, i64) = (row.get(2)?, row.get(3)?);
        Ok(format!("{account} in {month}: used is off by {used}, reserved by {reserved}"))
    });
    wrong.optional()?.map_or(Ok(()), |what| Err(LedgerError::Inconsistent(what)))
}
