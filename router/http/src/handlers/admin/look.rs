//! What owners, admins and auditors look at as a whole: what the box was used for, and whether the audit log is whole.

use std::collections::BTreeMap;

use allerac_ledger::LedgerError;
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;

use crate::auth::Authenticated;
use crate::error::ApiError;
use crate::handlers::list::Params;
use crate::state::AppState;

/// What the box was used for in a month.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct UsageObject {
    object: &'static str,
    /// As `2026-11`, in the time zone of the box.
    month: String,
    /// All months in which something was used, and this one; newest first.
    months: Vec<String>,
    /// By person and model.
    used: Vec<UsedObject>,
    /// What amounts are in, as ISO 4217 has it, in lower case.
    currency: String,
    energy: EnergyObject,
}

/// Energy in a month, beside that of requests.
#[derive(Debug, Serialize, JsonSchema)]
struct EnergyObject {
    /// What is measured: processors, memory, graphics cards. Where there is nothing, the time of processors says who took
    /// how much.
    counters: Vec<String>,
    /// Counters that are there and that the server may not read.
    unreadable: Vec<String>,
    /// What the box took while no request was computed, in kilowatt hours.
    own_kwh: f64,
    /// What that cost.
    own_cost: f64,
}

/// What a person used of a model.
#[derive(Debug, Default, Serialize, JsonSchema)]
struct UsedObject {
    user: String,
    model: String,
    requests: u64,
    prompt_tokens: u64,
    /// Of these, known from before.
    cached_tokens: u64,
    completion_tokens: u64,
    /// Their part of the measured energy, in kilowatt hours.
    energy_kwh: f64,
    /// Their part of the time of processors.
    cpu_seconds: f64,
    /// What it cost: electricity and the machine here, and what other servers took.
    cost: f64,
}

/// Whether the audit log is as it was written.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct VerificationObject {
    object: &'static str,
    whole: bool,
    /// All entries; 0 where something is wrong.
    entries: u64,
    /// The last entry's hash: what to note elsewhere.
    head: Option<String>,
    /// What is wrong.
    problem: Option<String>,
}

/// `GET /v1/admin/usage`.
pub(crate) async fn usage(
    State(state): State<AppState>,
    _: Authenticated,
    mut params: Params,
) -> Result<Json<UsageObject>, ApiError> {
    let asked = params.take("month");
    params.finish()?;
    let present = state.ledger.month();
    let mut months = state.ledger.months_used()?;
    if months.first() != Some(&present) {
        months.insert(0, present.clone());
    }
    let month = asked.unwrap_or(present);
    if !months.contains(&month) {
        let message = "nothing was used in such a month; it is written as 2026-11";
        return Err(ApiError::invalid_value("month", message));
    }
    let mut sums: BTreeMap<(String, String), UsedObject> = BTreeMap::new();
    for row in state.ledger.usage_by_month(Some(&month))? {
        let sum = sums.entry((row.user.clone(), row.model.clone())).or_insert_with(|| UsedObject {
            user: row.user,
            model: row.model,
            ..UsedObject::default()
        });
        sum.requests += row.requests;
        sum.prompt_tokens += row.prompt_tokens;
        sum.cached_tokens += row.cached_tokens;
        sum.completion_tokens += row.completion_tokens;
        sum.energy_kwh += kwh(row.energy_uj);
        sum.cpu_seconds += whole(row.cpu_us) / 1e6;
        sum.cost += money(row.cost) + money(row.electricity) + money(row.machine);
    }
    let (own, sources) = (state.ledger.own_energy(Some(&month))?, state.ledger.energy_sources()?.unwrap_or_default());
    let energy = EnergyObject {
        counters: sources.counters,
        unreadable: sources.unreadable,
        own_kwh: kwh(own.energy_uj),
        own_cost: money(own.electricity),
    };
    let (used, currency) = (sums.into_values().collect(), state.ledger.currency()?);
    Ok(Json(UsageObject { object: "month_usage", month, months, used, currency, energy }))
}

/// Millionths of a joule in kilowatt hours.
fn kwh(energy_uj: u64) -> f64 {
    whole(energy_uj) / 3.6e12
}

/// Billionths of the currency in the currency.
fn money(billionths: u64) -> f64 {
    whole(billionths) / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, and a sum for people beyond")]
fn whole(number: u64) -> f64 {
    number as f64
}

/// `GET /v1/admin/audit_logs/verification`.
pub(crate) async fn verification(
    State(state): State<AppState>,
    _: Authenticated,
    params: Params,
) -> Result<Json<VerificationObject>, ApiError> {
    params.finish()?;
    let ledger = state.ledger.clone();
    // Every entry is read and hashed: that is nothing for a thread that serves.
    let verified = tokio::task::spawn_blocking(move || ledger.verify_audit(None)).await;
    let object = "audit_log_verification";
    Ok(Json(match verified.map_err(|_| ApiError::too_many_requests())? {
        Ok(log) => {
            VerificationObject { object, whole: true, entries: log.entries, head: Some(log.head), problem: None }
        }
        Err(LedgerError::Tampered(why)) => {
            VerificationObject { object, whole: false, entries: 0, head: None, problem: Some(why.to_string()) }
        }
        Err(error) => return Err(error.into()),
    }))
}

/// Whether balances and sums follow from the settled requests and the open ones.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct BooksObject {
    object: &'static str,
    adds_up: bool,
    /// Accounts, each in each month.
    accounts: u64,
    /// Settled requests.
    requests: u64,
    /// Requests that tokens are set aside for.
    open: u64,
    differences: Vec<DifferenceObject>,
}

/// A sum that is not what the journal adds up to.
#[derive(Debug, Serialize, JsonSchema)]
struct DifferenceObject {
    account: String,
    month: String,
    /// Of what: `used`, `reserved`, `money used`...
    what: &'static str,
    books: i64,
    journal: i64,
}

/// `GET /v1/admin/ledger/verification`.
pub(crate) async fn books(
    State(state): State<AppState>,
    _: Authenticated,
    params: Params,
) -> Result<Json<BooksObject>, ApiError> {
    params.finish()?;
    let ledger = state.ledger.clone();
    // The whole journal is added up: that is nothing for a thread that serves.
    let verified = tokio::task::spawn_blocking(move || ledger.verify()).await;
    let verified = verified.map_err(|_| ApiError::too_many_requests())??;
    let told = |off: allerac_ledger::Difference| DifferenceObject {
        account: off.account,
        month: off.month,
        what: off.what,
        books: off.books,
        journal: off.journal,
    };
    Ok(Json(BooksObject {
        object: "ledger_verification",
        adds_up: verified.differences.is_empty(),
        accounts: verified.accounts,
        requests: verified.requests,
        open: verified.open,
        differences: verified.differences.into_iter().map(told).collect(),
    }))
}
