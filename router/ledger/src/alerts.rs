//! What somebody is to be told of: limits that are nearly used, and what the box cannot mend by itself.
//!
//! An alert is written in the transaction that it follows from, so a crash neither loses nor doubles it. To whom it goes
//! is decided later, by whoever sends alerts; each of those is told at least once, under the same id.

use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::balance::Holder;
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::prices;
use crate::settings;
use crate::spending::{self, Payer};
use crate::sql::{self, Connection, NONE, OptionalExtension, Row, params};

/// At which percentages of a limit somebody is told, as a JSON list.
const PERCENTS: &str = "alert_percents";
/// How long what was told stays listed, in seconds: a quarter of a year.
const KEPT_S: i64 = 90 * 24 * 3600;
/// How long it is known that something was told, in seconds: longer than any month that can still change.
const TOLD_S: i64 = 400 * 24 * 3600;
/// Alerts that may be kept; beyond, the oldest go. A box tells some a day.
const ALERTS_MAX: i64 = 10_000;
/// Deliveries that are handed out at once.
const DUE_MAX: u32 = 100;

/// Something to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// Its name, the same each time it is tried.
    pub id: String,
    /// When it came, in seconds since 1970.
    pub at: i64,
    /// What kind: `limit.reached`, `backup.failed`...
    pub kind: String,
    /// The rest.
    pub detail: Value,
}

/// An alert on its way to one channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// What is told.
    #[serde(flatten)]
    pub alert: Alert,
    /// To which channel.
    pub channel: String,
    /// `waiting`, `delivered` or `dead`.
    pub state: String,
    /// How often it was tried.
    pub tries: u32,
    /// When it is tried next, in seconds since 1970.
    pub next_at: i64,
    /// Why it was not delivered.
    pub error: Option<String>,
}

/// Which deliveries are wanted.
#[derive(Debug, Clone, Default)]
pub struct DeliveriesWanted {
    /// Those that are `waiting`, `delivered` or `dead`.
    pub state: Option<String>,
    /// Those that come after this one in the list: an alert's id, and a channel.
    pub after: Option<(String, String)>,
}

/// What became of trying to deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    /// The other side took it.
    Delivered,
    /// It is tried again at a moment, in seconds since 1970.
    Again {
        /// When.
        at: i64,
        /// Why.
        error: String,
    },
    /// It is not tried again by itself.
    Dead {
        /// Why.
        error: String,
    },
}

/// What an account used, beside its limit.
pub(crate) struct Usage<'a> {
    pub(crate) holder: Holder,
    pub(crate) month: &'a str,
    pub(crate) used: i64,
    pub(crate) limit: i64,
    /// A request was refused because of it.
    pub(crate) refused: bool,
    pub(crate) now: i64,
}

/// What was spent on other servers, beside its budget.
pub(crate) struct Spent<'a> {
    pub(crate) payer: &'a Payer,
    pub(crate) month: &'a str,
    /// Billionths of the currency.
    pub(crate) used: i64,
    pub(crate) budget: i64,
    /// A request was refused because of it.
    pub(crate) refused: bool,
    pub(crate) now: i64,
}

/// Writes an alert where an account has come to one of the percentages that somebody is told of, once for each
/// account, month and percentage. Where several are reached at once, of the highest.
pub(crate) fn note_usage(connection: &Connection, usage: &Usage<'_>) -> Result<(), LedgerError> {
    let &Usage { holder, month, used, limit, refused, now } = usage;
    let what = format!("limit {} {month}", holder.account());
    let Some(percent) = highest_new(connection, &what, (used, limit, refused), now)? else { return Ok(()) };
    let Whose { user, name, key, plan } = Whose::of(connection, holder)?;
    let detail = json!({
        "percent": percent, "user": name, "key": key, "plan": plan, "month": month, "used": used, "limit": limit,
        "refused": refused,
    });
    insert(connection, ("limit.reached", Some(user)), &detail, now)
}

/// The same of money for other servers.
pub(crate) fn note_budget(connection: &Connection, spent: &Spent<'_>) -> Result<(), LedgerError> {
    let &Spent { payer, month, used, budget, refused, now } = spent;
    let account = match payer {
        Payer::Holder(holder) => holder.account(),
        Payer::Server(served_by) => served_by.clone(),
    };
    let what = format!("budget {account} {month}");
    let Some(percent) = highest_new(connection, &what, (used, budget, refused), now)? else { return Ok(()) };
    let currency = prices::currency(connection)?;
    let mut detail = json!({
        "percent": percent, "month": month, "used_billionths": used, "budget_billionths": budget, "currency": currency,
        "refused": refused,
    });
    let user = match payer {
        Payer::Holder(holder) => {
            let Whose { user, name, key, plan } = Whose::of(connection, *holder)?;
            (detail["user"], detail["key"], detail["plan"]) = (json!(name), json!(key), json!(plan));
            Some(user)
        }
        Payer::Server(served_by) => {
            detail["upstream"] = json!(spending::name_of(served_by));
            None
        }
    };
    insert(connection, ("budget.reached", user), &detail, now)
}

/// The highest percentage of a limit that is reached and was not told of.
fn highest_new(
    connection: &Connection,
    what: &str,
    (used, limit, refused): (i64, i64, bool),
    now: i64,
) -> Result<Option<i64>, LedgerError> {
    let Some(percents) = settings::get(connection, PERCENTS)? else { return Ok(None) };
    let percents: Vec<i64> = serde_json::from_str(&percents).unwrap_or_default();
    let reached = |percent: i64| {
        let is_used = i128::from(used) * 100 >= i128::from(limit) * i128::from(percent);
        is_used || (refused && percent == 100)
    };
    let mut highest = None;
    for percent in percents.into_iter().filter(|percent| reached(*percent)) {
        if is_new(connection, &format!("{what} {percent}"), now)? {
            highest = highest.max(Some(percent));
        }
    }
    Ok(highest)
}

/// Whom an alert is about.
struct Whose {
    user: i64,
    name: String,
    key: Option<String>,
    plan: String,
}

impl Whose {
    fn of(connection: &Connection, holder: Holder) -> Result<Self, LedgerError> {
        let query = match holder {
            Holder::User(_) => "SELECT id, name, NULL, plan FROM users WHERE id = ?1",
            Holder::Key(_) => {
                "SELECT users.id, name, public_id, keys.plan FROM keys JOIN users ON users.id = user_id
                 WHERE keys.id = ?1"
            }
        };
        let (Holder::User(id) | Holder::Key(id)) = holder;
        Ok(connection.prepare_cached(query)?.query_row([id], |row| {
            Ok(Self { user: row.get(0)?, name: row.get(1)?, key: row.get(2)?, plan: row.get(3)? })
        })?)
    }
}

/// Whether something was not told yet; from now on it was.
fn is_new(connection: &Connection, what: &str, now: i64) -> Result<bool, LedgerError> {
    let mut statement =
        connection.prepare_cached("INSERT INTO alerts_told (what, at) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?;
    Ok(statement.execute(params![what, now])? == 1)
}

fn insert(
    connection: &Connection,
    (kind, user): (&str, Option<i64>),
    detail: &Value,
    now: i64,
) -> Result<(), LedgerError> {
    connection
        .prepare_cached("INSERT INTO alerts (id, at, kind, user_id, detail) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![Uuid::now_v7().to_string(), now, kind, user, detail.to_string()])?;
    connection
        .prepare_cached("DELETE FROM alerts WHERE at < ?1 OR seq <= (SELECT max(seq) FROM alerts) - ?2")?
        .execute(params![now - KEPT_S, ALERTS_MAX])?;
    connection.prepare_cached("DELETE FROM alerts_told WHERE at < ?1")?.execute([now - TOLD_S])?;
    Ok(())
}

/// Takes out what is about a person.
pub(crate) fn forget(connection: &Connection, user: i64) -> Result<(), LedgerError> {
    connection.execute("DELETE FROM alerts WHERE user_id = ?1", [user])?;
    Ok(())
}

const SELECT: &str = "SELECT alerts.id, at, kind, detail, channel, state, tries, next_at, error
    FROM deliveries JOIN alerts ON seq = alert";

fn delivery(row: Row<'_>) -> sql::Result<Delivery> {
    let detail: String = row.get(3)?;
    let alert = Alert {
        id: row.get(0)?,
        at: row.get(1)?,
        kind: row.get(2)?,
        detail: serde_json::from_str(&detail).unwrap_or(Value::String(detail)),
    };
    Ok(Delivery {
        alert,
        channel: row.get(4)?,
        state: row.get(5)?,
        tries: row.get(6)?,
        next_at: row.get(7)?,
        error: row.get(8)?,
    })
}

impl Ledger {
    /// At which percentages of a limit somebody is told from now on; none tells nobody.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn alert_at(&self, percents: &[u32]) -> Result<(), LedgerError> {
        let percents = json!(percents).to_string();
        self.writer.call(move |connection| settings::set(connection, PERCENTS, &percents)).await
    }

    /// Tells of something, once where `once` names what it is about; whether it is told now.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn alert(&self, kind: &'static str, once: Option<String>, detail: Value) -> Result<bool, LedgerError> {
        let now = self.now().seconds;
        let told = self.writer.call(move |connection| {
            if let Some(once) = &once
                && !is_new(connection, once, now)?
            {
                return Ok(false);
            }
            insert(connection, (kind, None), &detail, now)?;
            Ok(true)
        });
        told.await
    }

    /// Decides to which channels new alerts go, and hands out what is due. `wanted` says whether a channel wants a kind.
    ///
    /// # Errors
    /// When the ledger cannot be read or written.
    pub async fn due_alerts(
        &self,
        channels: &[String],
        wanted: impl Fn(&str, &str) -> bool + Send + 'static,
    ) -> Result<Vec<Delivery>, LedgerError> {
        let now = self.now().seconds;
        let (new, due) = self.read(|connection| {
            let new = connection.prepare_cached("SELECT 1 FROM alerts WHERE planned = 0")?.exists(NONE)?;
            let mut due =
                connection.prepare_cached("SELECT 1 FROM deliveries WHERE state = 'waiting' AND next_at <= ?1")?;
            Ok((new, due.exists([now])?))
        })?;
        if new {
            let channels = channels.to_vec();
            self.writer.call(move |connection| plan(connection, &channels, &wanted, now)).await?;
        } else if !due {
            return Ok(Vec::new());
        }
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "{SELECT} WHERE state = 'waiting' AND next_at <= ?1 ORDER BY next_at, seq LIMIT ?2"
            ))?;
            let rows = statement.query_map([now, i64::from(DUE_MAX)], delivery)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Writes down what became of trying to deliver.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn alert_tried(&self, delivery: &Delivery, tried: Tried) -> Result<(), LedgerError> {
        let (id, channel) = (delivery.alert.id.clone(), delivery.channel.clone());
        let written = self.writer.call(move |connection| {
            let (state, next_at, error) = match &tried {
                Tried::Delivered => ("delivered", 0, None),
                Tried::Again { at, error } => ("waiting", *at, Some(error)),
                Tried::Dead { error } => ("dead", 0, Some(error)),
            };
            connection.execute(
                "UPDATE deliveries SET state = ?3, next_at = ?4, error = ?5, tries = tries + 1
                 WHERE alert = (SELECT seq FROM alerts WHERE id = ?1) AND channel = ?2",
                params![id, channel, state, next_at, error],
            )?;
            Ok(())
        });
        written.await
    }

    /// What was told and what was not, newest first.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn deliveries(&self, wanted: &DeliveriesWanted, limit: u32) -> Result<Vec<Delivery>, LedgerError> {
        let (id, channel) = wanted.after.clone().unwrap_or_default();
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "{SELECT} WHERE (?1 IS NULL OR state = ?1) AND (?2 = '' OR seq < (SELECT seq FROM alerts WHERE id = ?2)
                 OR (alerts.id = ?2 AND channel > ?3)) ORDER BY seq DESC, channel LIMIT ?4"
            ))?;
            let rows = statement.query_map(params![wanted.state, id, channel, limit], delivery)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Has what is dead tried again, all of it or of one alert; how many.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn retry_alerts(&self, id: Option<String>) -> Result<u64, LedgerError> {
        let now = self.now().seconds;
        let retried = self.writer.call(move |connection| {
            let changed = connection.execute(
                "UPDATE deliveries SET state = 'waiting', tries = 0, next_at = ?2 WHERE state = 'dead'
                 AND (?1 IS NULL OR alert = (SELECT seq FROM alerts WHERE id = ?1))",
                params![id, now],
            )?;
            Ok(changed as u64)
        });
        retried.await
    }
}

fn plan(
    connection: &Connection,
    channels: &[String],
    wanted: &impl Fn(&str, &str) -> bool,
    now: i64,
) -> Result<(), LedgerError> {
    let next = "SELECT seq, kind FROM alerts WHERE planned = 0 ORDER BY seq LIMIT 1";
    while let Some((seq, kind)) = connection
        .prepare_cached(next)?
        .query_row(NONE, |row| Ok((row.get::<i64>(0)?, row.get::<String>(1)?)))
        .optional()?
    {
        for channel in channels.iter().filter(|channel| wanted(channel, &kind)) {
            connection
                .prepare_cached(
                    "INSERT INTO deliveries (alert, channel, state, next_at) VALUES (?1, ?2, 'waiting', ?3)",
                )?
                .execute(params![seq, channel, now])?;
        }
        connection.prepare_cached("UPDATE alerts SET planned = 1 WHERE seq = ?1")?.execute([seq])?;
    }
    Ok(())
}
