//! Whom other providers (OpenID Connect) call how: who signs in there is let in here. What a provider says is checked
//! elsewhere.

use serde::Serialize;
use serde_json::json;

use crate::audit::{self, Act};
use crate::error::LedgerError;
use crate::key::public_id;
use crate::ledger::Ledger;
use crate::people::{self, checked_name, person};
use crate::role::Role;
use crate::sql::{Connection, OptionalExtension, params};

/// Identities of one person.
const IDENTITIES_MAX: i64 = 10;
/// Of what a provider says of a name, in characters.
const LABEL_CHARS_MAX: usize = 200;

/// Somebody as a provider knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewIdentity {
    /// The provider, by its address.
    pub issuer: String,
    /// Whom it means: a word that never means anybody else there.
    pub subject: String,
    /// Their address or name, to be shown.
    pub label: String,
}

/// Whom somebody whom a provider knows is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identified {
    /// Nobody yet.
    Nobody,
    /// Somebody of this name.
    Person(String),
    /// Somebody who was removed.
    Removed,
    /// Somebody who comes by it no longer, as they wished.
    Unlinked,
}

/// An identity as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IdentityRow {
    /// The part that may be shown.
    pub id: String,
    /// The provider, by its address.
    pub issuer: String,
    /// What the provider said of their name or address last.
    pub label: String,
    /// Seconds since 1970.
    pub created_at: i64,
    /// When it let its person in last, in seconds since 1970.
    pub used_at: Option<i64>,
}

impl Ledger {
    /// Whom a provider means.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn identified(&self, issuer: &str, subject: &str) -> Result<Identified, LedgerError> {
        self.read(|connection| identified(connection, issuer, subject))
    }

    /// Notes that somebody was let in because a provider knows them.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn use_identity(&self, identity: NewIdentity) -> Result<(), LedgerError> {
        let at = self.now().seconds;
        let used = self.writer.call(move |connection| {
            connection
                .prepare_cached("UPDATE identities SET label = ?3, used_at = ?4 WHERE issuer = ?1 AND subject = ?2")?
                .execute(params![identity.issuer, identity.subject, cut(&identity.label), at])?;
            Ok(())
        });
        used.await
    }

    /// Lets somebody in from now on whom a provider knows.
    ///
    /// # Errors
    /// [`LedgerError::UnknownUser`], [`LedgerError::Conflict`] where that is somebody else here, and when it cannot be
    /// written.
    pub async fn link_identity(&self, user: &str, identity: NewIdentity) -> Result<(), LedgerError> {
        let (user, actor, at) = (user.to_owned(), self.actor(), self.now().seconds);
        let linked = self.writer.call(move |connection| {
            let Some(known) = person(connection, &user)? else {
                return Ok(Err(LedgerError::UnknownUser(user.clone())));
            };
            match identified(connection, &identity.issuer, &identity.subject)? {
                Identified::Person(name) if name.eq_ignore_ascii_case(&user) => return Ok(Ok(())),
                Identified::Person(_) => return Ok(Err(taken())),
                Identified::Nobody | Identified::Removed | Identified::Unlinked => {}
            }
            let count = "SELECT count(*) FROM identities WHERE user_id = ?1 AND unlinked_at IS NULL";
            if connection.query_row(count, [known.id], |row| row.get::<i64>(0))? >= IDENTITIES_MAX {
                let reason = format!("there are {IDENTITIES_MAX} already; remove one first");
                return Ok(Err(LedgerError::Conflict { code: "too_many_identities", reason }));
            }
            insert(connection, (known.id, &user), &identity, (&actor, at))?;
            Ok(Ok(()))
        });
        linked.await?
    }

    /// Makes somebody whom a provider knows a person of this box.
    ///
    /// # Errors
    /// [`LedgerError::InvalidName`], [`LedgerError::UnknownPlan`], [`LedgerError::Conflict`] where the name is taken or
    /// they are somebody here, and when it cannot be written.
    pub async fn add_identified(
        &self,
        name: &str,
        (role, plan): (Role, &str),
        identity: NewIdentity,
    ) -> Result<(), LedgerError> {
        let (name, plan, now) = (checked_name(name)?, plan.to_owned(), self.now().seconds);
        let added = self.writer.call(move |connection| {
            let actor = format!("sign-in with {}", identity.issuer);
            if identified(connection, &identity.issuer, &identity.subject)? != Identified::Nobody {
                return Ok(Err(taken()));
            }
            let user = match people::add(connection, &name, (role, &plan), (&actor, now))? {
                Ok(user) => user,
                Err(refused) => return Ok(Err(refused)),
            };
            insert(connection, (user, &name), &identity, (&actor, now))?;
            Ok(Ok(()))
        });
        added.await?
    }

    /// The identities of somebody, oldest first.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn identities(&self, user: &str) -> Result<Vec<IdentityRow>, LedgerError> {
        self.read(|connection| of(connection, user))
    }

    /// Lets somebody in no more because a provider knows them.
    ///
    /// # Errors
    /// [`LedgerError::Missing`], and when it cannot be written.
    pub async fn unlink_identity(&self, user: &str, id: &str) -> Result<(), LedgerError> {
        let (user, id, actor, at) = (user.to_owned(), id.to_owned(), self.actor(), self.now().seconds);
        let removed = self.writer.call(move |connection| {
            let removed = connection
                .prepare_cached(
                    "UPDATE identities SET unlinked_at = ?3 WHERE public_id = ?1 AND unlinked_at IS NULL
                     AND user_id = (SELECT id FROM users WHERE name = ?2)",
                )?
                .execute(params![id, user, at])?;
            if removed == 0 {
                return Ok(Err(LedgerError::Missing { what: "identity", id: id.clone() }));
            }
            let detail = json!({"identity": id});
            audit::note(connection, Act { at, actor: &actor, action: "identity.remove", subject: &user, detail })?;
            Ok(Ok(()))
        });
        removed.await?
    }

    /// Lets somebody in no more because any provider knows them; how many did.
    ///
    /// # Errors
    /// [`LedgerError::UnknownUser`], and when it cannot be written.
    pub async fn unlink_identities(&self, user: &str) -> Result<usize, LedgerError> {
        let (user, actor, at) = (user.to_owned(), self.actor(), self.now().seconds);
        let removed = self.writer.call(move |connection| {
            let Some(known) = person(connection, &user)? else {
                return Ok(Err(LedgerError::UnknownUser(user.clone())));
            };
            let removed = connection
                .prepare_cached("UPDATE identities SET unlinked_at = ?2 WHERE user_id = ?1 AND unlinked_at IS NULL")?
                .execute([known.id, at])?;
            let detail = json!({"removed": removed});
            audit::note(connection, Act { at, actor: &actor, action: "identity.remove", subject: &user, detail })?;
            Ok(Ok(removed))
        });
        removed.await?
    }
}

fn identified(connection: &Connection, issuer: &str, subject: &str) -> Result<Identified, LedgerError> {
    let found: Option<(String, bool, bool)> = connection
        .prepare_cached(
            "SELECT name, removed_at IS NOT NULL, unlinked_at IS NOT NULL FROM identities JOIN users ON users.id = user_id
             WHERE issuer = ?1 AND subject = ?2",
        )?
        .query_row([issuer, subject], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    Ok(match found {
        None => Identified::Nobody,
        Some((_, true, _)) => Identified::Removed,
        Some((_, _, true)) => Identified::Unlinked,
        Some((name, ..)) => Identified::Person(name),
    })
}

/// Whether nobody here is meant, or nobody any more.
pub(crate) fn is_free(connection: &Connection, identity: &NewIdentity) -> Result<Result<(), LedgerError>, LedgerError> {
    let known = identified(connection, &identity.issuer, &identity.subject)?;
    Ok(if matches!(known, Identified::Person(_)) { Err(taken()) } else { Ok(()) })
}

/// Makes an identity somebody's; whoever was removed gives theirs up.
pub(crate) fn insert(
    connection: &Connection,
    (user, name): (i64, &str),
    identity: &NewIdentity,
    (actor, at): (&str, i64),
) -> Result<(), LedgerError> {
    let NewIdentity { issuer, subject, label } = identity;
    let (id, label) = (public_id(), cut(label));
    connection
        .prepare_cached(
            "INSERT INTO identities (public_id, issuer, subject, user_id, label, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (issuer, subject) DO UPDATE SET public_id = excluded.public_id, user_id = excluded.user_id,
             label = excluded.label, created_at = excluded.created_at, used_at = NULL, unlinked_at = NULL",
        )?
        .execute(params![id, issuer, subject, user, label, at])?;
    // Not their address there: what is in the log stays in it, whoever is erased.
    let detail = json!({"identity": id, "issuer": issuer});
    audit::note(connection, Act { at, actor, action: "identity.add", subject: name, detail })
}

/// The identities of somebody, oldest first.
pub(crate) fn of(connection: &Connection, user: &str) -> Result<Vec<IdentityRow>, LedgerError> {
    let mut statement = connection.prepare_cached(
        "SELECT public_id, issuer, label, identities.created_at, used_at FROM identities
         JOIN users ON users.id = user_id WHERE users.name = ?1 AND unlinked_at IS NULL ORDER BY identities.id",
    )?;
    let rows = statement.query_map([user], |row| {
        Ok(IdentityRow {
            id: row.get(0)?,
            issuer: row.get(1)?,
            label: row.get(2)?,
            created_at: row.get(3)?,
            used_at: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn taken() -> LedgerError {
    let reason = "who signed in there is somebody else here already; they remove it first at Account, Security";
    LedgerError::Conflict { code: "identity_taken", reason: reason.to_owned() }
}

fn cut(label: &str) -> String {
    label.chars().filter(|character| !character.is_control()).take(LABEL_CHARS_MAX).collect()
}
