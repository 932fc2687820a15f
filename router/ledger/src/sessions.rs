//! Sessions: who is signed in at the page. Each is a random secret in a browser's cookie, kept here as its hash.

use serde::Serialize;
use serde_json::json;

use crate::audit::{self, Act};
use crate::error::LedgerError;
use crate::key::CreatedKey;
use crate::keys::page_key;
use crate::ledger::Ledger;
use crate::people::person;
use crate::sql::{self, Connection, OptionalExtension, Row, params};
use crate::teams;

/// Begins every session's secret, and no key.
pub(crate) const PREFIX: &str = "allerac-session-";
/// How long a session lasts, in seconds: 30 days.
const LASTS_S: i64 = 30 * 24 * 3600;
/// Sessions of one person; the oldest end when there would be more.
const SESSIONS_MAX: i64 = 50;
/// Of what a browser says of itself, in characters.
const AGENT_CHARS_MAX: usize = 200;

/// What is told of a new session.
#[derive(Debug, Clone)]
pub struct SessionAbout {
    /// What the browser says that it is.
    pub agent: String,
    /// From where it came.
    pub address: String,
    /// What let them in, for the audit log: `password`, `passkey`...
    pub by: &'static str,
}

/// A session as it is listed.
#[derive(Debug, Clone, Serialize)]
pub struct SessionRow {
    /// The part that may be shown.
    pub id: String,
    /// Whose.
    pub user: String,
    /// The team that pays for what it asks.
    pub team: Option<String>,
    /// What the browser said that it is.
    pub agent: String,
    /// From where it came.
    pub address: String,
    /// Seconds since 1970.
    pub created_at: i64,
    /// When it ends, in seconds since 1970.
    pub expires_at: i64,
    /// When it was used last, to a minute, in seconds since 1970.
    pub used_at: i64,
}

impl Ledger {
    /// Signs somebody in. Whether they may is known by then.
    ///
    /// # Errors
    /// [`LedgerError::UnknownUser`], and when it cannot be written.
    pub async fn open_session(&self, user: &str, about: SessionAbout) -> Result<(CreatedKey, i64), LedgerError> {
        let (user, now) = (user.to_owned(), self.now().seconds);
        let session = CreatedKey::beginning_with(PREFIX);
        let created = session.clone();
        let visible = |text: &str| text.chars().filter(|c| !c.is_control()).take(AGENT_CHARS_MAX).collect::<String>();
        let (agent, address) = (visible(&about.agent), visible(&about.address));
        let made = self.writer.call(move |connection| {
            let Some(known) = person(connection, &user)? else {
                return Ok(Err(LedgerError::UnknownUser(user.clone())));
            };
            connection.prepare_cached("DELETE FROM sessions WHERE expires_at <= ?1")?.execute([now])?;
            connection
                .prepare_cached(
                    "DELETE FROM sessions WHERE id IN (SELECT sessions.id FROM sessions JOIN keys ON keys.id = key_id
                     WHERE keys.user_id = ?1 ORDER BY sessions.id DESC LIMIT 1000000 OFFSET ?2)",
                )?
                .execute([known.id, SESSIONS_MAX - 1])?;
            let key = page_key(connection, &known, None, now)?;
            connection
                .prepare_cached(
                    "INSERT INTO sessions (public_id, hash, key_id, agent, address, created_at, expires_at, used_at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?6)",
                )?
                .execute(params![created.public_id, created.hash(), key, agent, address, now, now + LASTS_S])?;
            let detail = json!({"session": created.public_id, "address": address, "by": about.by});
            audit::note(connection, Act { at: now, actor: &user, action: "session.open", subject: &user, detail })?;
            Ok(Ok(()))
        });
        made.await??;
        Ok((session, now + LASTS_S))
    }

    /// The sessions that have not ended, oldest first; those of one person where one is named.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn sessions(&self, user: Option<&str>) -> Result<Vec<SessionRow>, LedgerError> {
        let now = self.clock().seconds();
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT sessions.public_id, users.name, team.name, agent, address, sessions.created_at,
                 sessions.expires_at, sessions.used_at
                 FROM sessions JOIN keys ON keys.id = key_id JOIN users ON users.id = keys.user_id
                 LEFT JOIN users AS team ON team.id = keys.team_id
                 WHERE sessions.expires_at > ?1 AND (?2 IS NULL OR users.name = ?2) ORDER BY sessions.id",
            )?;
            let rows = statement.query_map(params![now, user], session_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Ends a session; one of a person's own where they are named.
    ///
    /// # Errors
    /// [`LedgerError::Missing`], and when it cannot be written.
    pub async fn end_session(&self, id: &str, user: Option<&str>) -> Result<(), LedgerError> {
        let (id, user) = (id.to_owned(), user.map(str::to_owned));
        let (actor, at) = (self.actor(), self.now().seconds);
        let ended = self.writer.call(move |connection| {
            let owner: Option<String> = connection
                .prepare_cached(
                    "SELECT users.name FROM sessions JOIN keys ON keys.id = key_id JOIN users ON users.id = keys.user_id
                     WHERE sessions.public_id = ?1 AND (?2 IS NULL OR users.name = ?2)",
                )?
                .query_row(params![id, user], |row| row.get(0))
                .optional()?;
            let Some(owner) = owner else {
                return Ok(Err(LedgerError::Missing { what: "session", id: id.clone() }));
            };
            connection.prepare_cached("DELETE FROM sessions WHERE public_id = ?1")?.execute([&id])?;
            let act = Act { at, actor: &actor, action: "session.end", subject: &owner, detail: json!({"session": id}) };
            audit::note(connection, act)?;
            Ok(Ok(()))
        });
        ended.await?
    }

    /// Lets a team of which the person is a member pay for what a session asks, or the person again.
    ///
    /// # Errors
    /// [`LedgerError::Missing`], [`LedgerError::Invalid`] where the person is no member, and when it cannot be written.
    pub async fn charge_session(&self, id: &str, user: &str, team: Option<&str>) -> Result<(), LedgerError> {
        let (id, user, team, now) = (id.to_owned(), user.to_owned(), team.map(str::to_owned), self.now().seconds);
        let changed = self.writer.call(move |connection| {
            let Some(known) = person(connection, &user)? else {
                return Ok(Err(LedgerError::UnknownUser(user.clone())));
            };
            let payer = match &team {
                None => None,
                Some(team) => match teams::of_member(connection, team, known.id)? {
                    Some((payer, _)) => Some(payer),
                    None => {
                        let reason = format!("you are no member of a team {team}");
                        return Ok(Err(LedgerError::Invalid { field: "team", reason }));
                    }
                },
            };
            let key = page_key(connection, &known, payer, now)?;
            let changed = connection
                .prepare_cached(
                    "UPDATE sessions SET key_id = ?2 WHERE public_id = ?1
                     AND key_id IN (SELECT id FROM keys WHERE user_id = ?3)",
                )?
                .execute(params![id, key, known.id])?;
            let missing = || LedgerError::Missing { what: "session", id: id.clone() };
            Ok(if changed == 1 { Ok(()) } else { Err(missing()) })
        });
        changed.await?
    }
}

/// Ends all sessions of somebody but one; how many.
pub(crate) fn end_all(connection: &Connection, user: i64, keep: Option<&str>) -> Result<usize, LedgerError> {
    let mut statement = connection.prepare_cached(
        "DELETE FROM sessions WHERE key_id IN (SELECT id FROM keys WHERE user_id = ?1) AND public_id IS DISTINCT FROM ?2",
    )?;
    Ok(statement.execute(params![user, keep])?)
}

fn session_row(row: Row<'_>) -> sql::Result<SessionRow> {
    Ok(SessionRow {
        id: row.get(0)?,
        user: row.get(1)?,
        team: row.get(2)?,
        agent: row.get(3)?,
        address: row.get(4)?,
        created_at: row.get(5)?,
        expires_at: row.get(6)?,
        used_at: row.get(7)?,
    })
}
