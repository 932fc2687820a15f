//! Users and keys.

use rusqlite::{Connection, OptionalExtension, Row, params};
use subtle::ConstantTimeEq;

use crate::error::{AuthError, LedgerError};
use crate::key::{CreatedKey, KeyRow, NewKey, Presented, Principal, Role, UpstreamPolicy, random_bytes};
use crate::ledger::Ledger;
use crate::plan::Plan;

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
        let created = key.clone();
        let claimed = self.writer.call(move |connection| {
            if has_owner(connection)? {
                return Ok(false);
            }
            let user = user_id(connection, &owner)?;
            let user = match user {
                Some(user) => {
                    connection
                        .prepare_cached("UPDATE users SET role = 'owner', plan = 'unlimited' WHERE id = ?1")?
                        .execute([user])?;
                    user
                }
                None => insert_user(connection, &owner, Role::Owner, Plan::Unlimited)?,
            };
            insert_key(connection, &created, user, "first key", None, &UpstreamPolicy::None)?;
            Ok(true)
        });
        if claimed.await? { Ok(key) } else { Err(LedgerError::AlreadyClaimed) }
    }

    /// Makes a key, and its user where the name is new.
    ///
    /// # Errors
    /// [`LedgerError::InvalidName`], [`LedgerError::PlanForbidsUpstreams`], and when it cannot be written.
    pub async fn create_key(&self, new: NewKey) -> Result<CreatedKey, LedgerError> {
        let user = checked_name(&new.user)?;
        let label = if new.label.is_empty() { String::new() } else { checked_name(&new.label)? };
        let key = CreatedKey::random();
        let created = key.clone();
        let made = self.writer.call(move |connection| {
            let known = user_id(connection, &user)?;
            let (user_plan, key_plan) = match known {
                Some(user) => (plan_of(connection, user)?, new.plan),
                None => (new.plan.unwrap_or(Plan::Personal), None),
            };
            let narrow = [Some(user_plan), key_plan].into_iter().flatten().find(|plan| !plan.allows_upstreams());
            if let Some(plan) = narrow.filter(|_| new.upstreams != UpstreamPolicy::None) {
                return Ok(Err(plan));
            }
            let user = match known {
                Some(user) => user,
                None => insert_user(connection, &user, Role::Member, user_plan)?,
            };
            insert_key(connection, &created, user, &label, key_plan, &new.upstreams)?;
            Ok(Ok(()))
        });
        match made.await? {
            Ok(()) => Ok(key),
            Err(plan) => Err(LedgerError::PlanForbidsUpstreams { plan }),
        }
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
        let id = public_id.to_owned();
        let revoked = self.writer.call(move |connection| {
            connection
                .prepare_cached("UPDATE keys SET revoked_at = coalesce(revoked_at, unixepoch()) WHERE public_id = ?1")?
                .execute([&id])?;
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
                "SELECT keys.id, users.id, public_id, users.name, users.role, users.plan, keys.plan, upstreams, salt,
                 hash, revoked_at FROM keys JOIN users ON users.id = keys.user_id WHERE public_id = ?1",
            )?;
            let found = statement.query_row([public_id], |row| {
                let hash: [u8; 32] = row.get(9)?;
                Ok((principal(row)?, hash, row.get::<_, Option<i64>>(10)?))
            });
            Ok(found.optional()?)
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
        user_plan: plan(&row.get::<_, String>(3)?),
        plan: row.get::<_, Option<String>>(4)?.as_deref().map(plan),
        upstreams: UpstreamPolicy::from_text(&row.get::<_, String>(5)?),
        created_at: row.get(6)?,
        revoked_at: row.get(7)?,
    })
}

fn principal(row: &Row<'_>) -> rusqlite::Result<Principal> {
    Ok(Principal {
        key: row.get(0)?,
        user: row.get(1)?,
        key_id: row.get(2)?,
        user_name: row.get(3)?,
        role: Role::from_text(&row.get::<_, String>(4)?),
        user_plan: plan(&row.get::<_, String>(5)?),
        key_plan: row.get::<_, Option<String>>(6)?.as_deref().map(plan),
        upstreams: UpstreamPolicy::from_text(&row.get::<_, String>(7)?),
        salt: row.get::<_, i64>(8)?.cast_unsigned(),
    })
}

/// A plan as it was stored. An unknown one, from a newer version, gets the smallest.
fn plan(text: &str) -> Plan {
    text.parse().unwrap_or(Plan::Starter)
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

fn plan_of(connection: &Connection, user: i64) -> Result<Plan, LedgerError> {
    let mut statement = connection.prepare_cached("SELECT plan FROM users WHERE id = ?1")?;
    Ok(plan(&statement.query_row([user], |row| row.get::<_, String>(0))?))
}

fn insert_user(connection: &Connection, name: &str, role: Role, plan: Plan) -> Result<i64, LedgerError> {
    let salt = i64::from_le_bytes(random_bytes());
    connection
        .prepare_cached("INSERT INTO users (name, role, plan, salt, created_at) VALUES (?1, ?2, ?3, ?4, unixepoch())")?
        .execute(params![name, role.as_str(), plan.as_str(), salt])?;
    Ok(connection.last_insert_rowid())
}

fn insert_key(
    connection: &Connection,
    key: &CreatedKey,
    user: i64,
    label: &str,
    plan: Option<Plan>,
    upstreams: &UpstreamPolicy,
) -> Result<(), LedgerError> {
    connection
        .prepare_cached(
            "INSERT INTO keys (public_id, hash, user_id, label, plan, upstreams, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, unixepoch())",
        )?
        .execute(params![key.public_id, key.hash(), user, label, plan.map(Plan::as_str), upstreams.to_text()])?;
    Ok(())
}
