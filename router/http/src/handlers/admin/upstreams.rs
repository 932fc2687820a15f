//! Other servers: what they take, what may be spent on them, and whether machines of one's own would be cheaper.

use std::collections::BTreeMap;

use allerac_ledger::{Owning, Price, UpstreamBudget};
use allerac_objects::Order;
use allerac_wire::ListPage;
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::auth::Authenticated;
use crate::error::ApiError;
use crate::handlers::list::{Params, told};
use crate::handlers::objects::Spending;
use crate::state::AppState;

/// Another server, and how its budget stands this month.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct UpstreamObject {
    object: &'static str,
    /// Its name.
    id: String,
    /// The names under which its models are offered; none where it is not configured any more.
    models: Vec<String>,
    prices: Vec<PriceObject>,
    /// What amounts are in, as ISO 4217 has it, in lower case.
    currency: String,
    /// What everybody together spent on it, and may.
    spending: Spending,
}

/// What a model's tokens cost, in billionths of the currency for each.
#[derive(Debug, Serialize, JsonSchema)]
struct PriceObject {
    model: String,
    input_billionths: u32,
    /// For tokens that the server knew from before.
    cached_input_billionths: u32,
    output_billionths: u32,
}

/// Machines of one's own beside other servers, in a month.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct OwningObject {
    object: &'static str,
    /// As `2026-11`, in the time zone of the box.
    month: String,
    /// What amounts are in, as ISO 4217 has it, in lower case.
    currency: String,
    /// One for each machine that the configuration names.
    machines: Vec<MachineObject>,
}

/// A machine, in as much of the month as has passed.
#[derive(Debug, Serialize, JsonSchema)]
struct MachineObject {
    name: String,
    seconds: u64,
    /// How long one machine would have computed.
    busy_seconds: u64,
    /// How many of them it would have taken.
    machines: u64,
    /// What other servers took for its models.
    rented_billionths: u64,
    /// The part of the machines' price that falls to this time.
    price_share_billionths: u64,
    electricity_billionths: u64,
    /// Whether owning would have been cheaper.
    is_cheaper: bool,
    /// Days after which the price is saved, if all goes on like this. Null for never.
    paid_back_days: Option<u64>,
}

impl From<Price> for PriceObject {
    fn from(price: Price) -> Self {
        Self {
            model: price.model,
            input_billionths: price.input,
            cached_input_billionths: price.cached_input.unwrap_or(price.input),
            output_billionths: price.output,
        }
    }
}

impl From<Owning> for MachineObject {
    fn from(owning: Owning) -> Self {
        Self {
            name: owning.machine,
            seconds: owning.seconds,
            busy_seconds: owning.busy_seconds,
            machines: owning.machines,
            rented_billionths: owning.rented,
            price_share_billionths: owning.price_share,
            electricity_billionths: owning.electricity,
            is_cheaper: owning.is_cheaper,
            paid_back_days: owning.paid_back_days,
        }
    }
}

/// `GET /v1/admin/upstreams`, by name.
pub(crate) async fn list(
    State(state): State<AppState>,
    _: Authenticated,
    params: Params,
) -> Result<Json<ListPage<Value>>, ApiError> {
    let currency = state.ledger.currency()?;
    let mut all: BTreeMap<String, UpstreamObject> = BTreeMap::new();
    for upstream in state.upstreams.iter() {
        let known = all.entry(upstream.name().to_owned()).or_default();
        known.models = upstream.offered().map(str::to_owned).collect();
    }
    for UpstreamBudget { upstream, state } in state.ledger.upstream_budgets()? {
        all.entry(upstream).or_default().spending = state.into();
    }
    for price in state.ledger.prices()? {
        let name = price.served_by.strip_prefix("upstream:").unwrap_or(&price.served_by).to_owned();
        if let Some(known) = all.get_mut(&name) {
            known.prices.push(price.into());
        }
    }
    let objects = all
        .into_iter()
        .map(|(id, known)| json!(UpstreamObject { object: "upstream", id, currency: currency.clone(), ..known }));
    told(objects.collect(), params, Order::Ascending)
}

/// `GET /v1/admin/usage/owning`.
pub(crate) async fn owning(
    State(state): State<AppState>,
    _: Authenticated,
    mut params: Params,
) -> Result<Json<OwningObject>, ApiError> {
    let asked = params.take("month");
    params.finish()?;
    let (present, months) = (state.ledger.month(), state.ledger.months_used()?);
    let month = asked.unwrap_or_else(|| present.clone());
    if month != present && !months.contains(&month) {
        let message = "nothing was used in such a month; it is written as 2026-11";
        return Err(ApiError::invalid_value("month", message));
    }
    let machines = state.ledger.owning(&month)?.into_iter().map(MachineObject::from).collect();
    Ok(Json(OwningObject { object: "owning", month, currency: state.ledger.currency()?, machines }))
}
