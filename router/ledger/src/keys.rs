//! Keys as rows: made, listed, turned, bound and revoked.

use serde_json::json;

use crate::audit::{self, Act};
use crate::error::LedgerError;
use crate::key::{CreatedKey, KeyLimits, KeyRow, NewKey, UpstreamPolicy, random_bytes};
use crate::ledger::Ledger;
use crate::people::{Person, checked_name, insert_user, is_taken, note_known, person, taken};
use crate::plan::{DEFAULT_PLAN, check_models};
use crate::plans;
use crate::role::{Right, Role, Scopes};
use crate::sql::{self, Connection, OptionalExtension, Row, params};
use crate::teams;

/// The longest time that a secret opens beside the one that took its place, in seconds: 90 days.
const OVERLAP_MAX_S: i64 = 90 * 24 * 3600;
/// Keys of one person that open.
const KEYS_MAX: i64 = 20_000;

impl Ledger {
    /// Makes a key, and its user where the name is new.
    ///
    /// # Errors
    /// [`LedgerError::InvalidName`], [`LedgerError::UnknownPlan`], [`LedgerError::PlanForbidsUpstreams`],
    /// [`LedgerError::Invalid`], and when it cannot be written.
    pub async fn create_key(&self, new: NewKey) -> Result<CreatedKey, LedgerError> {
        let user = checked_name(&new.user)?;
        let label = if new.label.is_empty() { String::new() } else { checked_name(&new.label)? };
        let (key, now, actor) = (CreatedKey::random(), self.now().seconds, self.actor());
        let admin = self.admin();
        check_limits(&new.limits, now)?;
        let created = key.clone();
        let made = self.writer.call(move |connection| {
            let (name, known) = (&user, person(connection, &user)?);
            let payer = match (&known, &new.limits.team) {
                (Some(person), Some(team)) => match teams::of_member(connection, team, person.id)? {
                    Some(team) => Some(team),
                    None => return Ok(Err(no_member(name, team))),
                },
                (None, Some(team)) => return Ok(Err(no_member(name, team))),
                (_, None) => None,
            };
            let (user_plan, key_plan) = match (&known, &payer) {
                (_, Some((_, plan))) => (plan.clone(), new.plan.clone()),
                (Some(person), None) => (person.plan.clone(), new.plan.clone()),
                (None, None) => (new.plan.clone().unwrap_or_else(|| DEFAULT_PLAN.to_owned()), None),
            };
            let role = known.as_ref().map_or(Role::Member, |person| person.role);
            if let Err(refused) = check_plans(connection, &user_plan, key_plan.as_ref(), &new.upstreams, role)? {
                return Ok(Err(refused));
            }
            let id = match &known {
                Some(person) => person.id,
                None if is_taken(connection, &user)? => return Ok(Err(taken(&user))),
                None => insert_user(connection, &user, (Role::Member, &user_plan), now)?,
            };
            let open = "SELECT count(*) FROM keys WHERE user_id = ?1 AND revoked_at IS NULL";
            if connection.prepare_cached(open)?.query_row([id], |row| row.get::<i64>(0))? >= KEYS_MAX {
                let reason = format!("{name} has {KEYS_MAX} keys already; revoke some");
                return Ok(Err(LedgerError::Conflict { code: "too_many_keys", reason }));
            }
            let KeyLimits { scopes, models, hours, expires_at, team } = &new.limits;
            let detail = json!({"user": name, "label": label, "user_plan": user_plan, "plan": key_plan,
                "upstreams": new.upstreams, "new_user": known.is_none(), "scopes": scopes.words(), "models": models,
                "hours": hours.to_string(), "expires_at": expires_at, "team": team});
            let act = Act { at: now, actor: &actor, action: "key.create", subject: &created.public_id, detail };
            audit::note(connection, act)?;
            let row = NewRow {
                label: &label,
                plan: key_plan.as_deref(),
                upstreams: &new.upstreams,
                limits: &new.limits,
                team: payer.map(|(team, _)| team),
                now,
            };
            insert_key(connection, &created, id, row)?;
            note_known(connection, admin.as_deref(), name)?;
            Ok(Ok(()))
        });
        made.await??;
        Ok(key)
    }

    /// All keys, oldest first; those of one person where one is named.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn keys_of(&self, user: Option<&str>) -> Result<Vec<KeyRow>, LedgerError> {
        self.read(|connection| {
            let query = format!("{SELECT} AND (?1 IS NULL OR users.name = ?1) ORDER BY keys.id");
            let mut statement = connection.prepare_cached(&query)?;
            let rows = statement.query_map([user], key_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// All keys, oldest first.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn keys(&self) -> Result<Vec<KeyRow>, LedgerError> {
        self.keys_of(None)
    }

    /// One key.
    ///
    /// # Errors
    /// [`LedgerError::UnknownKey`], and when the ledger cannot be read.
    pub fn key(&self, public_id: &str) -> Result<KeyRow, LedgerError> {
        self.read(|connection| find(connection, public_id))?
            .ok_or_else(|| LedgerError::UnknownKey(public_id.to_owned()))
    }

    /// Refuses a key from now on. Revoking it again changes nothing.
    ///
    /// # Errors
    /// [`LedgerError::UnknownKey`], and when it cannot be written.
    pub async fn revoke_key(&self, public_id: &str) -> Result<KeyRow, LedgerError> {
        let (id, now, actor) = (public_id.to_owned(), self.now().seconds, self.actor());
        let revoked = self.writer.call(move |connection| {
            let revoked = connection
                .prepare_cached(
                    "UPDATE keys SET revoked_at = ?2 WHERE public_id = ?1 AND kind = 'key' AND revoked_at IS NULL",
                )?
                .execute(params![id, now])?;
            if revoked == 1 {
                let act = Act { at: now, actor: &actor, action: "key.revoke", subject: &id, detail: json!({}) };
                audit::note(connection, act)?;
            }
            find(connection, &id)
        });
        revoked.await?.ok_or_else(|| LedgerError::UnknownKey(public_id.to_owned()))
    }

    /// Gives a key another secret. The one before opens for so many seconds more, so that what uses it can be changed
    /// meanwhile; one that was still open from an earlier turn opens no more.
    ///
    /// # Errors
    /// [`LedgerError::UnknownKey`], [`LedgerError::Invalid`], [`LedgerError::Conflict`] when it was revoked, and when it
    /// cannot be written.
    pub async fn rotate_key(&self, public_id: &str, overlap_s: i64) -> Result<CreatedKey, LedgerError> {
        if !(0..=OVERLAP_MAX_S).contains(&overlap_s) {
            let reason = format!("the old key can open for 0 to {OVERLAP_MAX_S} seconds more");
            return Err(LedgerError::Invalid { field: "overlap_seconds", reason });
        }
        let (key, now, actor) = (CreatedKey::rotated(public_id), self.now().seconds, self.actor());
        let admin = self.admin();
        let turned = key.clone();
        let done = self.writer.call(move |connection| {
            let id = &turned.public_id;
            let Some(row) = find(connection, id)? else { return Ok(Err(LedgerError::UnknownKey(id.clone()))) };
            if row.revoked_at.is_some() || row.expires_at.is_some_and(|end| end <= now) {
                let reason = format!("the key {id} opens no more; make another one");
                return Ok(Err(LedgerError::Conflict { code: "key_closed", reason }));
            }
            connection
                .prepare_cached("UPDATE keys SET old_hash = hash, old_until = ?3, hash = ?2 WHERE public_id = ?1")?
                .execute(params![id, turned.hash(), now + overlap_s])?;
            note_known(connection, admin.as_deref(), &row.user)?;
            let detail = json!({"old_until": now + overlap_s});
            audit::note(connection, Act { at: now, actor: &actor, action: "key.rotate", subject: id, detail })?;
            Ok(Ok(()))
        });
        done.await??;
        Ok(key)
    }
}

fn no_member(user: &str, team: &str) -> LedgerError {
    LedgerError::Invalid { field: "team", reason: format!("{user} is no member of a team {team}") }
}

/// Whether somebody of a role may have a key under these plans that may leave the box so far.
fn check_plans(
    connection: &Connection,
    user_plan: &str,
    key_plan: Option<&String>,
    upstreams: &UpstreamPolicy,
    role: Role,
) -> Result<Result<(), LedgerError>, LedgerError> {
    let leaves = *upstreams != UpstreamPolicy::None;
    for name in std::iter::once(user_plan).chain(key_plan.map(String::as_str)) {
        let Some(plan) = plans::find(connection, name)? else {
            return Ok(Err(LedgerError::UnknownPlan(name.to_owned())));
        };
        if !plan.upstreams && leaves {
            return Ok(Err(LedgerError::PlanForbidsUpstreams { plan: plan.name }));
        }
    }
    if leaves && !role.allows(Right::LeaveTheBox) {
        let reason = format!("keys of people with the role {role} stay on the box");
        return Ok(Err(LedgerError::Invalid { field: "upstreams", reason }));
    }
    Ok(Ok(()))
}

fn check_limits(limits: &KeyLimits, now: i64) -> Result<(), LedgerError> {
    check_models(&limits.models)?;
    match limits.expires_at {
        Some(end) if end <= now => {
            Err(LedgerError::Invalid { field: "expires_at", reason: "the key would have expired already".into() })
        }
        _ => Ok(()),
    }
}

/// What the sessions of somebody are counted under, for themselves or for a team. Made where it is missing.
pub(crate) fn page_key(
    connection: &Connection,
    person: &Person,
    team: Option<i64>,
    now: i64,
) -> Result<i64, LedgerError> {
    let mut statement = connection.prepare_cached(
        "SELECT id FROM keys WHERE user_id = ?1 AND kind = 'page' AND team_id IS NOT DISTINCT FROM ?2 AND revoked_at IS NULL",
    )?;
    if let Some(known) = statement.query_row(params![person.id, team], |row| row.get(0)).optional()? {
        return Ok(known);
    }
    // Nobody knows the secret of this hash.
    let key = CreatedKey { secret: String::new(), ..CreatedKey::random() };
    Ok(connection
        .prepare_cached(
            "INSERT INTO keys (public_id, hash, user_id, label, upstreams, created_at, kind, team_id)
             VALUES (?1, ?2, ?3, 'page', '', ?4, 'page', ?5) RETURNING id",
        )?
        .query_row(params![key.public_id, random_bytes::<32>(), person.id, now, team], |row| row.get(0))?)
}

const SELECT: &str =
    "SELECT public_id, users.name, label, users.plan, keys.plan, upstreams, keys.created_at, revoked_at,
    scopes, keys.models, keys.hours, team.name, expires_at, used_at, old_until
    FROM keys JOIN users ON users.id = keys.user_id LEFT JOIN users AS team ON team.id = keys.team_id
    WHERE kind = 'key'";

fn find(connection: &Connection, public_id: &str) -> Result<Option<KeyRow>, LedgerError> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} AND keys.public_id = ?1"))?;
    Ok(statement.query_row([public_id], key_row).optional()?)
}

fn key_row(row: Row<'_>) -> sql::Result<KeyRow> {
    let models: String = row.get(9)?;
    Ok(KeyRow {
        id: row.get(0)?,
        user: row.get(1)?,
        name: row.get(2)?,
        user_plan: row.get(3)?,
        plan: row.get(4)?,
        upstreams: UpstreamPolicy::from_text(&row.get::<String>(5)?),
        created_at: row.get(6)?,
        revoked_at: row.get(7)?,
        scopes: Scopes::from_text(&row.get::<String>(8)?).words(),
        models: serde_json::from_str(&models).unwrap_or_default(),
        hours: row.get(10)?,
        team: row.get(11)?,
        expires_at: row.get(12)?,
        used_at: row.get(13)?,
        old_until: row.get(14)?,
    })
}

/// What is written of a new key beside itself.
#[derive(Clone, Copy)]
pub(crate) struct NewRow<'a> {
    pub(crate) label: &'a str,
    pub(crate) plan: Option<&'a str>,
    pub(crate) upstreams: &'a UpstreamPolicy,
    pub(crate) limits: &'a KeyLimits,
    pub(crate) team: Option<i64>,
    pub(crate) now: i64,
}

pub(crate) fn insert_key(
    connection: &Connection,
    key: &CreatedKey,
    user: i64,
    new: NewRow<'_>,
) -> Result<(), LedgerError> {
    let KeyLimits { scopes, models, hours, expires_at, .. } = new.limits;
    connection
        .prepare_cached(
            "INSERT INTO keys (public_id, hash, user_id, label, plan, upstreams, created_at, scopes, models, hours,
             expires_at, team_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            key.public_id,
            key.hash(),
            user,
            new.label,
            new.plan,
            new.upstreams.to_text(),
            new.now,
            scopes.to_text(),
            json!(models).to_string(),
            hours.to_string(),
            expires_at,
            new.team
        ])?;
    Ok(())
}
