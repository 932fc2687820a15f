//! What the administrator sees of users, and changes about them.

use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

use crate::audit::{self, Act};
use crate::balance::Account;
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::plan::Plan;
use crate::plans;
use crate::role::Role;
use crate::spending::BudgetState;
use crate::sql::{OptionalExtension, params};
use crate::usage::QuotaState;

/// The most tokens of one temporary increase: sums stay far from what `SQLite` stores.
const INCREASE_MAX: u64 = 1_000_000_000_000;
/// Increases of a user that have not ended.
const INCREASES_MAX: i64 = 100;

/// A user as the administrator sees them.
#[derive(Debug, Clone, Serialize)]
pub struct UserRow {
    /// The user's name.
    pub user: String,
    /// What the user is.
    pub role: Role,
    /// The user's plan.
    pub plan: String,
    /// Keys that open.
    pub keys: u64,
    /// What is left this month.
    #[serde(flatten)]
    pub quota: QuotaState,
    /// What may be spent on other servers this month.
    pub spending: BudgetState,
    /// Temporary increases that have not ended.
    pub increases: Vec<Increase>,
    /// When they may use the box; always where it is empty.
    pub hours: String,
    /// The models that they may use; all where there is none.
    pub models: Vec<String>,
    /// Whether they can sign in with a password.
    pub password: bool,
    /// Whether a second factor is asked for then.
    pub second_factor: bool,
    /// Passkeys that let them in.
    pub passkeys: u64,
    /// Identities of other providers that let them in.
    pub identities: u64,
    /// Seconds since 1970.
    pub created_at: i64,
}

/// Tokens beyond the plan, for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Increase {
    /// Tokens a month.
    pub tokens: u64,
    /// Until when, in seconds since 1970.
    pub ends_at: i64,
}

impl Ledger {
    /// All users, by name.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn users(&self) -> Result<Vec<UserRow>, LedgerError> {
        self.users_called(None)
    }

    /// The user of a name.
    ///
    /// # Errors
    /// [`LedgerError::UnknownUser`], and when the ledger cannot be read.
    pub fn user(&self, name: &str) -> Result<UserRow, LedgerError> {
        self.users_called(Some(name))?.pop().ok_or_else(|| LedgerError::UnknownUser(name.to_owned()))
    }

    fn users_called(&self, name: Option<&str>) -> Result<Vec<UserRow>, LedgerError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT users.id, users.name, role, users.plan, plans.id,
                 (SELECT count(*) FROM keys WHERE user_id = users.id AND kind = 'key' AND revoked_at IS NULL),
                 hours, users.models, password IS NOT NULL,
                 EXISTS (SELECT 1 FROM second_factors WHERE user_id = users.id AND confirmed_at IS NOT NULL),
                 (SELECT count(*) FROM passkeys WHERE user_id = users.id),
                 (SELECT count(*) FROM identities WHERE user_id = users.id AND unlinked_at IS NULL), created_at
                 FROM users JOIN plans ON plans.name = users.plan
                 WHERE role <> 'team' AND removed_at IS NULL AND (?1 IS NULL OR users.name = ?1) ORDER BY users.name",
            )?;
            let rows = statement.query_map([name], |row| {
                let of: (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let (plan, plan_id, keys): (String, i64, i64) = (row.get(3)?, row.get(4)?, row.get(5)?);
                let models: String = row.get(7)?;
                let bound = (row.get(6)?, serde_json::from_str(&models).unwrap_or_default());
                let ways = (row.get(8)?, row.get(9)?, row.get::<i64>(10)?, row.get::<i64>(11)?);
                Ok((of, (plan, plan_id, keys), bound, (ways, row.get(12)?)))
            })?;
            // All of them before anything else is asked: answers of a server come one after the other.
            let rows = rows.collect::<Result<Vec<_>, _>>()?;
            let mut users = Vec::new();
            for ((id, user, role), (plan, plan_id, keys), (hours, models), facts) in rows {
                let ((password, second_factor, passkeys, identities), created_at) = facts;
                let limits: Arc<Plan> = self.known_plan(connection, plan_id)?;
                let mut increases = connection.prepare_cached(
                    "SELECT tokens, ends_at FROM increases WHERE user_id = ?1 AND ends_at > ?2 ORDER BY ends_at",
                )?;
                let increases = increases.query_map(params![id, self.now().seconds], |row| {
                    Ok(Increase { tokens: row.get::<i64>(0)?.unsigned_abs(), ends_at: row.get(1)? })
                })?;
                let increases = increases.collect::<Result<_, _>>()?;
                let account = Account::user(id, &limits);
                let (quota, spending) = (self.state_of(connection, &account)?, self.budget_of(connection, &account)?);
                let role = Role::from_text(&role);
                let keys = keys.unsigned_abs();
                users.push(UserRow {
                    user,
                    role,
                    plan,
                    keys,
                    quota,
                    spending,
                    increases,
                    hours,
                    models,
                    password,
                    second_factor,
                    passkeys: passkeys.unsigned_abs(),
                    identities: identities.unsigned_abs(),
                    created_at,
                });
            }
            Ok(users)
        })
    }

    /// Gives a user another plan, from the next request on. What was used this month stays used.
    ///
    /// # Errors
    /// [`LedgerError::UnknownUser`], [`LedgerError::UnknownPlan`], and when it cannot be written.
    pub async fn set_user_plan(&self, user: &str, plan: &str) -> Result<(), LedgerError> {
        let (user, plan, actor, at) = (user.to_owned(), plan.to_owned(), self.actor(), self.now().seconds);
        let changed = self.writer.call(move |connection| {
            if plans::find(connection, &plan)?.is_none() {
                return Ok(Err(LedgerError::UnknownPlan(plan.clone())));
            }
            let mut before = connection.prepare_cached("SELECT plan FROM users WHERE name = ?1")?;
            let before: Option<String> = before.query_row([&user], |row| row.get(0)).optional()?;
            if before.is_none() {
                return Ok(Err(LedgerError::UnknownUser(user.clone())));
            }
            connection.execute("UPDATE users SET plan = ?2 WHERE name = ?1", [&user, &plan])?;
            let detail = json!({"before": before, "after": plan});
            audit::note(connection, Act { at, actor: &actor, action: "user.plan", subject: &user, detail })?;
            Ok(Ok(()))
        });
        changed.await?
    }

    /// Gives a key another plan of its own beside the user's, or none.
    ///
    /// # Errors
    /// [`LedgerError::UnknownKey`], [`LedgerError::UnknownPlan`], and when it cannot be written.
    pub async fn set_key_plan(&self, key: &str, plan: Option<&str>) -> Result<(), LedgerError> {
        let (key, plan, actor, at) = (key.to_owned(), plan.map(str::to_owned), self.actor(), self.now().seconds);
        let changed = self.writer.call(move |connection| {
            if let Some(plan) = &plan
                && plans::find(connection, plan)?.is_none()
            {
                return Ok(Err(LedgerError::UnknownPlan(plan.clone())));
            }
            let changed = connection.execute("UPDATE keys SET plan = ?2 WHERE public_id = ?1", params![key, plan])?;
            if changed == 0 {
                return Ok(Err(LedgerError::UnknownKey(key.clone())));
            }
            let act = Act { at, actor: &actor, action: "key.plan", subject: &key, detail: json!({"after": plan}) };
            audit::note(connection, act)?;
            Ok(Ok(()))
        });
        changed.await?
    }

    /// Gives a user more tokens a month than the plan has, until a moment (seconds since 1970).
    ///
    /// # Errors
    /// [`LedgerError::UnknownUser`], [`LedgerError::InvalidIncrease`], and when it cannot be written.
    pub async fn increase(&self, user: &str, increase: Increase) -> Result<(), LedgerError> {
        let Increase { tokens, ends_at } = increase;
        let now = self.now().seconds;
        if tokens == 0 || tokens > INCREASE_MAX {
            return Err(LedgerError::InvalidIncrease(format!("it is 1 to {INCREASE_MAX} tokens")));
        }
        if ends_at <= now {
            return Err(LedgerError::InvalidIncrease("its end has passed".into()));
        }
        let (user, actor) = (user.to_owned(), self.actor());
        let made = self.writer.call(move |connection| {
            let id: Option<i64> =
                connection.query_row("SELECT id FROM users WHERE name = ?1", [&user], |row| row.get(0)).optional()?;
            let Some(id) = id else { return Ok(Err(LedgerError::UnknownUser(user.clone()))) };
            let running: i64 = connection.query_row(
                "SELECT count(*) FROM increases WHERE user_id = ?1 AND ends_at > ?2",
                [id, now],
                |row| row.get(0),
            )?;
            if running >= INCREASES_MAX {
                return Ok(Err(LedgerError::InvalidIncrease(format!("there are {INCREASES_MAX} already"))));
            }
            connection.execute(
                "INSERT INTO increases (user_id, tokens, ends_at, created_at) VALUES (?1, ?2, ?3, ?4)",
                params![id, i64::try_from(tokens).expect("checked above"), ends_at, now],
            )?;
            let detail = json!({"tokens": tokens, "ends_at": ends_at});
            audit::note(connection, Act { at: now, actor: &actor, action: "user.increase", subject: &user, detail })?;
            Ok(Ok(()))
        });
        made.await?
    }

    /// Ends all temporary increases of a user; how many there were.
    ///
    /// # Errors
    /// [`LedgerError::UnknownUser`], and when it cannot be written.
    pub async fn end_increases(&self, user: &str) -> Result<u64, LedgerError> {
        let (user, now, actor) = (user.to_owned(), self.now().seconds, self.actor());
        let ended = self.writer.call(move |connection| {
            let id: Option<i64> =
                connection.query_row("SELECT id FROM users WHERE name = ?1", [&user], |row| row.get(0)).optional()?;
            let Some(id) = id else { return Ok(Err(LedgerError::UnknownUser(user.clone()))) };
            let ended = connection
                .execute("UPDATE increases SET ends_at = ?2 WHERE user_id = ?1 AND ends_at > ?2", [id, now])?;
            let (action, detail) = ("user.end_increases", json!({"ended": ended}));
            audit::note(connection, Act { at: now, actor: &actor, action, subject: &user, detail })?;
            Ok(Ok(ended as u64))
        });
        ended.await?
    }
}
