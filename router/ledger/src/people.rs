//! Users and keys.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::json;
use subtle::ConstantTimeEq;

use crate::audit::{self, Act};
use crate::error::{AuthError, LedgerError};
use crate::key::{CreatedKey, KeyRow, NewKey, Presented, Principal, Role, UpstreamPolicy, random_bytes};
use crate::ledger::Ledger;
use crate::plan::{DEFAULT_PLAN, OWNER_PLAN, Plan};
use crate::plans;

/// The longest name or label, in characters.
const NAME_CHARS_MAX: usize = 64;

impl Ledger {
    /// Whether somebody owns this box.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn is_claimed(&self) -> Result<bool, LedgerError> {
        self.read(has_owner)
    }

    /// Makes the first person the owner, without limits, and gives them a key that stays on the box.
    ///
    /// # Errors
    /// [`LedgerError::AlreadyClaimed`], [`LedgerError::InvalidName`], and when it cannot be written.
    pub async fn claim(&self, owner: &str) -> Result<CreatedKey, LedgerError> {
        let owner = checked_name(owner)?;
        let key = CreatedKey::random();
        let (created, now) = (key.clone(), self.now().seconds);
        let claimed = self.writer.call(move |connection| {
            if has_owner(connection)? {
                return Ok(false);
            }
            let user = user_id(connection, &owner)?;
            let user = match user {
                Some(user) => {
                    connection
                        .prepare_cached("UPDATE users SET role = 'owner', plan = ?2 WHERE id = ?1")?
                        .execute(params![user, OWNER_PLAN])?;
                    user
                }
                None => insert_user(connection, &owner, (Role::Owner, OWNER_PLAN), now)?,
            };
            let detail = json!({"user": owner, "plan": OWNER_PLAN});
            audit::note(
                connection,
                Act { at: now, actor: "claim", action: "box.claim", subject: &created.public_id, detail },
            )?;
            let row = NewRow { label: "first key", plan: None, upstreams: &UpstreamPolicy::None, now };
            insert_key(connection, &created, user, row)?;
            Ok(true)
        });
        if claimed.await? { Ok(key) } else { Err(LedgerError::AlreadyClaimed) }
    }

    /// Makes a key, and its user where the name is new.
    ///
    /// # Errors
    /// [`LedgerError::InvalidName`], [`LedgerError::UnknownPlan`], [`LedgerError::PlanForbidsUpstreams`], and when it
    /// cannot be written.
    pub async fn create_key(&self, new: NewKey) -> Result<CreatedKey, LedgerError> {
        let user = checked_name(&new.user)?;
        let label = if new.label.is_empty() { String::new() } else { checked_name(&new.label)? };
        let key = CreatedKey::random();
        let (created, now, actor) = (key.clone(), self.now().seconds, self.actor());
        let made = self.writer.call(move |connection| {
            let (name, known) = (&user, user_id(connection, &user)?);
            let (user_plan, key_plan) = match known {
                Some(user) => (plan_of(connection, user)?, new.plan.clone()),
                None => (new.plan.clone().unwrap_or_else(|| DEFAULT_PLAN.to_owned()), None),
            };
            for name in std::iter::once(&user_plan).chain(&key_plan) {
                let Some(plan) = plans::find(connection, name)? else {
                    return Ok(Err(LedgerError::UnknownPlan(name.clone())));
                };
                if !plan.upstreams && new.upstreams != UpstreamPolicy::None {
                    return Ok(Err(LedgerError::PlanForbidsUpstreams { plan: plan.name }));
                }
            }
            let user = match known {
                Some(user) => user,
                None => insert_user(connection, &user, (Role::Member, &user_plan), now)?,
            };
            let detail = json!({"user": name, "label": label, "user_plan": user_plan, "plan": key_plan,
                "upstreams": new.upstreams, "new_user": known.is_none()});
            audit::note(
                connection,
                Act { at: now, actor: &actor, action: "key.create", subject: &created.public_id, detail },
            )?;
            let row = NewRow { label: &label, plan: key_plan.as_deref(), upstreams: &new.upstreams, now };
            insert_key(connection, &created, user, row)?;
            Ok(Ok(()))
        });
        made.await??;
        Ok(key)
    }

    /// All keys, oldest first.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn keys(&self) -> Result<Vec<KeyRow>, LedgerError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!("{SELECT_KEY} ORDER BY keys.id"))?;
            let rows = statement.query_map([], key_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Refuses a key from now on. Revoking it again changes nothing.
    ///
    /// # Errors
    /// [`LedgerError::UnknownKey`], and when it cannot be written.
    pub async fn revoke_key(&self, public_id: &str) -> Result<KeyRow, LedgerError> {
        let (id, now, actor) = (public_id.to_owned(), self.now().seconds, self.actor());
        let revoked = self.writer.call(move |connection| {
            let revoked = connection
                .prepare_cached("UPDATE keys SET revoked_at = coalesce(revoked_at, ?2) WHERE public_id = ?1")?
                .execute(params![id, now])?;
            if revoked == 1 {
                audit::note(
                    connection,
                    Act { at: now, actor: &actor, action: "key.revoke", subject: &id, detail: json!({}) },
                )?;
            }
            let mut statement = connection.prepare_cached(&format!("{SELECT_KEY} WHERE keys.public_id = ?1"))?;
            Ok(statement.query_row([&id], key_row).optional()?)
        });
        revoked.await?.ok_or_else(|| LedgerError::UnknownKey(public_id.to_owned()))
    }

    /// Who a key belongs to that was presented before, by its public id.
    ///
    /// # Errors
    /// [`AuthError`] when it opens no more.
    pub fn principal(&self, public_id: &str) -> Result<Principal, AuthError> {
        match self.find_key(public_id)? {
            Some((principal, _, None)) => Ok(principal),
            Some((_, _, Some(_))) => Err(AuthError::Revoked),
            None => Err(AuthError::Unknown),
        }
    }

    /// Who presents this key.
    ///
    /// # Errors
    /// [`AuthError`] when it does not open.
    pub fn authenticate(&self, presented: &str) -> Result<Principal, AuthError> {
        let presented = Presented::parse(presented)?;
        let found = self.find_key(presented.public_id)?;
        // An unknown id compares too, so that the time tells nothing.
        let hash = found.as_ref().map_or([0; 32], |(_, hash, _)| *hash);
        let opens = bool::from(presented.hash().ct_eq(&hash));
        match found {
            Some((principal, _, None)) if opens => Ok(principal),
            Some((_, _, Some(_))) if opens => Err(AuthError::Revoked),
            _ => Err(AuthError::Unknown),
        }
    }

    /// A key by its public id.
    fn find_key(&self, public_id: &str) -> Result<Option<FoundKey>, LedgerError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT keys.id, users.id, public_id, users.name, users.role, keys.upstreams, salt, hash, revoked_at,
                 user_plan.id, key_plan.id
                 FROM keys JOIN users ON users.id = keys.user_id JOIN plans AS user_plan ON user_plan.name = users.plan
                 LEFT JOIN plans AS key_plan ON key_plan.name = keys.plan WHERE public_id = ?1",
            )?;
            let mut rows = statement.query([public_id])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            let user_plan = self.known_plan(connection, row.get(9)?)?;
            let key_plan = row.get::<_, Option<i64>>(10)?.map(|id| self.known_plan(connection, id)).transpose()?;
            let (hash, revoked): ([u8; 32], Option<i64>) = (row.get(7)?, row.get(8)?);
            let mut found = principal(row, user_plan, key_plan)?;
            found.past_soft_limit = self.is_past_soft_limit(connection, &found)?;
            Ok(Some((found, hash, revoked)))
        })
    }
}

/// Whose a key is, the hash of its secret, and when it was revoked.
type FoundKey = (Principal, [u8; 32], Option<i64>);

const SELECT_KEY: &str = "SELECT public_id, users.name, label, users.plan, keys.plan, upstreams, keys.created_at,
    revoked_at FROM keys JOIN users ON users.id = keys.user_id";

fn key_row(row: &Row<'_>) -> rusqlite::Result<KeyRow> {
    Ok(KeyRow {
        id: row.get(0)?,
        user: row.get(1)?,
        name: row.get(2)?,
        user_plan: row.get(3)?,
        plan: row.get(4)?,
        upstreams: UpstreamPolicy::from_text(&row.get::<_, String>(5)?),
        created_at: row.get(6)?,
        revoked_at: row.get(7)?,
    })
}

fn principal(row: &Row<'_>, user_plan: Arc<Plan>, key_plan: Option<Arc<Plan>>) -> rusqlite::Result<Principal> {
    Ok(Principal {
        key: row.get(0)?,
        user: row.get(1)?,
        key_id: row.get(2)?,
        user_name: row.get(3)?,
        role: Role::from_text(&row.get::<_, String>(4)?),
        user_plan,
        key_plan,
        upstreams: UpstreamPolicy::from_text(&row.get::<_, String>(5)?),
        salt: row.get::<_, i64>(6)?.cast_unsigned(),
        past_soft_limit: false,
    })
}

fn checked_name(name: &str) -> Result<String, LedgerError> {
    let name = name.trim();
    let length = name.chars().count();
    let visible = !name.chars().any(char::is_control);
    if visible && (1..=NAME_CHARS_MAX).contains(&length) { Ok(name.to_owned()) } else { Err(LedgerError::InvalidName) }
}

fn has_owner(connection: &Connection) -> Result<bool, LedgerError> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM users WHERE role = 'owner'")?;
    Ok(statement.exists([])?)
}

fn user_id(connection: &Connection, name: &str) -> Result<Option<i64>, LedgerError> {
    let mut statement = connection.prepare_cached("SELECT id FROM users WHERE name = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}

fn plan_of(connection: &Connection, user: i64) -> Result<String, LedgerError> {
    let mut statement = connection.prepare_cached("SELECT plan FROM users WHERE id = ?1")?;
    Ok(statement.query_row([user], |row| row.get(0))?)
}

fn insert_user(connection: &Connection, name: &str, (role, plan): (Role, &str), now: i64) -> Result<i64, LedgerError> {
    let salt = i64::from_le_bytes(random_bytes());
    connection
        .prepare_cached("INSERT INTO users (name, role, plan, salt, created_at) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![name, role.as_str(), plan, salt, now])?;
    Ok(connection.last_insert_rowid())
}

/// What is written of a new key beside itself.
#[derive(Clone, Copy)]
struct NewRow<'a> {
    label: &'a str,
    plan: Option<&'a str>,
    upstreams: &'a UpstreamPolicy,
    now: i64,
}

fn insert_key(connection: &Connection, key: &CreatedKey, user: i64, new: NewRow<'_>) -> Result<(), LedgerError> {
    connection
        .prepare_cached(
            "INSERT INTO keys (public_id, hash, user_id, label, plan, upstreams, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![key.public_id, key.hash(), user, new.label, new.plan, new.upstreams.to_text(), new.now])?;
    Ok(())
}
