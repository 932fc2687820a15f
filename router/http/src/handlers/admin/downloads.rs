//! Downloads of models, which run without whoever ordered them: how far they are, and their end.

use allerac_objects::Order;
use allerac_router_core::Pulling;
use allerac_wire::ListPage;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Named, name};
use crate::auth::Authenticated;
use crate::error::ApiError;
use crate::handlers::list::{Params, told};
use crate::state::AppState;

/// A download.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct DownloadObject {
    object: &'static str,
    /// The model's id here.
    id: String,
    /// `waiting`, `fetching`, `verifying`, `done`, `failed` or `cancelled`.
    status: &'static str,
    /// Bytes that are fetched in all, once that is known.
    total: Option<u64>,
    /// Bytes that are here.
    completed: Option<u64>,
    bytes_per_second: Option<u64>,
    eta_seconds: Option<u64>,
    /// How long it waits for the hours of downloads.
    starts_in_seconds: Option<u64>,
    /// Why it failed.
    error: Option<String>,
}

/// `GET /v1/admin/downloads`: those that run, and the last that ended.
pub(crate) async fn list(
    State(state): State<AppState>,
    _: Authenticated,
    params: Params,
) -> Result<Json<ListPage<Value>>, ApiError> {
    let all = state.registry.pulls().list().into_iter().map(|(id, now)| json!(download(&id, &now)));
    told(all.collect(), params, Order::Ascending)
}

/// `DELETE /v1/admin/downloads/{id}`: what came is kept for the next time.
pub(crate) async fn cancel(
    State(state): State<AppState>,
    _: Authenticated,
    path: Named,
) -> Result<StatusCode, ApiError> {
    let id = name(path)?;
    let cancelled = state.registry.pulls().cancel(&id).await;
    if cancelled { Ok(StatusCode::NO_CONTENT) } else { Err(ApiError::nothing("download", &id)) }
}

fn download(id: &str, now: &Pulling) -> DownloadObject {
    let plain = |status| DownloadObject { object: "download", id: id.to_owned(), status, ..DownloadObject::default() };
    match now {
        Pulling::Beginning | Pulling::Elsewhere => plain("waiting"),
        Pulling::Done => plain("done"),
        Pulling::Cancelled => plain("cancelled"),
        Pulling::Failed(error) => DownloadObject { error: Some(error.to_string()), ..plain("failed") },
        Pulling::Fetching(progress) => {
            let status = match progress.starts_in {
                Some(_) => "waiting",
                None if progress.done >= progress.total => "verifying",
                None => "fetching",
            };
            DownloadObject {
                total: Some(progress.total),
                completed: Some(progress.done),
                bytes_per_second: progress.bytes_per_second,
                eta_seconds: progress.left().map(|left| left.as_secs()),
                starts_in_seconds: progress.starts_in.map(|wait| wait.as_secs()),
                ..plain(status)
            }
        }
    }
}
