//! Settled requests one by one: for exports.

use serde::Serialize;

use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::sql::{self, Connection, Row, params};

/// A settled request: all but what it said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UsedRequest {
    /// Its name.
    pub request_id: String,
    /// When it began, in seconds since 1970.
    pub created_at: i64,
    /// When it was settled, in seconds since 1970.
    pub settled_at: i64,
    /// The day it counts for, in the owner's time zone.
    pub day: String,
    /// Whose.
    pub user: String,
    /// The key's public id.
    pub key: String,
    /// What the key is for.
    pub key_name: String,
    /// The model.
    pub model: String,
    /// Where it came in.
    pub endpoint: String,
    /// Where it was computed.
    pub served_by: String,
    /// How it ended.
    pub outcome: String,
    /// Tokens of the prompt.
    pub prompt_tokens: i64,
    /// Of these, known from before.
    pub cached_tokens: i64,
    /// Tokens of output.
    pub completion_tokens: i64,
    /// Tokens charged to the user.
    pub charged: i64,
    /// What another server takes for it, in billionths of the currency.
    pub cost: i64,
    /// Its part of the box's energy, in millionths of a joule.
    pub energy_uj: i64,
    /// Its part of the time of processors, in millionths of a second.
    pub cpu_us: i64,
    /// What that energy cost, in billionths of the currency.
    pub electricity: i64,
    /// Its part of the machine's price, in billionths of the currency.
    pub machine: i64,
}

/// Which requests, by when they were settled: in seconds since 1970, the end not included.
#[derive(Debug, Clone, Default)]
pub struct Span {
    /// From.
    pub from: Option<i64>,
    /// To.
    pub to: Option<i64>,
    /// Of one user only.
    pub user: Option<String>,
}

const SELECT: &str =
    "SELECT request_id, usage.created_at, settled_at, day, users.name, public_id, label, model, endpoint,
    served_by, outcome, prompt_tokens, cached_tokens, completion_tokens, user_charge, cost,
    energy_uj, cpu_us, electricity, machine FROM usage JOIN keys ON keys.id = key_id JOIN users ON users.id = usage.user_id";

impl Ledger {
    /// Hands out settled requests, oldest first, as they were at one moment.
    ///
    /// # Errors
    /// When the ledger cannot be read, and those of `each`.
    pub fn export_usage<E: From<LedgerError>>(
        &self,
        span: &Span,
        mut each: impl FnMut(UsedRequest) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut failed = None;
        let read = self.read(|connection| {
            failed = hand_out(connection, span, &mut each)?.err();
            Ok(())
        });
        read?;
        failed.map_or(Ok(()), Err)
    }
}

fn hand_out<E>(
    connection: &Connection,
    span: &Span,
    each: &mut impl FnMut(UsedRequest) -> Result<(), E>,
) -> Result<Result<(), E>, LedgerError> {
    let query = format!(
        "{SELECT} WHERE settled_at >= ?1 AND settled_at < ?2 AND (?3 IS NULL OR users.name = ?3)
         ORDER BY settled_at, usage.id"
    );
    let mut statement = connection.prepare_cached(&query)?;
    let from = span.from.unwrap_or(i64::MIN);
    let to = span.to.unwrap_or(i64::MAX);
    for row in statement.query_map(params![from, to, span.user], request)? {
        if let Err(error) = each(row?) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

fn request(row: Row<'_>) -> sql::Result<UsedRequest> {
    Ok(UsedRequest {
        request_id: row.get(0)?,
        created_at: row.get(1)?,
        settled_at: row.get(2)?,
        day: row.get(3)?,
        user: row.get(4)?,
        key: row.get(5)?,
        key_name: row.get(6)?,
        model: row.get(7)?,
        endpoint: row.get(8)?,
        served_by: row.get(9)?,
        outcome: row.get(10)?,
        prompt_tokens: row.get(11)?,
        cached_tokens: row.get(12)?,
        completion_tokens: row.get(13)?,
        charged: row.get(14)?,
        cost: row.get(15)?,
        energy_uj: row.get(16)?,
        cpu_us: row.get(17)?,
        electricity: row.get(18)?,
        machine: row.get(19)?,
    })
}
