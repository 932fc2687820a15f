//! Plans, and the audit log.

use allerac_ledger::{AuditWanted, LedgerError, Plan, PlanRow};
use allerac_objects::Order;
use allerac_wire::ListPage;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Named, name};
use crate::auth::Authenticated;
use crate::error::ApiError;
use crate::handlers::account::acting;
use crate::handlers::list::{PAGE_MAX, Params, page, told};
use crate::handlers::objects::{AuditObject, PlanObject};
use crate::handlers::{Bounded, SmallBody, parse};
use crate::state::AppState;

/// Entries on a page of the audit log, where the client does not say.
const ENTRIES_DEFAULT: u64 = 20;

/// Limits of a plan. Null takes a limit away; what is left out stays, and is not limited in a new plan.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "it describes what `Plan` reads")]
pub(crate) struct PlanLimits {
    tokens_a_month: Option<u64>,
    soft_tokens_a_month: Option<u64>,
    /// `input`, `output`, `both` or `weighted`.
    counts: Option<String>,
    weights: Option<Vec<PlanWeight>>,
    carry_over: Option<bool>,
    requests_a_minute: Option<u32>,
    tokens_a_minute: Option<u64>,
    concurrency: Option<u32>,
    /// Models with fewer parameters than this.
    parameters_below: Option<u64>,
    models: Option<Vec<String>>,
    /// `batch`, `chat` or `voice`.
    class: Option<String>,
    upstreams: Option<bool>,
    /// What somebody may keep in files, responses and batches.
    storage_bytes: Option<u64>,
    /// What may be spent on other servers in a calendar month, in billionths of the currency.
    upstream_budget_billionths: Option<u64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "it describes what `Plan` reads")]
struct PlanWeight {
    model: String,
    input_thousandths: u32,
    output_thousandths: u32,
}

/// A plan to be made.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "it describes what is read field by field")]
pub(crate) struct PlanRequest {
    name: String,
    /// A plan to begin with instead of none.
    like: Option<String>,
    limits: Option<PlanLimits>,
}

/// `GET /v1/admin/plans`, smallest first.
pub(crate) async fn list(
    State(state): State<AppState>,
    _: Authenticated,
    params: Params,
) -> Result<Json<ListPage<Value>>, ApiError> {
    let all = state.ledger.plans()?.into_iter().map(|row| json!(PlanObject::from(row)));
    told(all.collect(), params, Order::Ascending)
}

/// `POST /v1/admin/plans`.
pub(crate) async fn create(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    Bounded(body): SmallBody,
) -> Result<(StatusCode, Json<PlanObject>), ApiError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Asked {
        name: String,
        like: Option<String>,
        #[serde(default)]
        limits: Map<String, Value>,
    }
    let Asked { name, like, limits } = parse(&body)?;
    let begin = match like {
        Some(like) => state.ledger.plan(&like)?,
        None => Plan::open(&name),
    };
    let plan = changed(&Plan { name: name.clone(), ..begin }, limits)?;
    acting(&state, &caller).add_plan(plan).await?;
    Ok((StatusCode::CREATED, Json(find(&state, &name)?.into())))
}

/// `GET /v1/admin/plans/{id}`.
pub(crate) async fn get(
    State(state): State<AppState>,
    _: Authenticated,
    path: Named,
) -> Result<Json<PlanObject>, ApiError> {
    Ok(Json(find(&state, &name(path)?)?.into()))
}

/// `POST /v1/admin/plans/{id}`: for all who have it, from the next request on. What was used stays used.
pub(crate) async fn update(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    path: Named,
    Bounded(body): SmallBody,
) -> Result<Json<PlanObject>, ApiError> {
    let id = name(path)?;
    let limits: Map<String, Value> = parse(&body)?;
    // Whatever is wrong with the limits is wrong whatever the plan is by then.
    changed(&find(&state, &id)?.plan, limits.clone())?;
    let change = move |plan: &mut Plan| {
        if let Ok(changed) = changed(plan, limits.clone()) {
            *plan = changed;
        }
    };
    acting(&state, &caller).change_plan(&id, change).await?;
    Ok(Json(find(&state, &id)?.into()))
}

/// `DELETE /v1/admin/plans/{id}`, where nobody has it.
pub(crate) async fn remove(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    path: Named,
) -> Result<StatusCode, ApiError> {
    let id = name(path)?;
    find(&state, &id)?;
    acting(&state, &caller).remove_plan(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A plan with other limits.
fn changed(plan: &Plan, limits: Map<String, Value>) -> Result<Plan, ApiError> {
    let mut json = serde_json::to_value(plan).unwrap_or_default();
    for (field, value) in limits {
        if field == "name" {
            return Err(ApiError::invalid_value("name", "plans are not renamed: make another one"));
        }
        json[field.as_str()] = value;
    }
    let plan: Plan = parse(json.to_string().as_bytes())?;
    plan.check()?;
    Ok(plan)
}

fn find(state: &AppState, name: &str) -> Result<PlanRow, ApiError> {
    let found = state.ledger.plans()?.into_iter().find(|row| row.plan.name == name);
    found.ok_or_else(|| LedgerError::Missing { what: "plan", id: name.to_owned() }.into())
}

/// `GET /v1/admin/audit_logs`, newest first.
pub(crate) async fn audit(
    State(state): State<AppState>,
    _: Authenticated,
    params: Params,
) -> Result<Json<ListPage<Value>>, ApiError> {
    entries(&state, params, |entry| json!(entry))
}

/// `GET /v1/organization/audit_logs`, as OpenAI's clients list what was done.
pub(crate) async fn organization(
    State(state): State<AppState>,
    _: Authenticated,
    params: Params,
) -> Result<Json<ListPage<Value>>, ApiError> {
    entries(&state, params, |entry| {
        let entry = json!(entry);
        json!({"object": "organization.audit_log", "id": entry["id"], "type": entry["action"], "effective_at": entry["at"],
            "actor": {"type": "session", "session": {"user": {"id": entry["actor"]}}},
            "subject": entry["subject"], "detail": entry["detail"]})
    })
}

fn entries(
    state: &AppState,
    mut params: Params,
    tell: impl Fn(AuditObject) -> Value,
) -> Result<Json<ListPage<Value>>, ApiError> {
    let limit = params.number("limit", 1, PAGE_MAX)?.unwrap_or(ENTRIES_DEFAULT);
    let after = params.number("after", 1, u64::MAX)?;
    let wanted = AuditWanted { action: params.take("action"), about: params.take("about") };
    params.finish()?;
    // One more tells whether there are more.
    let mut rows = state.ledger.audit_about(&wanted, after, u32::try_from(limit + 1).unwrap_or(u32::MAX))?;
    let has_more = rows.len() as u64 > limit;
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let data = rows.into_iter().map(|entry| tell(entry.into())).collect();
    Ok(page(data, has_more, |entry: &Value| entry["id"].as_str().unwrap_or_default()))
}
