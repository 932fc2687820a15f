//! Links by which somebody sets a password of theirs, made by whoever looks after the box. Each opens once.

use serde_json::json;
use subtle::ConstantTimeEq;

use crate::audit::{self, Act};
use crate::error::LedgerError;
use crate::key::{CreatedKey, Presented};
use crate::ledger::Ledger;
use crate::people::{governs, note_known, person};
use crate::role::Role;
use crate::sessions;
use crate::sql::{Connection, OptionalExtension, params};

/// Begins every link's secret.
const PREFIX: &str = "allerac-password-";
/// The longest time that a link opens, in seconds: 7 days.
const OPEN_MAX_S: i64 = 7 * 24 * 3600;

/// A link that opens.
struct Open {
    user: i64,
    name: String,
    id: String,
}

impl Ledger {
    /// Makes a link by which somebody sets a password, in place of one made before. `by` is the role of whoever does it.
    ///
    /// # Errors
    /// [`LedgerError::UnknownUser`], [`LedgerError::Forbidden`], [`LedgerError::Invalid`], and when it cannot be written.
    pub async fn password_link(&self, name: &str, open_s: i64, by: Role) -> Result<(CreatedKey, i64), LedgerError> {
        if !(1..=OPEN_MAX_S).contains(&open_s) {
            let reason = format!("a link opens for 1 to {OPEN_MAX_S} seconds");
            return Err(LedgerError::Invalid { field: "expires_in_seconds", reason });
        }
        let (name, actor, at, admin) = (name.to_owned(), self.actor(), self.now().seconds, self.admin());
        let link = CreatedKey::beginning_with(PREFIX);
        let made = link.clone();
        let written = self.writer.call(move |connection| {
            let Some(known) = person(connection, &name)? else {
                return Ok(Err(LedgerError::UnknownUser(name.clone())));
            };
            if let Err(refused) = governs(by, known.role) {
                return Ok(Err(refused));
            }
            connection
                .prepare_cached(
                    "INSERT INTO password_links (user_id, public_id, hash, created_at, expires_at)
                     VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (user_id) DO UPDATE SET public_id = excluded.public_id,
                     hash = excluded.hash, created_at = excluded.created_at, expires_at = excluded.expires_at",
                )?
                .execute(params![known.id, made.public_id, made.hash(), at, at + open_s])?;
            note_known(connection, admin.as_deref(), &name)?;
            let detail = json!({"link": made.public_id, "expires_at": at + open_s});
            audit::note(connection, Act { at, actor: &actor, action: "user.password_link", subject: &name, detail })?;
            Ok(Ok(()))
        });
        written.await??;
        Ok((link, at + open_s))
    }

    /// Whose password a link sets.
    ///
    /// # Errors
    /// [`LedgerError::Missing`] when it does not open, and when the ledger cannot be read.
    pub fn linked(&self, presented: &str) -> Result<String, LedgerError> {
        let now = self.clock().seconds();
        let found = self.read(|connection| open(connection, presented, now))?;
        found.map(|open| open.name).ok_or_else(no_link)
    }

    /// Sets the password by a link, hashed already, and ends all sessions; whose it is.
    ///
    /// # Errors
    /// [`LedgerError::Missing`] when the link does not open, and when it cannot be written.
    pub async fn take_password_link(&self, presented: &str, hash: String) -> Result<String, LedgerError> {
        let (presented, at) = (presented.to_owned(), self.now().seconds);
        let taken = self.writer.call(move |connection| {
            let Some(Open { user, name, id }) = open(connection, &presented, at)? else { return Ok(Err(no_link())) };
            connection.prepare_cached("UPDATE users SET password = ?2 WHERE id = ?1")?.execute(params![user, hash])?;
            let ended = sessions::end_all(connection, user, None)?;
            end(connection, user)?;
            let (actor, detail) = (format!("password link {id}"), json!({"set": true, "sessions_ended": ended}));
            audit::note(connection, Act { at, actor: &actor, action: "user.password", subject: &name, detail })?;
            Ok(Ok(name))
        });
        taken.await?
    }
}

/// Lets the link of somebody open no more.
pub(crate) fn end(connection: &Connection, user: i64) -> Result<(), LedgerError> {
    connection.prepare_cached("DELETE FROM password_links WHERE user_id = ?1")?.execute([user])?;
    Ok(())
}

fn open(connection: &Connection, presented: &str, now: i64) -> Result<Option<Open>, LedgerError> {
    let Ok(presented) = Presented::after(PREFIX, presented.trim()) else { return Ok(None) };
    let found = connection
        .prepare_cached(
            "SELECT user_id, name, hash FROM password_links JOIN users ON users.id = user_id
             WHERE public_id = ?1 AND expires_at > ?2 AND removed_at IS NULL",
        )?
        .query_row(params![presented.public_id, now], |row| {
            let open = Open { user: row.get(0)?, name: row.get(1)?, id: presented.public_id.to_owned() };
            Ok((open, row.get::<[u8; 32]>(2)?))
        })
        .optional()?;
    Ok(found.filter(|(_, hash)| bool::from(presented.hash().ct_eq(hash))).map(|(open, _)| open))
}

fn no_link() -> LedgerError {
    LedgerError::Missing { what: "open link", id: "like this: it was used, replaced, or is too old".into() }
}
