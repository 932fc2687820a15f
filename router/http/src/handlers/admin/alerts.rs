//! What was told to whom, what could not be, and trying that again.

use allerac_ledger::{DeliveriesWanted, Delivery};
use allerac_wire::ListPage;
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::auth::Authenticated;
use crate::error::ApiError;
use crate::handlers::account::acting;
use crate::handlers::list::{PAGE_MAX, Params, page};
use crate::handlers::{Bounded, SmallBody, parse};
use crate::state::AppState;

/// Deliveries on a page, where the client does not say.
const DELIVERIES_DEFAULT: u64 = 20;
const STATES: [&str; 3] = ["waiting", "delivered", "dead"];

/// An alert on its way to one channel.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DeliveryObject {
    object: &'static str,
    /// The alert's id and the channel.
    id: String,
    /// The alert, the same for each channel and whenever it is tried.
    alert: String,
    #[serde(rename = "type")]
    kind: String,
    at: i64,
    /// What it tells.
    detail: Value,
    channel: String,
    /// `waiting`, `delivered`, or `dead`: given up.
    state: String,
    tries: u32,
    /// When it is tried next.
    next_at: Option<i64>,
    /// Why it was not delivered.
    error: Option<String>,
}

/// What is to be tried again.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryRequest {
    /// An alert; all that were given up where it is left out.
    alert: Option<String>,
}

/// How much is tried again.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RetriedObject {
    object: &'static str,
    deliveries: u64,
}

impl From<Delivery> for DeliveryObject {
    fn from(delivery: Delivery) -> Self {
        let Delivery { alert, channel, state, tries, next_at, error } = delivery;
        Self {
            object: "alert.delivery",
            id: format!("{}:{channel}", alert.id),
            alert: alert.id,
            kind: alert.kind,
            at: alert.at,
            detail: alert.detail,
            next_at: (state == "waiting").then_some(next_at),
            channel,
            state,
            tries,
            error,
        }
    }
}

/// `GET /v1/admin/alerts`, newest first.
pub(crate) async fn list(
    State(state): State<AppState>,
    _: Authenticated,
    mut params: Params,
) -> Result<Json<ListPage<DeliveryObject>>, ApiError> {
    let limit = params.number("limit", 1, PAGE_MAX)?.unwrap_or(DELIVERIES_DEFAULT);
    let wanted_state = params.take("state");
    if wanted_state.as_deref().is_some_and(|word| !STATES.contains(&word)) {
        return Err(ApiError::invalid_value("state", "`state` must be waiting, delivered or dead"));
    }
    let after = params.take("after").map(|id| {
        let parts = id.split_once(':').map(|(alert, channel)| (alert.to_owned(), channel.to_owned()));
        parts.ok_or_else(|| ApiError::invalid_value("after", "`after` must be the id of an entry"))
    });
    let wanted = DeliveriesWanted { state: wanted_state, after: after.transpose()? };
    params.finish()?;
    // One more tells whether there are more.
    let mut rows = state.ledger.deliveries(&wanted, u32::try_from(limit + 1).unwrap_or(u32::MAX))?;
    let has_more = rows.len() as u64 > limit;
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let data = rows.into_iter().map(DeliveryObject::from).collect();
    Ok(page(data, has_more, |delivery: &DeliveryObject| &delivery.id))
}

/// `POST /v1/admin/alerts/retry`: what was given up is tried again, beginning now.
pub(crate) async fn retry(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    Bounded(body): SmallBody,
) -> Result<Json<RetriedObject>, ApiError> {
    let RetryRequest { alert } = if body.is_empty() { RetryRequest::default() } else { parse(&body)? };
    let deliveries = acting(&state, &caller).retry_alerts(alert).await?;
    Ok(Json(RetriedObject { object: "alert.retried", deliveries }))
}
