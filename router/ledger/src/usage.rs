//! Who used what, and how much is left. Each settled request is a row; the sums of a day are kept beside them, in the
//! same transaction, so that looking at a year does not read a million rows.

use serde::Serialize;

use crate::balance::{self, Account, Holder, Standing};
use crate::energy;
use crate::error::LedgerError;
use crate::key::Principal;
use crate::ledger::Ledger;
use crate::reservation::Settlement;
use crate::spending::{self, Payer};
use crate::sql::{Connection, DatabaseError, NONE, OptionalExtension, params};

/// The tokens of one key with one model on one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UsageRow {
    /// In the owner's time zone.
    pub day: String,
    /// Whose.
    pub user: String,
    /// The key's public id.
    pub key: String,
    /// What the key is for.
    pub name: String,
    /// The model.
    pub model: String,
    /// Where it was computed.
    pub served_by: String,
    /// Requests.
    pub requests: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Of these, known from before.
    pub cached_tokens: u64,
    /// Tokens of output.
    pub completion_tokens: u64,
    /// What other servers took, in billionths of the currency.
    pub cost: u64,
    /// Energy of the box, in millionths of a joule.
    pub energy_uj: u64,
    /// Time of its processors, in millionths of a second.
    pub cpu_us: u64,
    /// What the energy cost, in billionths of the currency.
    pub electricity: u64,
    /// Parts of the machine's price, in billionths of the currency.
    pub machine: u64,
}

/// What an account has left this month: `limit = used + reserved + free`, unless more was used than the limit is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct QuotaState {
    /// Tokens of the plan, with what was carried over and with temporary increases; `None` for no limit.
    pub limit: Option<u64>,
    /// Beyond so many, requests wait for everybody else's.
    pub soft_limit: Option<u64>,
    /// Tokens used, as the plan counts them.
    pub used: u64,
    /// Tokens set aside for running requests.
    pub reserved: u64,
    /// Tokens left; `None` for no limit.
    pub free: Option<u64>,
    /// When the month ends, in seconds since 1970.
    pub renews_at: i64,
}

impl Ledger {
    /// Usage by day, key, model and place, newest day first; of one month (`2026-11`) or of all.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn usage(&self, month: Option<&str>) -> Result<Vec<UsageRow>, LedgerError> {
        self.rows(
            month,
            "SELECT day, users.name, keys.public_id, keys.label, model, served_by, sum(requests), sum(prompt_tokens),
             sum(cached_tokens), sum(completion_tokens), sum(cost), sum(energy_uj), sum(cpu_us), sum(electricity),
             sum(machine) FROM usage_daily AS sums",
            "GROUP BY day, users.id, keys.id, model, served_by ORDER BY day DESC, users.name, keys.id, model, served_by",
        )
    }

    /// Usage by month, key and model, newest month first: `day` is the month, and where it was computed is not told.
    /// A year of it is read in milliseconds, however many requests there were.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn usage_by_month(&self, month: Option<&str>) -> Result<Vec<UsageRow>, LedgerError> {
        self.rows(
            month,
            "SELECT month, users.name, keys.public_id, keys.label, model, '', requests, prompt_tokens, cached_tokens,
             completion_tokens, cost, energy_uj, cpu_us, electricity, machine FROM usage_monthly AS sums",
            "ORDER BY month DESC, users.name, keys.id, model",
        )
    }

    /// Months in which something was used, as `2026-11`, newest first.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn months_used(&self) -> Result<Vec<String>, LedgerError> {
        self.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT DISTINCT month FROM usage_monthly ORDER BY month DESC")?;
            let months = statement.query_map(NONE, |row| row.get(0))?;
            Ok(months.collect::<Result<_, _>>()?)
        })
    }

    /// This month, in the owner's time zone.
    #[must_use]
    pub fn month(&self) -> String {
        self.now().month
    }

    fn rows(&self, month: Option<&str>, select: &str, order: &str) -> Result<Vec<UsageRow>, LedgerError> {
        self.read(|connection| {
            let of_month = if month.is_some() { "WHERE month = ?1" } else { "WHERE ?1 IS NULL" };
            let mut statement = connection.prepare_cached(&format!(
                "{select} JOIN keys ON keys.id = sums.key_id JOIN users ON users.id = keys.user_id {of_month} {order}"
            ))?;
            let rows = statement.query_map([month], |row| {
                let count = |index| Ok::<_, DatabaseError>(row.get::<i64>(index)?.unsigned_abs());
                Ok(UsageRow {
                    day: row.get(0)?,
                    user: row.get(1)?,
                    key: row.get(2)?,
                    name: row.get(3)?,
                    model: row.get(4)?,
                    served_by: row.get(5)?,
                    requests: count(6)?,
                    prompt_tokens: count(7)?,
                    cached_tokens: count(8)?,
                    completion_tokens: count(9)?,
                    cost: count(10)?,
                    energy_uj: count(11)?,
                    cpu_us: count(12)?,
                    electricity: count(13)?,
                    machine: count(14)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// What whoever pays for a key has left this month.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn quota(&self, principal: &Principal) -> Result<QuotaState, LedgerError> {
        let user = Account::user(principal.payer, &principal.user_plan);
        self.read(|connection| self.state_of(connection, &user))
    }

    pub(crate) fn state_of(&self, connection: &Connection, account: &Account) -> Result<QuotaState, LedgerError> {
        let now = self.now();
        let standing = Standing::of(connection, account, &now)?;
        Ok(QuotaState {
            limit: standing.limit.map(i64::unsigned_abs),
            soft_limit: account.plan.soft_tokens_a_month,
            used: standing.used.unsigned_abs(),
            reserved: standing.reserved.unsigned_abs(),
            free: standing.free().map(i64::unsigned_abs),
            renews_at: now.month_ends,
        })
    }

    /// Whether user or key used so much this month that their requests are to wait for everybody else's.
    pub(crate) fn is_past_soft_limit(
        &self,
        connection: &Connection,
        principal: &Principal,
    ) -> Result<bool, LedgerError> {
        let soft = |account: &Account| account.plan.soft_tokens_a_month;
        let limited: Vec<Account> =
            Account::of(principal).into_iter().filter(|account| soft(account).is_some()).collect();
        if limited.is_empty() {
            return Ok(false);
        }
        let now = self.now();
        for account in &limited {
            let standing = Standing::of(connection, account, &now)?;
            if soft(account).is_some_and(|limit| standing.used >= balance::signed(limit)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Takes back what a request was charged when it ran before. Nobody is charged for the energy of an answer that was lost:
/// it is the box's own.
pub(crate) fn undo(connection: &Connection, reservation: i64) -> Result<(), LedgerError> {
    let before = connection
        .prepare_cached(
            "SELECT usage.id, usage.user_id, usage.key_id, usage.key_account, usage.month, user_charge, key_charge,
             usage.day, usage.model, usage.served_by, prompt_tokens, cached_tokens, completion_tokens, usage.endpoint,
             usage.cost, usage.energy_uj, usage.cpu_us, usage.electricity, usage.machine
             FROM usage JOIN reservations USING (request_id) WHERE reservations.id = ?1",
        )?
        .query_row([reservation], |row| {
            let (id, user, key, key_account): (i64, i64, i64, bool) =
                (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            let charges: (i64, i64) = (row.get(5)?, row.get(6)?);
            let (month, day, model, served_by) = (row.get(4)?, row.get(7)?, row.get(8)?, row.get(9)?);
            let day = Day { month, day, key, model, served_by, endpoint: row.get(13)? };
            let mut counted = [0; 8];
            for (place, column) in [10, 11, 12, 14, 15, 16, 17, 18].into_iter().enumerate() {
                counted[place] = row.get(column)?;
            }
            Ok((id, user, key_account, charges, day, counted))
        })
        .optional()?;
    let Some((id, user, key_account, (user_charge, key_charge), day, counted)) = before else { return Ok(()) };
    balance::change(connection, &Holder::User(user).account(), &day.month, -user_charge, 0)?;
    if key_account {
        balance::change(connection, &Holder::Key(day.key).account(), &day.month, -key_charge, 0)?;
    }
    let key = key_account.then_some(Holder::Key(day.key));
    let payers = Payer::of([Holder::User(user)].into_iter().chain(key), &day.served_by);
    let [_, _, _, cost, ..] = counted;
    spending::change(connection, &payers, &day.month, (-cost, 0))?;
    day.take_back(connection, counted)?;
    let [.., energy, _, electricity, _] = counted;
    energy::add_own(connection, (&day.month, &day.day), [energy, electricity])?;
    connection.prepare_cached("DELETE FROM usage WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// What the sums of a day are kept by.
struct Day {
    month: String,
    day: String,
    key: i64,
    model: String,
    served_by: String,
    endpoint: String,
}

impl Day {
    /// Takes one request out of the sums. None are kept of nothing.
    fn take_back(&self, connection: &Connection, counted: [i64; 8]) -> Result<(), LedgerError> {
        const LESS: &str = "SET requests = requests - 1, prompt_tokens = prompt_tokens - ?1,
            cached_tokens = cached_tokens - ?2, completion_tokens = completion_tokens - ?3, cost = cost - ?4,
            energy_uj = energy_uj - ?5, cpu_us = cpu_us - ?6, electricity = electricity - ?7, machine = machine - ?8";
        let Self { month, day, key, model, served_by, endpoint } = self;
        let [prompt, cached, completion, cost, energy, cpu, electricity, machine] = counted;
        connection
            .prepare_cached(&format!(
                "UPDATE usage_daily {LESS} WHERE month = ?9 AND day = ?10 AND key_id = ?11 AND model = ?12
                 AND served_by = ?13 AND endpoint = ?14"
            ))?
            .execute(params![
                prompt,
                cached,
                completion,
                cost,
                energy,
                cpu,
                electricity,
                machine,
                month,
                day,
                key,
                model,
                served_by,
                endpoint
            ])?;
        connection
            .prepare_cached(
                "DELETE FROM usage_daily WHERE month = ?1 AND day = ?2 AND key_id = ?3 AND model = ?4 AND served_by = ?5
                 AND endpoint = ?6 AND requests = 0",
            )?
            .execute(params![month, day, key, model, served_by, endpoint])?;
        connection
            .prepare_cached(&format!("UPDATE usage_monthly {LESS} WHERE month = ?9 AND key_id = ?10 AND model = ?11"))?
            .execute(params![prompt, cached, completion, cost, energy, cpu, electricity, machine, month, key, model])?;
        connection
            .prepare_cached(
                "DELETE FROM usage_monthly WHERE month = ?1 AND key_id = ?2 AND model = ?3 AND requests = 0",
            )?
            .execute(params![month, key, model])?;
        Ok(())
    }
}

/// What a request is charged: tokens of the user's and of the key's, and what another server takes for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Charges {
    pub(crate) user: i64,
    pub(crate) key: i64,
    /// Billionths of the currency.
    pub(crate) cost: i64,
}

/// Writes down what a request cost, and adds it to its day.
pub(crate) fn insert(
    connection: &Connection,
    reservation: i64,
    settlement: Settlement,
    charges: Charges,
    now: i64,
) -> Result<(), LedgerError> {
    connection
        .prepare_cached(
            "INSERT INTO usage (request_id, key_id, user_id, key_account, model, endpoint, served_by, prompt_tokens,
             cached_tokens, completion_tokens, outcome, day, month, created_at, settled_at, user_charge, key_charge, cost)
             SELECT request_id, key_id, user_id, key_account, model, endpoint, served_by, ?2, ?3, ?4, ?5, day, month,
             created_at, ?8, ?6, ?7, ?9 FROM reservations WHERE id = ?1",
        )?
        .execute(params![
            reservation,
            settlement.prompt_tokens,
            settlement.cached_tokens,
            settlement.completion_tokens,
            settlement.outcome.as_str(),
            charges.user,
            charges.key,
            now,
            charges.cost
        ])?;
    let Settlement { prompt_tokens, cached_tokens, completion_tokens, .. } = settlement;
    connection
        .prepare_cached(
            "INSERT INTO usage_daily AS sums (month, day, key_id, model, served_by, endpoint, requests, prompt_tokens,
             cached_tokens, completion_tokens, cost)
             SELECT month, day, key_id, model, served_by, endpoint, 1, ?2, ?3, ?4, ?5 FROM reservations WHERE id = ?1
             ON CONFLICT (month, day, key_id, model, served_by, endpoint) DO UPDATE SET requests = sums.requests + 1,
             prompt_tokens = sums.prompt_tokens + excluded.prompt_tokens,
             cached_tokens = sums.cached_tokens + excluded.cached_tokens,
             completion_tokens = sums.completion_tokens + excluded.completion_tokens, cost = sums.cost + excluded.cost",
        )?
        .execute(params![reservation, prompt_tokens, cached_tokens, completion_tokens, charges.cost])?;
    connection
        .prepare_cached(
            "INSERT INTO usage_monthly AS sums (month, key_id, model, requests, prompt_tokens, cached_tokens,
             completion_tokens, cost) SELECT month, key_id, model, 1, ?2, ?3, ?4, ?5 FROM reservations WHERE id = ?1
             ON CONFLICT (month, key_id, model) DO UPDATE SET requests = sums.requests + 1,
             prompt_tokens = sums.prompt_tokens + excluded.prompt_tokens,
             cached_tokens = sums.cached_tokens + excluded.cached_tokens,
             completion_tokens = sums.completion_tokens + excluded.completion_tokens, cost = sums.cost + excluded.cost",
        )?
        .execute(params![reservation, prompt_tokens, cached_tokens, completion_tokens, charges.cost])?;
    Ok(())
}
