//! Chat completions that were kept: `GET`, `POST` and `DELETE` of `/v1/chat/completions/{id}`, and their lists.

use allerac_objects::{Kind, New, Object, Order};
use allerac_wire::{ChatCompletion, ChatRequest, Message, metadata_of};
use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::list::{Params, page, slice};
use super::{Body, Bounded, KEPT_S, now_s};
use crate::auth::Authenticated;
use crate::error::ApiError;
use crate::state::AppState;

/// What is kept of one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stored {
    id: String,
    completion: Value,
    messages: Vec<Value>,
    metadata: Map<String, Value>,
}

impl Stored {
    /// A request that will be kept under this id with its answer.
    pub(crate) fn new(id: &str, request: &ChatRequest) -> Self {
        let message = |(index, message): (usize, &Message)| {
            let mut json = message.for_upstream();
            json["id"] = json!(format!("{id}-{index}"));
            let parts = json["content"].as_array().cloned().map_or(Value::Null, Value::Array);
            if parts.is_array() {
                json["content"] = json!(message.all_text());
            }
            json["content_parts"] = parts;
            json
        };
        Self {
            id: id.to_owned(),
            completion: Value::Null,
            messages: request.messages.iter().enumerate().map(message).collect(),
            metadata: request.metadata.clone(),
        }
    }

    /// The object to keep.
    pub(crate) fn with(mut self, completion: &ChatCompletion) -> New {
        self.completion = serde_json::to_value(completion).unwrap_or_default();
        self.object(completion.created)
    }

    fn object(&self, created_at: i64) -> New {
        New {
            kind: Kind::Completion,
            owner: 0,
            id: self.id.clone(),
            created_at,
            expires_at: Some(created_at.saturating_add(KEPT_S)),
            open: false,
            head: serde_json::to_vec(self).unwrap_or_default(),
            tail: None,
        }
    }

    fn read(object: &Object) -> Option<Self> {
        serde_json::from_slice(&object.head).ok()
    }

    /// As on the wire.
    fn json(self) -> Value {
        let mut completion = self.completion;
        completion["metadata"] = Value::Object(self.metadata);
        completion
    }
}

async fn find(state: &AppState, caller: &Authenticated, id: &str) -> Result<Stored, ApiError> {
    let object = state.store.get(Kind::Completion, caller.0.salt, id).await?;
    object.as_ref().and_then(Stored::read).ok_or_else(|| ApiError::not_kept("chat completion", id))
}

/// One of them.
pub(crate) async fn get(
    State(state): State<AppState>,
    caller: Authenticated,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    params.finish()?;
    Ok(Json(find(&state, &caller, &id).await?.json()))
}

/// Changes what the client says of it.
pub(crate) async fn update(
    State(state): State<AppState>,
    caller: Authenticated,
    Path(id): Path<String>,
    Bounded(body): Body,
) -> Result<Json<Value>, ApiError> {
    let metadata = metadata_of(&body)?;
    let mut stored = find(&state, &caller, &id).await?;
    stored.metadata = metadata;
    let created = stored.completion["created"].as_i64().unwrap_or_else(now_s);
    state.store.put(New { owner: caller.0.salt, ..stored.object(created) }).await?;
    Ok(Json(stored.json()))
}

/// Forgets it.
pub(crate) async fn delete(
    State(state): State<AppState>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    if !state.store.delete(Kind::Completion, caller.0.salt, &id).await? {
        return Err(ApiError::not_kept("chat completion", &id));
    }
    Ok(Json(json!({"object": "chat.completion.deleted", "id": id, "deleted": true})))
}

/// Those of the caller, of one model or with some metadata where that is wanted.
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Authenticated,
    mut params: Params,
) -> Result<Json<Value>, ApiError> {
    let wanted = params.page(Order::Ascending, 100)?;
    let (model, metadata) = (params.take("model"), params.take_map("metadata"));
    params.finish()?;
    let after = wanted.after.clone().unwrap_or_default();
    let fits = move |object: &Object| {
        let Some(stored) = Stored::read(object) else { return false };
        model.as_ref().is_none_or(|model| stored.completion["model"] == model.as_str())
            && metadata.iter().all(|(key, value)| stored.metadata.get(key).is_some_and(|kept| kept == value.as_str()))
    };
    let listed = state.store.list(Kind::Completion, caller.0.salt, wanted, fits).await?;
    let listed = listed.ok_or_else(|| ApiError::not_kept("chat completion", &after))?;
    let data: Vec<Value> = listed.objects.iter().filter_map(Stored::read).map(Stored::json).collect();
    Ok(page(&data, listed.has_more))
}

/// What was asked.
pub(crate) async fn messages(
    State(state): State<AppState>,
    caller: Authenticated,
    Path(id): Path<String>,
    mut params: Params,
) -> Result<Json<Value>, ApiError> {
    let wanted = params.page(Order::Ascending, 100)?;
    params.finish()?;
    let stored = find(&state, &caller, &id).await?;
    slice(stored.messages, &wanted).ok_or_else(|| ApiError::not_kept("message", wanted.after.as_deref().unwrap_or("")))
}
