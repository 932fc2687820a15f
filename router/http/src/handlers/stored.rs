//! Chat completions that were kept: `GET`, `POST` and `DELETE` of `/v1/chat/completions/{id}`, and their lists.

use allerac_objects::{Kind, New, Object, Order};
use allerac_wire::{CalledTool, ChatCompletion, ChatRequest, Deleted, ListPage, Message, ToolCall, metadata_of};
use axum::Json;
use axum::extract::{Path, State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::list::{Params, page, slice};
use super::{Body, Bounded, KEPT_S, now_s};
use crate::auth::Authenticated;
use crate::custom::Customs;
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

/// A message of a request that was kept.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Asked {
    id: String,
    role: &'static str,
    content: Option<String>,
    /// Null where it came as one text.
    content_parts: Option<Vec<Value>>,
    refusal: Option<()>,
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<CalledTool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
}

impl Asked {
    fn new(id: String, message: &Message, customs: &Customs) -> Self {
        let parts = message.for_upstream()["content"].as_array().cloned();
        let content = Some(message.all_text()).filter(|_| !message.content.is_empty());
        let call = |call: &ToolCall| customs.called(call.id.clone(), call.name.clone(), call.arguments.clone());
        Self {
            id,
            role: message.role.as_str(),
            content,
            content_parts: parts,
            refusal: None,
            name: message.name.clone(),
            reasoning_content: message.reasoning.clone(),
            tool_calls: message.tool_calls.iter().map(call).collect(),
            tool_call_id: message.tool_call_id.clone(),
        }
    }
}

impl Stored {
    /// A request that will be kept under this id with its answer.
    pub(crate) fn new(id: &str, request: &ChatRequest) -> Self {
        let customs = Customs::of(&request.tools);
        let message =
            |(index, message): (usize, &Message)| json!(Asked::new(format!("{id}-{index}"), message, &customs));
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

    fn told(self) -> Told {
        Told { completion: self.completion, metadata: self.metadata }
    }
}

/// One as on the wire.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Told {
    #[serde(flatten)]
    #[schemars(with = "ChatCompletion")]
    completion: Value,
    metadata: Map<String, Value>,
}

impl Told {
    fn id(&self) -> &str {
        self.completion["id"].as_str().unwrap_or_default()
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
) -> Result<Json<Told>, ApiError> {
    params.finish()?;
    Ok(Json(find(&state, &caller, &id).await?.told()))
}

/// Changes what the client says of it.
pub(crate) async fn update(
    State(state): State<AppState>,
    caller: Authenticated,
    Path(id): Path<String>,
    Bounded(body): Body,
) -> Result<Json<Told>, ApiError> {
    let metadata = metadata_of(&body)?;
    let mut stored = find(&state, &caller, &id).await?;
    stored.metadata = metadata;
    let created = stored.completion["created"].as_i64().unwrap_or_else(now_s);
    let new = New { owner: caller.0.salt, ..stored.object(created) };
    state.store.put_within(new, caller.0.storage_bytes()).await?;
    Ok(Json(stored.told()))
}

/// Forgets it.
pub(crate) async fn delete(
    State(state): State<AppState>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<Deleted>, ApiError> {
    if !state.store.delete(Kind::Completion, caller.0.salt, &id).await? {
        return Err(ApiError::not_kept("chat completion", &id));
    }
    Ok(Json(Deleted { id, object: "chat.completion.deleted", deleted: true }))
}

/// Those of the caller, of one model or with some metadata where that is wanted.
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Authenticated,
    mut params: Params,
) -> Result<Json<ListPage<Told>>, ApiError> {
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
    let data: Vec<Told> = listed.objects.iter().filter_map(Stored::read).map(Stored::told).collect();
    Ok(page(data, listed.has_more, Told::id))
}

/// What was asked.
pub(crate) async fn messages(
    State(state): State<AppState>,
    caller: Authenticated,
    Path(id): Path<String>,
    mut params: Params,
) -> Result<Json<ListPage<Value>>, ApiError> {
    let wanted = params.page(Order::Ascending, 100)?;
    params.finish()?;
    let stored = find(&state, &caller, &id).await?;
    slice(stored.messages, &wanted).ok_or_else(|| ApiError::not_kept("message", wanted.after.as_deref().unwrap_or("")))
}
