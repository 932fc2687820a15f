//! The audit log: what administrators did, and on request what was asked by whom (never what it said).
//!
//! Each entry has a hash over itself and the hash before it. Who changes an entry, takes one out or puts one in breaks
//! the chain there; who cuts off its end leaves a number that was given and is not there. Who rewrites all of it, with
//! the file in hand, is found out by whoever has noted the number and hash of any entry: see [`Ledger::verify_audit`].

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::reservation::Settlement;
use crate::settings;
use crate::sql::{self, Connection, NONE, OptionalExtension, Row, params};

/// Whether requests are noted: `on` in the settings.
const REQUESTS: &str = "audit_requests";
/// Entries of one list.
const LISTED_MAX: u32 = 10_000;

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditEntry {
    /// From 1, without a gap.
    pub id: u64,
    /// Seconds since 1970.
    pub at: i64,
    /// Who did it.
    pub actor: String,
    /// What was done: `key.create`, `plan.change`...
    pub action: String,
    /// To what.
    pub subject: String,
    /// What else is to be known.
    pub detail: Value,
    /// Over all of this and the hash before, in hexadecimal.
    pub hash: String,
}

/// A log whose chain is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditVerified {
    /// Entries.
    pub entries: u64,
    /// The last entry's hash; what to note elsewhere.
    pub head: String,
}

/// A log that was tampered with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Tampered {
    /// An entry is not as it was written, or one before it.
    #[error("entry {0} was changed, or something before it was")]
    Changed(u64),
    /// An entry is not there.
    #[error("entry {0} is missing")]
    Missing(u64),
    /// What was noted of the log does not hold.
    #[error("entry {0} is not the one that was noted")]
    Replaced(u64),
}

/// Checks a chain, entry by entry.
#[derive(Debug, Default)]
pub struct Chain {
    entries: u64,
    hash: [u8; 32],
}

/// Which entries are wanted.
#[derive(Debug, Clone, Default)]
pub struct AuditWanted {
    /// What their action begins with.
    pub action: Option<String>,
    /// Who did it or to what, in any case of letters: by the whole name, or the name of whoever did it in a session or
    /// with a key.
    pub about: Option<String>,
}

/// Something done.
pub(crate) struct Act<'a> {
    pub(crate) at: i64,
    pub(crate) actor: &'a str,
    pub(crate) action: &'a str,
    pub(crate) subject: &'a str,
    pub(crate) detail: Value,
}

impl Chain {
    /// Takes the next entry.
    ///
    /// # Errors
    /// [`Tampered`] where it does not follow.
    pub fn push(&mut self, entry: &AuditEntry) -> Result<(), Tampered> {
        let expected = self.entries + 1;
        if entry.id != expected {
            return Err(Tampered::Missing(expected));
        }
        let hash = link(&self.hash, (entry.id, entry.at), [&entry.actor, &entry.action, &entry.subject], &entry.detail);
        if hex(&hash) != entry.hash {
            return Err(Tampered::Changed(expected));
        }
        (self.entries, self.hash) = (expected, hash);
        Ok(())
    }

    /// What was checked.
    #[must_use]
    pub fn verified(&self) -> AuditVerified {
        AuditVerified { entries: self.entries, head: hex(&self.hash) }
    }
}

/// The hash of an entry that follows another. JSON has one way to write what is in it, and marks where each part ends.
fn link(before: &[u8; 32], (id, at): (u64, i64), words: [&str; 3], detail: &Value) -> [u8; 32] {
    let entry = json!([id, at, words, detail]).to_string();
    *blake3::Hasher::new().update(before).update(entry.as_bytes()).finalize().as_bytes()
}

fn hex(hash: &[u8; 32]) -> String {
    data_encoding::HEXLOWER.encode(hash)
}

/// Adds an entry, in the transaction that does what it tells of.
pub(crate) fn note(connection: &Connection, act: Act<'_>) -> Result<(), LedgerError> {
    let Act { at, actor, action, subject, detail } = act;
    let last = connection
        .prepare_cached("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1")?
        .query_row(NONE, |row| Ok((row.get::<i64>(0)?.unsigned_abs(), row.get::<[u8; 32]>(1)?)))
        .optional()?;
    let (id, before) = last.map_or((1, [0; 32]), |(id, hash)| (id + 1, hash));
    let hash = link(&before, (id, at), [actor, action, subject], &detail);
    connection
        .prepare_cached(
            "INSERT INTO audit (id, at, actor, action, subject, detail, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![id.cast_signed(), at, actor, action, subject, detail.to_string(), hash])?;
    Ok(())
}

/// Notes a request that is settled, where that is wished: all but what it said.
pub(crate) fn note_request(
    connection: &Connection,
    reservation: i64,
    cost: Settlement,
    at: i64,
) -> Result<(), LedgerError> {
    if settings::get(connection, REQUESTS)?.as_deref() != Some("on") {
        return Ok(());
    }
    let (request, key, user, model, endpoint, served_by) = connection
        .prepare_cached(
            "SELECT request_id, public_id, users.name, model, endpoint, served_by FROM reservations
             JOIN keys ON keys.id = key_id JOIN users ON users.id = keys.user_id WHERE reservations.id = ?1",
        )?
        .query_row([reservation], |row| {
            let text = |index| row.get::<String>(index);
            Ok((text(0)?, text(1)?, text(2)?, text(3)?, text(4)?, text(5)?))
        })?;
    let detail = json!({
        "user": user, "model": model, "endpoint": endpoint, "served_by": served_by, "outcome": cost.outcome.as_str(),
        "prompt_tokens": cost.prompt_tokens, "cached_tokens": cost.cached_tokens,
        "completion_tokens": cost.completion_tokens,
    });
    note(connection, Act { at, actor: &format!("key {key}"), action: "request", subject: &request, detail })
}

impl Ledger {
    /// The last entries, newest first; those before an entry where one is given.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn audit(&self, before: Option<u64>, limit: u32) -> Result<Vec<AuditEntry>, LedgerError> {
        self.audit_about(&AuditWanted::default(), before, limit)
    }

    /// The same of some entries only.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn audit_about(
        &self,
        wanted: &AuditWanted,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, LedgerError> {
        let before = before.and_then(|id| i64::try_from(id).ok()).unwrap_or(i64::MAX);
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "{SELECT} WHERE id < ?1 AND (?3 IS NULL OR substr(action, 1, length(?3)) = ?3)
                 AND (?4 IS NULL OR lower(subject) = lower(?4) OR lower(actor) = lower(?4)
                      OR lower(substr(actor, 1, length(?4) + 2)) = lower(?4) || ', ')
                 ORDER BY id DESC LIMIT ?2"
            ))?;
            let of = params![before, limit.min(LISTED_MAX), wanted.action, wanted.about];
            let rows = statement.query_map(of, entry)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Hands out all entries, oldest first, as they were at one moment.
    ///
    /// # Errors
    /// When the ledger cannot be read, and those of `each`.
    pub fn export_audit<E: From<LedgerError>>(
        &self,
        mut each: impl FnMut(&AuditEntry) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut failed = None;
        let read = self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!("{SELECT} ORDER BY id"))?;
            for entry in statement.query_map(NONE, entry)? {
                if let Err(error) = each(&entry?) {
                    failed = Some(error);
                    break;
                }
            }
            Ok(())
        });
        read?;
        failed.map_or(Ok(()), Err)
    }

    /// Checks that the log is as it was written, and that an entry is the one that was noted elsewhere.
    ///
    /// # Errors
    /// [`LedgerError::Tampered`] with the first entry that is not, and when the ledger cannot be read.
    pub fn verify_audit(&self, noted: Option<(u64, &str)>) -> Result<AuditVerified, LedgerError> {
        let mut chain = Chain::default();
        let mut noted_hash = None;
        self.export_audit(|entry| {
            chain.push(entry)?;
            if noted.is_some_and(|(id, _)| id == entry.id) {
                noted_hash = Some(entry.hash.clone());
            }
            Ok::<_, LedgerError>(())
        })?;
        let verified = self.read(|connection| ended(connection, &chain))?;
        match noted {
            Some((id, hash)) if noted_hash.as_deref() != Some(hash) => Err(Tampered::Replaced(id).into()),
            _ => Ok(verified),
        }
    }

    /// Notes something that was done to the box outside of the books.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn note_act(&self, action: &str, subject: &str) -> Result<(), LedgerError> {
        let (actor, at) = (self.actor(), self.now().seconds);
        let (action, subject) = (action.to_owned(), subject.to_owned());
        let noted = self.writer.call(move |connection| {
            note(connection, Act { at, actor: &actor, action: &action, subject: &subject, detail: json!({}) })
        });
        noted.await
    }

    /// Has requests noted from now on, or no longer.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn note_requests(&self, wanted: bool) -> Result<(), LedgerError> {
        let (actor, at) = (self.actor(), self.now().seconds);
        let value = if wanted { "on" } else { "off" };
        let set = self.writer.call(move |connection| {
            settings::set(connection, REQUESTS, value)?;
            let detail = json!({"requests": value});
            note(connection, Act { at, actor: &actor, action: "audit.requests", subject: "", detail })
        });
        set.await
    }
}

/// Checks the whole log over a connection.
pub(crate) fn verify(connection: &Connection) -> Result<AuditVerified, LedgerError> {
    let mut chain = Chain::default();
    let mut statement = connection.prepare_cached(&format!("{SELECT} ORDER BY id"))?;
    for next in statement.query_map(NONE, entry)? {
        chain.push(&next?)?;
    }
    ended(connection, &chain)
}

/// A chain whose end was not cut off.
fn ended(connection: &Connection, chain: &Chain) -> Result<AuditVerified, LedgerError> {
    let verified = chain.verified();
    if connection.highest_ever("audit")?.unsigned_abs() > verified.entries {
        return Err(Tampered::Missing(verified.entries + 1).into());
    }
    Ok(verified)
}

const SELECT: &str = "SELECT id, at, actor, action, subject, detail, hash FROM audit";

fn entry(row: Row<'_>) -> sql::Result<AuditEntry> {
    let detail: String = row.get(5)?;
    Ok(AuditEntry {
        id: row.get::<i64>(0)?.unsigned_abs(),
        at: row.get(1)?,
        actor: row.get(2)?,
        action: row.get(3)?,
        subject: row.get(4)?,
        // What is not JSON any more was changed: its hash will tell.
        detail: serde_json::from_str(&detail).unwrap_or(Value::String(detail)),
        hash: hex(&row.get(6)?),
    })
}
