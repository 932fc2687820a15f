//! `/v1/batches`.

use allerac_objects::{Kind, Order};
use allerac_wire::{BatchObject, BatchRequest, ListPage};
use axum::Json;
use axum::extract::{Path, State};

use super::files::File;
use super::list::{Params, page};
use super::{Body, Bounded};
use crate::auth::{Admitted, Authenticated};
use crate::batch::Record;
use crate::error::ApiError;
use crate::state::AppState;

/// Begins one.
pub(crate) async fn create(
    State(state): State<AppState>,
    caller: Authenticated,
    _admitted: Admitted,
    Bounded(body): Body,
) -> Result<Json<BatchObject>, ApiError> {
    const PARAM: &str = "input_file_id";
    let request = BatchRequest::parse(&body)?;
    let owner = caller.0.salt;
    let file =
        File::find(&state.store, owner, &request.input_file_id).await.map_err(|error| error.with_param(PARAM))?;
    if file.purpose != "batch" {
        let message = format!("`{PARAM}` names a file for `{}`; send one with the purpose `batch`", file.purpose);
        return Err(ApiError::invalid_value(PARAM, &message));
    }
    let bytes_max = caller.0.storage_bytes();
    let record = Record::new(request, caller.0.key_id);
    state.store.put_within(record.object(owner), bytes_max).await?;
    let told = record.told();
    if let Err(error) = state.batches.begin(&state, owner, record.clone()) {
        state.store.delete(Kind::Batch, owner, &record.id).await?;
        return Err(error);
    }
    Ok(Json(told))
}

/// One as it stands.
pub(crate) async fn get(
    State(state): State<AppState>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<BatchObject>, ApiError> {
    Ok(Json(state.batches.find(&state.store, caller.0.salt, &id).await?.told()))
}

/// Ends one; of one that has ended, says how.
pub(crate) async fn cancel(
    State(state): State<AppState>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<BatchObject>, ApiError> {
    Ok(Json(state.batches.cancel(&state.store, caller.0.salt, &id).await?.told()))
}

/// Those of the caller, newest first.
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Authenticated,
    mut params: Params,
) -> Result<Json<ListPage<BatchObject>>, ApiError> {
    let owner = caller.0.salt;
    let wanted = params.page(Order::Descending, 100)?;
    params.finish()?;
    let after = wanted.after.clone().unwrap_or_default();
    let listed = state.store.list(Kind::Batch, owner, wanted, |_| true).await?;
    let listed = listed.ok_or_else(|| ApiError::not_kept("batch", &after))?;
    let mut data = Vec::new();
    for object in listed.objects {
        data.push(state.batches.find(&state.store, owner, &object.id).await?.told());
    }
    Ok(page(data, listed.has_more, |batch| &batch.id))
}
