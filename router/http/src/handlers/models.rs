//! `GET /v1/models` and `GET /v1/models/{id}`: what this key can use.

use std::collections::HashSet;

use allerac_router_core::Access;
use allerac_wire::{Model, ModelList};
use axum::Json;
use axum::extract::{Path, State};

use crate::auth::Authenticated;
use crate::error::ApiError;
use crate::state::AppState;

/// All of them, those of the box first.
pub(crate) async fn list(State(state): State<AppState>, caller: Authenticated) -> Json<ModelList> {
    Json(ModelList { object: "list", data: usable(&state, &caller) })
}

/// One of them.
pub(crate) async fn get(
    State(state): State<AppState>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<Model>, ApiError> {
    let found = usable(&state, &caller).into_iter().find(|model| model.id == id);
    found.map(Json).ok_or_else(|| ApiError::no_route(&id, allerac_router_core::NoRoute::Unknown))
}

fn usable(state: &AppState, caller: &Authenticated) -> Vec<Model> {
    let local = state.registry.models().iter().filter(|model| caller.allows_parameters(model.parameters));
    let local = local.map(|model| (model.id.as_str(), model.created, "allerac".to_owned()));
    let upstreams = state.upstreams.iter().filter(|upstream| caller.allows_upstream(upstream.name()));
    let remote =
        upstreams.flat_map(|upstream| upstream.offered().map(|id| (id, 0, format!("upstream:{}", upstream.name()))));
    // The first of a name answers to it.
    let mut seen = HashSet::new();
    local
        .chain(remote)
        .filter(|(id, ..)| seen.insert(*id))
        .map(|(id, created, owned_by)| Model { id: id.to_owned(), object: "model", created, owned_by })
        .collect()
}
