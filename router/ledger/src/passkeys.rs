//! Passkeys: what is kept of them. Whether a signature is one of theirs is said elsewhere.

use serde::Serialize;
use serde_json::json;

use crate::audit::{self, Act};
use crate::error::LedgerError;
use crate::key::public_id;
use crate::ledger::Ledger;
use crate::people::{checked_name, person};
use crate::sql::{self, Connection, OptionalExtension, Row, params};

/// Passkeys of one person.
const PASSKEYS_MAX: i64 = 20;

/// A passkey to be kept.
#[derive(Debug, Clone)]
pub struct NewPasskey {
    /// What its person calls it.
    pub label: String,
    /// The name of the box that it is bound to.
    pub host: String,
    /// What the device calls it.
    pub credential: Vec<u8>,
    /// As COSE has it (RFC 9052).
    pub public_key: Vec<u8>,
    /// How often the device signed with it; 0 where it does not count.
    pub counter: u32,
    /// Whether it is kept elsewhere too, with the maker of the device.
    pub is_synced: bool,
}

/// A passkey as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PasskeyRow {
    /// The part that may be shown.
    pub id: String,
    /// What its person calls it.
    pub label: String,
    /// The name of the box that it is bound to.
    pub host: String,
    /// Whether it is kept elsewhere too.
    pub synced: bool,
    /// Seconds since 1970.
    pub created_at: i64,
    /// When it let its person in last, in seconds since 1970.
    pub used_at: Option<i64>,
}

/// A passkey as it is needed to let its person in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPasskey {
    /// The part that may be shown.
    pub id: String,
    /// Whose.
    pub user: i64,
    /// Their name.
    pub user_name: String,
    /// As COSE has it.
    pub public_key: Vec<u8>,
}

/// The number of somebody, and what devices call the passkeys that they have at one name of the box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Their number, which no other person ever has.
    pub user: i64,
    /// What devices call them.
    pub credentials: Vec<Vec<u8>>,
}

impl Ledger {
    /// Keeps a passkey of somebody.
    ///
    /// # Errors
    /// [`LedgerError::UnknownUser`], [`LedgerError::InvalidName`], [`LedgerError::Conflict`] where it is kept already or
    /// they have too many, and when it cannot be written.
    pub async fn add_passkey(&self, user: &str, new: NewPasskey) -> Result<PasskeyRow, LedgerError> {
        let label = checked_name(&new.label)?;
        let (user, actor, at, id) = (user.to_owned(), self.actor(), self.now().seconds, public_id());
        let added = self.writer.call(move |connection| {
            let Some(known) = person(connection, &user)? else {
                return Ok(Err(LedgerError::UnknownUser(user.clone())));
            };
            let count = "SELECT count(*) FROM passkeys WHERE user_id = ?1";
            if connection.query_row(count, [known.id], |row| row.get::<i64>(0))? >= PASSKEYS_MAX {
                let reason = format!("there are {PASSKEYS_MAX} passkeys already; remove one first");
                return Ok(Err(LedgerError::Conflict { code: "too_many_passkeys", reason }));
            }
            let added = connection
                .prepare_cached(
                    "INSERT INTO passkeys (public_id, user_id, host, credential, public_key, label, counter, synced, created_at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (host, credential) DO NOTHING",
                )?
                .execute(params![
                    id,
                    known.id,
                    new.host,
                    new.credential,
                    new.public_key,
                    label,
                    new.counter,
                    new.is_synced,
                    at
                ])?;
            if added == 0 {
                let reason = "this passkey is known here already".to_owned();
                return Ok(Err(LedgerError::Conflict { code: "passkey_exists", reason }));
            }
            let detail = json!({"passkey": id, "name": label, "host": new.host});
            audit::note(connection, Act { at, actor: &actor, action: "passkey.add", subject: &user, detail })?;
            let (label, host, synced) = (label.clone(), new.host.clone(), new.is_synced);
            Ok(Ok(PasskeyRow { id: id.clone(), label, host, synced, created_at: at, used_at: None }))
        });
        added.await?
    }

    /// The passkeys of somebody, oldest first.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn passkeys(&self, user: &str) -> Result<Vec<PasskeyRow>, LedgerError> {
        self.read(|connection| of(connection, user))
    }

    /// Whom a new passkey at a name of the box would be for, and which it must not be again.
    ///
    /// # Errors
    /// [`LedgerError::UnknownUser`], and when the ledger cannot be read.
    pub fn passkey_holder(&self, user: &str, host: &str) -> Result<Holder, LedgerError> {
        self.read(|connection| {
            let known = person(connection, user)?.ok_or_else(|| LedgerError::UnknownUser(user.to_owned()))?;
            let mut statement =
                connection.prepare_cached("SELECT credential FROM passkeys WHERE user_id = ?1 AND host = ?2")?;
            let credentials = statement.query_map(params![known.id, host], |row| row.get(0))?;
            Ok(Holder { user: known.id, credentials: credentials.collect::<Result<_, _>>()? })
        })
    }

    /// The passkey that a device calls by an id, at a name of the box.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn passkey(&self, host: &str, credential: &[u8]) -> Result<Option<KnownPasskey>, LedgerError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT public_id, user_id, name, public_key FROM passkeys JOIN users ON users.id = user_id
                 WHERE host = ?1 AND credential = ?2 AND removed_at IS NULL AND role <> 'team'",
            )?;
            let known = statement.query_row(params![host, credential], |row| {
                Ok(KnownPasskey { id: row.get(0)?, user: row.get(1)?, user_name: row.get(2)?, public_key: row.get(3)? })
            });
            Ok(known.optional()?)
        })
    }

    /// Notes that a passkey signed, with the number that its device counts. `false`, and noted in the audit log, where
    /// that is no more than it was: then another device may have a copy of it (Web Authentication, section 6.1.1).
    ///
    /// # Errors
    /// [`LedgerError::Missing`], and when it cannot be written.
    pub async fn use_passkey(&self, id: &str, (counter, is_synced): (u32, bool)) -> Result<bool, LedgerError> {
        let (id, at) = (id.to_owned(), self.now().seconds);
        let used = self.writer.call(move |connection| {
            let used = connection
                .prepare_cached(
                    "UPDATE passkeys SET counter = ?2, synced = ?3, used_at = ?4
                     WHERE public_id = ?1 AND (?2 > counter OR (?2 = 0 AND counter = 0))",
                )?
                .execute(params![id, counter, is_synced, at])?;
            if used == 1 {
                return Ok(Ok(true));
            }
            let found = connection
                .prepare_cached(
                    "SELECT name, counter FROM passkeys JOIN users ON users.id = user_id WHERE public_id = ?1",
                )?
                .query_row([&id], |row| Ok((row.get::<String>(0)?, row.get::<u32>(1)?)))
                .optional()?;
            let Some((user, kept)) = found else { return Ok(Err(missing(&id))) };
            let detail = json!({"passkey": id, "counter": counter, "counter_before": kept});
            audit::note(connection, Act { at, actor: &user, action: "passkey.copied", subject: &user, detail })?;
            Ok(Ok(false))
        });
        used.await?
    }

    /// Lets somebody in by a passkey no more.
    ///
    /// # Errors
    /// [`LedgerError::Missing`], and when it cannot be written.
    pub async fn remove_passkey(&self, user: &str, id: &str) -> Result<(), LedgerError> {
        let (user, id, actor, at) = (user.to_owned(), id.to_owned(), self.actor(), self.now().seconds);
        let removed = self.writer.call(move |connection| {
            let removed = connection
                .prepare_cached(
                    "DELETE FROM passkeys WHERE public_id = ?1 AND user_id = (SELECT id FROM users WHERE name = ?2)",
                )?
                .execute([&id, &user])?;
            if removed == 0 {
                return Ok(Err(missing(&id)));
            }
            let detail = json!({"passkey": id});
            audit::note(connection, Act { at, actor: &actor, action: "passkey.remove", subject: &user, detail })?;
            Ok(Ok(()))
        });
        removed.await?
    }

    /// Lets somebody in by no passkey any more; how many there were.
    ///
    /// # Errors
    /// [`LedgerError::UnknownUser`], and when it cannot be written.
    pub async fn remove_passkeys(&self, user: &str) -> Result<usize, LedgerError> {
        let (user, actor, at) = (user.to_owned(), self.actor(), self.now().seconds);
        let removed = self.writer.call(move |connection| {
            let Some(known) = person(connection, &user)? else {
                return Ok(Err(LedgerError::UnknownUser(user.clone())));
            };
            let removed = connection.prepare_cached("DELETE FROM passkeys WHERE user_id = ?1")?.execute([known.id])?;
            let detail = json!({"removed": removed});
            audit::note(connection, Act { at, actor: &actor, action: "passkey.remove", subject: &user, detail })?;
            Ok(Ok(removed))
        });
        removed.await?
    }
}

fn missing(id: &str) -> LedgerError {
    LedgerError::Missing { what: "passkey", id: id.to_owned() }
}

/// The passkeys of somebody, oldest first.
pub(crate) fn of(connection: &Connection, user: &str) -> Result<Vec<PasskeyRow>, LedgerError> {
    let mut statement = connection.prepare_cached(
        "SELECT public_id, label, host, synced, passkeys.created_at, used_at FROM passkeys
         JOIN users ON users.id = user_id WHERE users.name = ?1 ORDER BY passkeys.id",
    )?;
    let rows = statement.query_map([user], row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn row(row: Row<'_>) -> sql::Result<PasskeyRow> {
    Ok(PasskeyRow {
        id: row.get(0)?,
        label: row.get(1)?,
        host: row.get(2)?,
        synced: row.get(3)?,
        created_at: row.get(4)?,
        used_at: row.get(5)?,
    })
}
