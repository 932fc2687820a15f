//! What an account may use in a month, what it used, and what is set aside: `limit = used + reserved + free`.

use std::sync::Arc;

use crate::error::LedgerError;
use crate::key::Principal;
use crate::plan::{Plan, Rate};
use crate::sql::{Connection, OptionalExtension, params};
use crate::time::Moment;

/// Whose tokens are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    User(i64),
    /// A key with a plan of its own.
    Key(i64),
}

impl Holder {
    /// The account's name in the books.
    pub(crate) fn account(self) -> String {
        match self {
            Self::User(id) => format!("user:{id}"),
            Self::Key(id) => format!("key:{id}"),
        }
    }
}

/// An account that a request is charged to.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) holder: Holder,
    pub(crate) name: String,
    pub(crate) plan: Arc<Plan>,
}

impl Account {
    /// That of a user.
    pub(crate) fn user(user: i64, plan: &Arc<Plan>) -> Self {
        let holder = Holder::User(user);
        Self { holder, name: holder.account(), plan: Arc::clone(plan) }
    }

    /// Those of a principal: the user's or the team's, and the key's where it has a plan of its own.
    pub(crate) fn of(principal: &Principal) -> Vec<Self> {
        let account =
            |holder: Holder, plan: &Arc<Plan>| Self { holder, name: holder.account(), plan: Arc::clone(plan) };
        let user = account(Holder::User(principal.payer), &principal.user_plan);
        let key = principal.key_plan.as_ref().map(|plan| account(Holder::Key(principal.key), plan));
        std::iter::once(user).chain(key).collect()
    }

    pub(crate) fn rate(&self, model: &str) -> Rate {
        self.plan.rate(model)
    }
}

/// How an account stands in a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// It has a row in the books.
    is_booked: bool,
    pub(crate) used: i64,
    pub(crate) reserved: i64,
    /// What the month before left.
    carried: i64,
    /// The plan's own limit.
    base: Option<i64>,
    /// The limit with what was carried over and with temporary increases.
    pub(crate) limit: Option<i64>,
}

impl Standing {
    pub(crate) fn of(connection: &Connection, account: &Account, now: &Moment) -> Result<Self, LedgerError> {
        let booked: Option<(i64, i64, i64)> = connection
            .prepare_cached("SELECT used, reserved, carried FROM balances WHERE account = ?1 AND month = ?2")?
            .query_row([&account.name, &now.month], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let base = account.plan.tokens_a_month.map(signed);
        let (used, reserved, carried) = match (booked, base) {
            (Some(booked), _) => booked,
            (None, Some(base)) if account.plan.carry_over => (0, 0, left_over(connection, account, base, now)?),
            (None, _) => (0, 0, 0),
        };
        let limit = match base {
            Some(base) => Some(base + carried + increases(connection, account.holder, now)?),
            None => None,
        };
        Ok(Self { is_booked: booked.is_some(), used, reserved, carried, base, limit })
    }

    /// Tokens left; `None` for no limit.
    pub(crate) fn free(&self) -> Option<i64> {
        self.limit.map(|limit| (limit - self.used - self.reserved).max(0))
    }

    /// Sets tokens aside, and writes down the limit under which that was done.
    pub(crate) fn reserve(
        &self,
        connection: &Connection,
        account: &str,
        month: &str,
        tokens: i64,
    ) -> Result<(), LedgerError> {
        let query = if self.is_booked {
            "UPDATE balances SET reserved = reserved + ?3, base = ?4, carried = ?5, allowance = ?6
             WHERE account = ?1 AND month = ?2"
        } else {
            "INSERT INTO balances (account, month, reserved, base, carried, allowance) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
        };
        connection.prepare_cached(query)?.execute(params![
            account,
            month,
            tokens,
            self.base,
            self.carried,
            self.limit
        ])?;
        Ok(())
    }
}

/// Tokens that a user has beyond the plan for now.
fn increases(connection: &Connection, holder: Holder, now: &Moment) -> Result<i64, LedgerError> {
    let Holder::User(user) = holder else { return Ok(0) };
    let mut statement = connection
        .prepare_cached("SELECT coalesce(sum(tokens), 0) FROM increases WHERE user_id = ?1 AND ends_at > ?2")?;
    Ok(statement.query_row([user, now.seconds], |row| row.get(0))?)
}

/// What is left of the month before, of that month's own limit: neither increases nor what was carried over then.
/// Whoever was here and used nothing has all of it left.
fn left_over(connection: &Connection, account: &Account, base: i64, now: &Moment) -> Result<i64, LedgerError> {
    let before = connection
        .prepare_cached("SELECT base, used + reserved FROM balances WHERE account = ?1 AND month = ?2")?
        .query_row([&account.name, &now.last_month], |row| Ok((row.get::<Option<i64>>(0)?, row.get::<i64>(1)?)))
        .optional()?;
    if let Some((before, taken)) = before {
        return Ok((before.unwrap_or(base) - taken).max(0));
    }
    let (query, id) = match account.holder {
        Holder::User(id) => ("SELECT created_at FROM users WHERE id = ?1", id),
        Holder::Key(id) => ("SELECT created_at FROM keys WHERE id = ?1", id),
    };
    let created: i64 = connection.prepare_cached(query)?.query_row([id], |row| row.get(0))?;
    Ok(if created < now.month_begins { base } else { 0 })
}

/// What an account used in a month, and the limit under which something was last set aside.
pub(crate) fn used_of_limit(
    connection: &Connection,
    account: &str,
    month: &str,
) -> Result<(i64, Option<i64>), LedgerError> {
    let mut statement =
        connection.prepare_cached("SELECT used, allowance FROM balances WHERE account = ?1 AND month = ?2")?;
    Ok(statement.query_row([account, month], |row| Ok((row.get(0)?, row.get(1)?)))?)
}

/// Changes what is used and set aside in an account that has a row.
pub(crate) fn change(
    connection: &Connection,
    account: &str,
    month: &str,
    used: i64,
    reserved: i64,
) -> Result<(), LedgerError> {
    let changed = connection
        .prepare_cached(
            "UPDATE balances SET used = used + ?3, reserved = reserved + ?4 WHERE account = ?1 AND month = ?2",
        )?
        .execute(params![account, month, used, reserved])?;
    if changed == 1 { Ok(()) } else { Err(LedgerError::Inconsistent(format!("{account} has no row for {month}"))) }
}

/// Tokens as `SQLite` stores them.
pub(crate) fn signed(tokens: u64) -> i64 {
    i64::try_from(tokens).expect("limits are checked to be bounded")
}
