//! `GET /v1/models` and `GET /v1/models/{id}`: what this key can use, in OpenAI's shape or in Anthropic's.

use std::collections::HashSet;

use allerac_router_core::{NoRoute, Route};
use allerac_wire::anthropic::{ListedModel, ModelPage};
use allerac_wire::{Model, ModelList};
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use crate::api::Api;
use crate::auth::Authenticated;
use crate::error::ApiError;
use crate::state::AppState;

/// Models on a page of Anthropic's list when the client leaves it open, and at most, as its API has it.
const PAGE: (usize, usize) = (20, 1000);

/// A model that a key can use, by one of its names.
pub(crate) struct Usable<'a> {
    pub(crate) id: String,
    pub(crate) place: Route<'a>,
}

/// All of them: those of the box first, then those of other servers, then other names for them.
pub(crate) fn usable<'a>(state: &'a AppState, caller: &Authenticated) -> Vec<Usable<'a>> {
    let models = state.registry.models();
    let local = models.iter().map(|model| model.id.as_str());
    let remote = state.upstreams.iter().flat_map(allerac_router_core::Upstream::offered);
    // The first of a name answers to it.
    let mut seen = HashSet::new();
    let names = local.chain(remote).chain(state.aliases.names()).filter(|id| seen.insert(*id));
    names.filter_map(|id| Some(Usable { id: id.to_owned(), place: state.route(id, caller).ok()? })).collect()
}

/// The page that a client of Anthropic's API wants.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Page {
    limit: Option<usize>,
    after_id: Option<String>,
    before_id: Option<String>,
}

/// All of them, or a page of them.
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Authenticated,
    (uri, headers): (Uri, HeaderMap),
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, ApiError> {
    let models = usable(&state, &caller);
    let Query(page) = page.map_err(|error| ApiError::invalid_value("limit", &error.body_text()))?;
    page.check()?;
    if Api::of(uri.path(), &headers) == Api::Anthropic {
        let listed = models.iter().map(|model| anthropic(&state, &model.id, &model.place)).collect();
        return Ok(Json(page.of(listed)?).into_response());
    }
    let data = models.iter().map(|model| openai(&model.id, &model.place)).collect();
    Ok(Json(ModelList { object: "list", data }).into_response())
}

/// One of them.
pub(crate) async fn get(
    State(state): State<AppState>,
    caller: Authenticated,
    (uri, headers): (Uri, HeaderMap),
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Path(id) = id.map_err(|error| ApiError::invalid_value("model", &error.body_text()))?;
    let place = state.route(&id, &caller).map_err(|_| ApiError::no_route(&id, NoRoute::Unknown))?;
    Ok(match Api::of(uri.path(), &headers) {
        Api::Anthropic => Json(anthropic(&state, &id, &place)).into_response(),
        Api::OpenAi | Api::Ollama => Json(openai(&id, &place)).into_response(),
    })
}

fn openai(id: &str, place: &Route<'_>) -> Model {
    let (created, owned_by) = match place {
        Route::Local(model) => (model.created, "allerac".to_owned()),
        Route::Upstream(upstream, _) => (0, format!("upstream:{}", upstream.name())),
    };
    Model { id: id.to_owned(), object: "model", created, owned_by }
}

fn anthropic(state: &AppState, id: &str, place: &Route<'_>) -> ListedModel {
    let (created, name, context) = match place {
        Route::Local(model) => {
            (model.created, model.entry().map(|entry| entry.name.as_str()), Some(state.registry.context(model)))
        }
        Route::Upstream(..) => (0, None, None),
    };
    ListedModel {
        kind: "model",
        id: id.to_owned(),
        display_name: name.unwrap_or(id).to_owned(),
        created_at: jiff::Timestamp::from_second(created).unwrap_or_default().to_string(),
        lifecycle: "active",
        capabilities: None,
        max_input_tokens: context,
        max_tokens: context,
        line: None,
        deprecated_at: None,
        retires_at: None,
    }
}

impl Page {
    /// Whether it can be had; also of those whose list has no pages, so that nothing is passed over silently.
    fn check(&self) -> Result<(), ApiError> {
        let most = PAGE.1;
        match self.limit {
            Some(limit) if !(1..=most).contains(&limit) => {
                Err(ApiError::invalid_value("limit", &format!("`limit` must be between 1 and {most}")))
            }
            _ => Ok(()),
        }
    }

    /// The models of this page.
    fn of(self, mut all: Vec<ListedModel>) -> Result<ModelPage, ApiError> {
        let limit = self.limit.unwrap_or(PAGE.0);
        let place = |id: &str| {
            let found = all.iter().position(|model| model.id == id);
            found.ok_or_else(|| ApiError::no_route(id, NoRoute::Unknown))
        };
        let begin = self.after_id.as_deref().map_or(Ok(0), |after| place(after).map(|place| place + 1))?;
        let end = self.before_id.as_deref().map_or(Ok(all.len()), place)?.max(begin);
        // Before a model come the last ones before it.
        let backwards = self.before_id.is_some() && self.after_id.is_none();
        let skip = if backwards { (end - begin).saturating_sub(limit) } else { 0 };
        let has_more = end - begin > limit;
        let data: Vec<ListedModel> = all.drain(begin..end).skip(skip).take(limit).collect();
        let id = |model: Option<&ListedModel>| model.map(|model| model.id.clone());
        Ok(ModelPage { has_more, first_id: id(data.first()), last_id: id(data.last()), data })
    }
}
