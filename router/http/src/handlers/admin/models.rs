//! The models of the box and those of the catalogue, for who looks after it; and what the box is made of.

use std::time::UNIX_EPOCH;

use allerac_engine_link::EngineStatus;
use allerac_objects::Order;
use allerac_router_core::{ModelState, NoRoute, Prospect};
use allerac_wire::ListPage;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::gpu::ShareObject;
use super::{Named, name};
use crate::auth::Authenticated;
use crate::error::ApiError;
use crate::handlers::list::{Params, told};
use crate::hardware::Hardware;
use crate::state::AppState;

/// An installed model.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct InstalledObject {
    object: &'static str,
    id: String,
    /// Its id in the catalogue, or its own.
    model: String,
    /// `chat`, `embedding` or `reranker`.
    kind: &'static str,
    /// The model that it is an adapter of.
    base: Option<String>,
    size_bytes: u64,
    parameters: u64,
    /// `loaded`, `loading`, `failed`, or `on_disk`.
    status: &'static str,
    /// Why it cannot be loaded.
    reason: Option<String>,
    /// What it takes of the memory now.
    memory_bytes: u64,
    /// What of it a graphics processor has; null where it has nothing.
    gpu: Option<ShareObject>,
    /// Whether it answers where nobody chose.
    is_default: bool,
    created_at: i64,
}

/// What the catalogue has, and what each model would do here.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CatalogueObject {
    object: &'static str,
    /// What models may have together.
    memory_bytes: u64,
    /// What predictions are made from.
    measured: MeasuredObject,
    data: Vec<ProspectObject>,
}

/// How fast this machine is.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct MeasuredObject {
    /// When it was measured.
    at: i64,
    rates: Vec<RateObject>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct RateObject {
    threads: u32,
    /// How fast memory is read, in units of 10^9 bytes.
    gigabytes_per_second: f64,
    /// Multiplications and additions of small numbers, in units of 10^9.
    products_per_second: f64,
}

/// A model of the catalogue.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ProspectObject {
    id: String,
    name: String,
    family: String,
    kind: &'static str,
    parameters: u64,
    /// Those that compute each token, of a mixture of experts.
    active_parameters: Option<u64>,
    quant: Option<String>,
    /// The length of its files, or the likely one where only the hub knows.
    size_bytes: u64,
    licence: String,
    licence_url: Option<String>,
    /// Whether somebody has to accept the licence first.
    asks_for_acceptance: bool,
    languages: Vec<String>,
    context: u32,
    notes: Option<String>,
    installed: bool,
    /// What it would do here; null for encoders, which are small.
    outcome: Option<OutcomeObject>,
}

/// What a model would do here.
#[derive(Debug, Serialize, JsonSchema)]
struct OutcomeObject {
    /// `runs well`, `runs`, `slow` or `does not fit`.
    verdict: &'static str,
    reason: String,
    /// Memory that it cannot do without.
    memory_bytes: u64,
    /// Tokens of a prompt a second.
    prefill_tokens_per_second: f64,
    /// Tokens of an answer a second.
    decode_tokens_per_second: f64,
}

/// `GET /v1/admin/hardware`.
pub(crate) async fn hardware(State(state): State<AppState>, _: Authenticated) -> Json<Hardware> {
    Json(state.look.now().await)
}

/// `GET /v1/admin/models`.
pub(crate) async fn list(
    State(state): State<AppState>,
    _: Authenticated,
    params: Params,
) -> Result<Json<ListPage<Value>>, ApiError> {
    let default = state.registry.default_model();
    let all = state.registry.states().into_iter().map(|each| json!(installed(&each, default.as_deref())));
    told(all.collect(), params, Order::Ascending)
}

/// `DELETE /v1/admin/models/{id}`: what runs on the model ends well; then its files go.
pub(crate) async fn remove(
    State(state): State<AppState>,
    _: Authenticated,
    path: Named,
) -> Result<StatusCode, ApiError> {
    let id = name(path)?;
    let removed = state.registry.remove(&id).await.map_err(|error| ApiError::from(&error))?;
    if removed { Ok(StatusCode::NO_CONTENT) } else { Err(ApiError::no_route(&id, NoRoute::Unknown)) }
}

/// `GET /v1/admin/models/catalogue`. The machine is measured the first time.
pub(crate) async fn catalogue(
    State(state): State<AppState>,
    _: Authenticated,
) -> Result<Json<CatalogueObject>, ApiError> {
    predicted(&state, false).await
}

/// `POST /v1/admin/models/catalogue`: the same, measured anew.
pub(crate) async fn measure(
    State(state): State<AppState>,
    _: Authenticated,
) -> Result<Json<CatalogueObject>, ApiError> {
    predicted(&state, true).await
}

async fn predicted(state: &AppState, anew: bool) -> Result<Json<CatalogueObject>, ApiError> {
    let measured = state.outlook.measured(anew).await;
    let rates = measured.rates.iter().map(|rate| RateObject {
        threads: rate.threads,
        gigabytes_per_second: tenth(rate.bytes_per_second / 1e9),
        products_per_second: tenth(rate.products_per_second / 1e9),
    });
    let at = measured.at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let accepted = state.registry.store().accepted().map_err(|error| ApiError::from(&error))?;
    let data = state.registry.prospects(&measured).into_iter().map(|one| {
        let asks = one.entry.asks_to_be_accepted() && !accepted.iter().any(|has| has.is_of(one.entry));
        prospect(one, asks)
    });
    Ok(Json(CatalogueObject {
        object: "catalogue",
        memory_bytes: state.registry.budget_bytes(),
        measured: MeasuredObject { at: i64::try_from(at).unwrap_or(i64::MAX), rates: rates.collect() },
        data: data.collect(),
    }))
}

fn prospect(one: Prospect, asks_for_acceptance: bool) -> ProspectObject {
    let Prospect { entry, is_installed, outcome } = one;
    ProspectObject {
        id: entry.id.clone(),
        name: entry.name.clone(),
        family: entry.family.clone(),
        kind: entry.kind.name(),
        parameters: entry.parameters,
        active_parameters: entry.active_parameters,
        quant: entry.quant.clone(),
        size_bytes: entry.likely_bytes(),
        licence: entry.licence.clone(),
        licence_url: entry.licence_url.clone(),
        asks_for_acceptance,
        languages: entry.languages.clone(),
        context: entry.context,
        notes: entry.notes.clone(),
        installed: is_installed,
        outcome: outcome.map(|outcome| OutcomeObject {
            verdict: outcome.verdict.name(),
            reason: outcome.reason,
            memory_bytes: outcome.memory_bytes,
            prefill_tokens_per_second: tenth(outcome.speed.prefill),
            decode_tokens_per_second: tenth(outcome.speed.decode),
        }),
    }
}

fn installed(state: &ModelState, default: Option<&str>) -> InstalledObject {
    let (status, reason) = match &state.status {
        Some(EngineStatus::Ready(_)) => ("loaded", None),
        Some(EngineStatus::Loading { .. }) => ("loading", None),
        Some(EngineStatus::Restarting { reason }) => ("loading", Some(reason.clone())),
        Some(EngineStatus::Failed { reason }) => ("failed", Some(reason.clone())),
        Some(EngineStatus::Stopped) | None => ("on_disk", None),
    };
    let model = &state.model;
    InstalledObject {
        object: "model",
        id: model.id.clone(),
        model: model.model.clone(),
        kind: model.kind.name(),
        base: model.base.clone(),
        size_bytes: model.size_bytes,
        parameters: model.parameters,
        status,
        reason,
        memory_bytes: state.memory_bytes,
        gpu: state.split.map(ShareObject::from),
        is_default: default == Some(model.id.as_str()),
        created_at: model.created,
    }
}

/// More digits mean nothing.
fn tenth(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}
