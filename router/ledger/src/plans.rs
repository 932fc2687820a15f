//! Plans as rows: listed, made, changed and removed while the box runs.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::audit::{self, Act};
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::plan::{DEFAULT_PLAN, OWNER_PLAN, Plan};
use crate::sql::{self, Connection, DatabaseError, NONE, OptionalExtension, Row, params};

/// Plans kept in memory. A box has a handful; each change makes a new one.
const KNOWN_MAX: usize = 256;
/// Plans on a box: lists of them are not paged.
const PLANS_MAX: i64 = 1000;

const COLUMNS: &str = "name, tokens_a_month, soft_tokens_a_month, counts, weights, carry_over, requests_a_minute,
    tokens_a_minute, concurrency, parameters_below, models, class, upstreams, storage_bytes,
    upstream_budget";

/// A plan, and who has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanRow {
    /// The plan.
    #[serde(flatten)]
    pub plan: Plan,
    /// Users who have it.
    pub users: u64,
    /// Keys that have it as a limit of their own.
    pub keys: u64,
}

impl Ledger {
    /// All plans, smallest first.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn plans(&self) -> Result<Vec<PlanRow>, LedgerError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {COLUMNS}, (SELECT count(*) FROM users WHERE plan = plans.name),
                 (SELECT count(*) FROM keys WHERE plan = plans.name)
                 FROM plans ORDER BY tokens_a_month IS NULL, tokens_a_month, name"
            ))?;
            let rows = statement.query_map(NONE, |row| {
                let count = |index| Ok::<_, DatabaseError>(row.get::<i64>(index)?.unsigned_abs());
                Ok(PlanRow { plan: plan(row)?, users: count(15)?, keys: count(16)? })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// The plan of a name.
    ///
    /// # Errors
    /// [`LedgerError::UnknownPlan`], and when the ledger cannot be read.
    pub fn plan(&self, name: &str) -> Result<Plan, LedgerError> {
        self.read(|connection| find(connection, name))?.ok_or_else(|| LedgerError::UnknownPlan(name.to_owned()))
    }

    /// Makes a plan.
    ///
    /// # Errors
    /// [`LedgerError::InvalidPlan`], [`LedgerError::PlanExists`], and when it cannot be written.
    pub async fn add_plan(&self, plan: Plan) -> Result<(), LedgerError> {
        plan.check()?;
        let (actor, at) = (self.actor(), self.now().seconds);
        let added = self.writer.call(move |connection| {
            if find(connection, &plan.name)?.is_some() {
                return Ok(Err(LedgerError::PlanExists(plan.name.clone())));
            }
            let plans: i64 = connection.query_row("SELECT count(*) FROM plans", NONE, |row| row.get(0))?;
            if plans >= PLANS_MAX {
                return Ok(Err(LedgerError::InvalidPlan(format!("there are {PLANS_MAX} plans already; remove some"))));
            }
            put(connection, &plan)?;
            let act = Act { at, actor: &actor, action: "plan.add", subject: &plan.name, detail: json!(plan) };
            audit::note(connection, act)?;
            Ok(Ok(()))
        });
        added.await?
    }

    /// Changes a plan for all who have it, from the next request on. What was used stays used.
    ///
    /// # Errors
    /// [`LedgerError::UnknownPlan`], [`LedgerError::InvalidPlan`], and when it cannot be written.
    pub async fn change_plan(
        &self,
        name: &str,
        mut change: impl FnMut(&mut Plan) + Send + 'static,
    ) -> Result<Plan, LedgerError> {
        let (name, actor, at) = (name.to_owned(), self.actor(), self.now().seconds);
        let changed = self.writer.call(move |connection| {
            let Some(mut plan) = find(connection, &name)? else {
                return Ok(Err(LedgerError::UnknownPlan(name.clone())));
            };
            let before = plan.clone();
            change(&mut plan);
            plan.name.clone_from(&name);
            if let Err(error) = plan.check() {
                return Ok(Err(error));
            }
            put(connection, &plan)?;
            let detail = json!({"before": before, "after": plan});
            audit::note(connection, Act { at, actor: &actor, action: "plan.change", subject: &name, detail })?;
            Ok(Ok(plan))
        });
        changed.await?
    }

    /// Removes a plan that nobody has.
    ///
    /// # Errors
    /// [`LedgerError::UnknownPlan`], [`LedgerError::PlanInUse`], [`LedgerError::PlanNeeded`], and when it cannot be
    /// written.
    pub async fn remove_plan(&self, name: &str) -> Result<(), LedgerError> {
        if let Some(needed) = [DEFAULT_PLAN, OWNER_PLAN].into_iter().find(|needed| *needed == name) {
            return Err(LedgerError::PlanNeeded(needed));
        }
        let (name, actor, at) = (name.to_owned(), self.actor(), self.now().seconds);
        let removed = self.writer.call(move |connection| {
            let count = |table: &str| -> Result<i64, LedgerError> {
                let query = format!("SELECT count(*) FROM {table} WHERE plan = ?1");
                Ok(connection.query_row(&query, [&name], |row| row.get(0))?)
            };
            let (users, keys) = (count("users")?.unsigned_abs(), count("keys")?.unsigned_abs());
            if users + keys > 0 {
                return Ok(Err(LedgerError::PlanInUse { plan: name.clone(), users, keys }));
            }
            match connection.execute("DELETE FROM plans WHERE name = ?1", [&name])? {
                0 => Ok(Err(LedgerError::UnknownPlan(name.clone()))),
                _ => {
                    let act = Act { at, actor: &actor, action: "plan.remove", subject: &name, detail: json!({}) };
                    audit::note(connection, act)?;
                    Ok(Ok(()))
                }
            }
        });
        removed.await?
    }

    /// The plan of an id. A plan that is changed gets another id, so what is known of one stays true.
    pub(crate) fn known_plan(&self, connection: &Connection, id: i64) -> Result<Arc<Plan>, LedgerError> {
        if let Some(plan) = self.known_plans().get(&id) {
            return Ok(Arc::clone(plan));
        }
        let query = format!("SELECT {COLUMNS} FROM plans WHERE id = ?1");
        let plan = Arc::new(connection.prepare_cached(&query)?.query_row([id], plan)?);
        let mut known = self.known_plans();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(id, Arc::clone(&plan));
        Ok(plan)
    }
}

pub(crate) fn find(connection: &Connection, name: &str) -> Result<Option<Plan>, LedgerError> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM plans WHERE name = ?1"))?;
    Ok(statement.query_row([name], plan).optional()?)
}

/// Writes a plan in the place of the one of its name, under a new id.
fn put(connection: &Connection, plan: &Plan) -> Result<(), LedgerError> {
    let json = |value: Result<String, _>| value.expect("lists of names and numbers are JSON");
    let tokens = |tokens: Option<u64>| tokens.map(|tokens| i64::try_from(tokens).expect("checked to be bounded"));
    connection.execute("DELETE FROM plans WHERE name = ?1", [&plan.name])?;
    connection
        .prepare_cached(&format!(
            "INSERT INTO plans ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)"
        ))?
        .execute(params![
            plan.name,
            tokens(plan.tokens_a_month),
            tokens(plan.soft_tokens_a_month),
            plan.counts.as_str(),
            json(serde_json::to_string(&plan.weights)),
            plan.carry_over,
            plan.requests_a_minute,
            tokens(plan.tokens_a_minute),
            plan.concurrency,
            tokens(plan.parameters_below),
            json(serde_json::to_string(&plan.models)),
            plan.class.as_str(),
            plan.upstreams,
            tokens(plan.storage_bytes),
            tokens(plan.upstream_budget_billionths)
        ])?;
    Ok(())
}

fn plan(row: Row<'_>) -> sql::Result<Plan> {
    let number = |index| Ok::<_, DatabaseError>(row.get::<Option<i64>>(index)?.map(i64::unsigned_abs));
    Ok(Plan {
        name: row.get(0)?,
        tokens_a_month: number(1)?,
        soft_tokens_a_month: number(2)?,
        counts: word(row, 3)?,
        weights: json(row, 4)?,
        carry_over: row.get(5)?,
        requests_a_minute: row.get(6)?,
        tokens_a_minute: number(7)?,
        concurrency: row.get(8)?,
        parameters_below: number(9)?,
        models: json(row, 10)?,
        class: word(row, 11)?,
        upstreams: row.get(12)?,
        storage_bytes: number(13)?,
        upstream_budget_billionths: number(14)?,
    })
}

fn word<T: std::str::FromStr<Err: std::error::Error>>(row: Row<'_>, index: usize) -> sql::Result<T> {
    let text: String = row.get(index)?;
    text.parse().map_err(|error| unreadable(index, &error))
}

fn json<T: DeserializeOwned>(row: Row<'_>, index: usize) -> sql::Result<T> {
    let text: String = row.get(index)?;
    serde_json::from_str(&text).map_err(|error| unreadable(index, &error))
}

fn unreadable(column: usize, error: &dyn std::error::Error) -> DatabaseError {
    DatabaseError::Column { column, reason: error.to_string() }
}
