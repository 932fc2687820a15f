//! What is spent on other servers in a month, in billionths of the currency: by whoever pays for a request, and of each
//! server's own budget. `budget = used + reserved + free`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::alerts::{self, Spent};
use crate::balance::{Account, Holder, signed};
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::prices::LOCAL;
use crate::settings;
use crate::sql::{Connection, OptionalExtension, params};

/// The budgets of servers by `upstream:NAME`, as JSON.
const BUDGETS: &str = "upstream_budgets";

/// What may be spent on other servers in this month, in billionths of the currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BudgetState {
    /// The budget; `None` for no limit.
    pub limit: Option<u64>,
    /// What was spent.
    pub used: u64,
    /// What is set aside for running requests.
    pub reserved: u64,
    /// What is left; `None` for no limit.
    pub free: Option<u64>,
}

/// How the budget of another server stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UpstreamBudget {
    /// Its name.
    pub upstream: String,
    /// Its budget, for all who use it together.
    #[serde(flatten)]
    pub state: BudgetState,
}

/// Whose money it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Payer {
    Holder(Holder),
    /// All who use it, by `upstream:NAME`.
    Server(String),
}

/// A payer, and how much they may spend in a month.
pub(crate) struct Purse {
    payer: Payer,
    budget: Option<i64>,
}

/// A payer has less left than is wanted.
pub(crate) struct NoMoney {
    /// The server whose own budget it is.
    pub(crate) upstream: Option<String>,
    pub(crate) limit: u64,
    pub(crate) free: u64,
    pub(crate) requested: u64,
}

impl Payer {
    /// Those of a request: the accounts that it is charged to, and the server that computes it. Nobody pays for what is
    /// computed here.
    pub(crate) fn of(holders: impl IntoIterator<Item = Holder>, served_by: &str) -> Vec<Self> {
        if served_by == LOCAL {
            return Vec::new();
        }
        let server = Self::Server(served_by.to_owned());
        holders.into_iter().map(Self::Holder).chain([server]).collect()
    }

    fn account(&self) -> String {
        match self {
            Self::Holder(holder) => holder.account(),
            Self::Server(served_by) => served_by.clone(),
        }
    }
}

impl Purse {
    /// Those of a request that is begun now.
    pub(crate) fn of(connection: &Connection, accounts: &[Account], served_by: &str) -> Result<Vec<Self>, LedgerError> {
        if served_by == LOCAL {
            return Ok(Vec::new());
        }
        let own = budgets(connection)?.get(served_by).copied().map(signed);
        let server = Self { payer: Payer::Server(served_by.to_owned()), budget: own };
        let account = |account: &Account| Self {
            payer: Payer::Holder(account.holder),
            budget: account.plan.upstream_budget_billionths.map(signed),
        };
        Ok(accounts.iter().map(account).chain([server]).collect())
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.budget.is_some()
    }

    /// Refuses what the payer has too little left for.
    pub(crate) fn check(
        &self,
        connection: &Connection,
        (month, now): (&str, i64),
        cost: i64,
    ) -> Result<Result<(), NoMoney>, LedgerError> {
        let Some(budget) = self.budget else { return Ok(Ok(())) };
        let (used, reserved) = standing(connection, &self.payer.account(), month)?;
        let free = (budget - used - reserved).max(0);
        if cost <= free {
            return Ok(Ok(()));
        }
        alerts::note_budget(connection, &Spent { payer: &self.payer, month, used, budget, refused: true, now })?;
        let upstream = match &self.payer {
            Payer::Server(served_by) => Some(name_of(served_by)),
            Payer::Holder(_) => None,
        };
        let [limit, free, requested] = [budget, free, cost].map(i64::unsigned_abs);
        Ok(Err(NoMoney { upstream, limit, free, requested }))
    }

    /// Sets money aside, and writes down the budget under which that was done.
    pub(crate) fn reserve(&self, connection: &Connection, month: &str, cost: i64) -> Result<(), LedgerError> {
        connection
            .prepare_cached(
                "INSERT INTO spending AS spent (account, month, reserved, budget) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (account, month) DO UPDATE SET reserved = spent.reserved + excluded.reserved,
                 budget = excluded.budget",
            )?
            .execute(params![self.payer.account(), month, cost, self.budget])?;
        Ok(())
    }
}

/// Changes what these have spent and what is set aside of theirs.
pub(crate) fn change(
    connection: &Connection,
    payers: &[Payer],
    month: &str,
    (used, reserved): (i64, i64),
) -> Result<(), LedgerError> {
    if (used, reserved) == (0, 0) {
        return Ok(());
    }
    for account in payers.iter().map(Payer::account) {
        let changed = connection
            .prepare_cached(
                "UPDATE spending SET used = used + ?3, reserved = reserved + ?4 WHERE account = ?1 AND month = ?2",
            )?
            .execute(params![account, month, used, reserved])?;
        if changed != 1 {
            return Err(LedgerError::Inconsistent(format!("{account} spends in {month} and has no row for it")));
        }
    }
    Ok(())
}

/// Tells of budgets that were nearly spent by what was just settled.
pub(crate) fn note(connection: &Connection, payers: &[Payer], month: &str, now: i64) -> Result<(), LedgerError> {
    for payer in payers {
        let found: Option<(i64, Option<i64>)> = connection
            .prepare_cached("SELECT used, budget FROM spending WHERE account = ?1 AND month = ?2")?
            .query_row([payer.account().as_str(), month], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        if let Some((used, Some(budget))) = found {
            alerts::note_budget(connection, &Spent { payer, month, used, budget, refused: false, now })?;
        }
    }
    Ok(())
}

/// The name of a server that something was computed by.
pub(crate) fn name_of(served_by: &str) -> String {
    served_by.split_once(':').map_or(served_by, |(_, name)| name).to_owned()
}

fn standing(connection: &Connection, account: &str, month: &str) -> Result<(i64, i64), LedgerError> {
    let found = connection
        .prepare_cached("SELECT used, reserved FROM spending WHERE account = ?1 AND month = ?2")?
        .query_row([account, month], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(found.unwrap_or((0, 0)))
}

fn budgets(connection: &Connection) -> Result<BTreeMap<String, u64>, LedgerError> {
    let text = settings::get(connection, BUDGETS)?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
}

fn state((used, reserved): (i64, i64), limit: Option<u64>) -> BudgetState {
    let (used, reserved) = (used.unsigned_abs(), reserved.unsigned_abs());
    BudgetState { limit, used, reserved, free: limit.map(|limit| limit.saturating_sub(used + reserved)) }
}

impl Ledger {
    /// From now on, these are the budgets a month of other servers, by `upstream:NAME`, in billionths of the currency. Of
    /// those that are not named all may be spent.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn set_upstream_budgets(&self, budgets: &BTreeMap<String, u64>) -> Result<(), LedgerError> {
        let text = serde_json::to_string(budgets).expect("names and numbers are JSON");
        self.writer.call(move |connection| settings::set(connection, BUDGETS, &text)).await
    }

    /// How the budgets of other servers stand this month: of those that have one, and of all that something was spent on.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn upstream_budgets(&self) -> Result<Vec<UpstreamBudget>, LedgerError> {
        let month = self.month();
        self.read(|connection| {
            let budgets = budgets(connection)?;
            let mut statement = connection.prepare_cached(
                "SELECT account, used, reserved FROM spending WHERE month = ?1 AND account LIKE 'upstream:%'",
            )?;
            let rows = statement.query_map([&month], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
            let mut spent: BTreeMap<String, (i64, i64)> = rows.collect::<Result<_, _>>()?;
            for account in budgets.keys() {
                spent.entry(account.clone()).or_default();
            }
            let told = |(account, spent): (String, _)| UpstreamBudget {
                state: state(spent, budgets.get(&account).copied()),
                upstream: name_of(&account),
            };
            Ok(spent.into_iter().map(told).collect())
        })
    }

    /// What an account has left for other servers this month.
    pub(crate) fn budget_of(&self, connection: &Connection, account: &Account) -> Result<BudgetState, LedgerError> {
        let spent = standing(connection, &account.name, &self.month())?;
        Ok(state(spent, account.plan.upstream_budget_billionths))
    }
}
