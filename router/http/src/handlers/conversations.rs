//! Conversations that responses go on from: `/v1/conversations` and their items.
//!
//! Each is one object of the store, its items in it. Whatever changes one looks at it and keeps it again in one step of
//! the store, so nothing that two requests add at once is lost.

use allerac_objects::{Kind, New, Object, Order, Store, StoreError};
use allerac_wire::{ConversationObject, ConversationRequest, Deleted, ListPage, conversation_items, metadata_of};
use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::list::{Params, page, slice};
use super::responses::context::{BYTES_MAX, ITEMS_MAX, named};
use super::{Body, Bounded, KEPT_S, now_s};
use crate::auth::Authenticated;
use crate::error::ApiError;
use crate::state::AppState;

/// What is kept of one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Conversation {
    id: String,
    created_at: i64,
    metadata: Map<String, Value>,
    pub(crate) items: Vec<Value>,
}

impl Conversation {
    pub(crate) fn read(object: &Object) -> Option<Self> {
        serde_json::from_slice(&object.head).ok()
    }

    /// As an object of the store. It is kept as long as what is said in it would be.
    fn object(&self, owner: u64) -> New {
        New {
            kind: Kind::Conversation,
            owner,
            id: self.id.clone(),
            created_at: self.created_at,
            expires_at: Some(now_s().saturating_add(KEPT_S)),
            open: false,
            head: serde_json::to_vec(self).unwrap_or_default(),
            tail: None,
        }
    }

    fn told(&self) -> ConversationObject {
        let Self { id, created_at, metadata, .. } = self;
        ConversationObject {
            id: id.clone(),
            object: "conversation",
            created_at: *created_at,
            metadata: metadata.clone(),
        }
    }

    fn place_of(&self, id: &str) -> Option<usize> {
        self.items.iter().position(|item| item["id"] == id)
    }

    /// Adds what is not in it yet.
    fn add(&mut self, items: Vec<Value>) {
        for item in items {
            if self.place_of(item["id"].as_str().unwrap_or_default()).is_none() {
                self.items.push(item);
            }
        }
    }
}

/// Adds what was asked and answered, and keeps the response with it. A conversation that was deleted stays so.
pub(crate) async fn add(
    store: &Store,
    (owner, bytes_max): (u64, Option<u64>),
    id: &str,
    said: Vec<Value>,
    response: Option<New>,
) -> Result<(), StoreError> {
    let change = move |object: Option<Object>| {
        let conversation = object.as_ref().and_then(Conversation::read).map(|mut conversation| {
            conversation.add(said);
            conversation.object(owner)
        });
        (conversation.into_iter().chain(response).collect(), ())
    };
    store.change(Kind::Conversation, owner, id, bytes_max, change).await
}

fn missing(id: &str) -> ApiError {
    ApiError::not_kept("conversation", id)
}

async fn find(state: &AppState, caller: &Authenticated, id: &str) -> Result<Conversation, ApiError> {
    let object = state.store.get(Kind::Conversation, caller.0.salt, id).await?;
    object.as_ref().and_then(Conversation::read).ok_or_else(|| missing(id))
}

/// Changes one and keeps it; what `change` gives is what came of it.
async fn changed<T: Send + 'static>(
    state: &AppState,
    caller: &Authenticated,
    id: &str,
    change: impl FnOnce(&mut Conversation) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let (owner, bytes_max) = (caller.0.salt, caller.0.storage_bytes());
    let outcome = state.store.change(Kind::Conversation, owner, id, bytes_max, move |object| {
        let Some(mut conversation) = object.as_ref().and_then(Conversation::read) else { return (Vec::new(), None) };
        match change(&mut conversation) {
            Ok(outcome) => (vec![conversation.object(owner)], Some(Ok(outcome))),
            Err(error) => (Vec::new(), Some(Err(error))),
        }
    });
    outcome.await?.ok_or_else(|| missing(id))?
}

/// Begins one.
pub(crate) async fn create(
    State(state): State<AppState>,
    caller: Authenticated,
    Bounded(body): Body,
) -> Result<Json<ConversationObject>, ApiError> {
    let ConversationRequest { items, metadata } = ConversationRequest::parse(&body)?;
    let name = Uuid::now_v7().simple().to_string();
    let (id, created_at) = (format!("conv_{name}"), now_s());
    let mut conversation = Conversation { id, created_at, metadata, items: Vec::new() };
    conversation.items = new_items(&conversation, items, &name)?;
    state.store.put_within(conversation.object(caller.0.salt), caller.0.storage_bytes()).await?;
    Ok(Json(conversation.told()))
}

/// Items with ids, none of which is in the conversation yet.
fn new_items(conversation: &Conversation, items: Vec<Value>, name: &str) -> Result<Vec<Value>, ApiError> {
    let mut added: Vec<Value> = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let item = named(item, name, index);
        let id = item["id"].as_str().unwrap_or_default();
        if conversation.place_of(id).is_some() || added.iter().any(|other| other["id"] == id) {
            let message = format!("`items[{index}].id` is in the conversation already");
            return Err(ApiError::conflict("item_exists", message));
        }
        added.push(item);
    }
    Ok(added)
}

/// One of them.
pub(crate) async fn get(
    State(state): State<AppState>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<ConversationObject>, ApiError> {
    Ok(Json(find(&state, &caller, &id).await?.told()))
}

/// Changes what the client says of it.
pub(crate) async fn update(
    State(state): State<AppState>,
    caller: Authenticated,
    Path(id): Path<String>,
    Bounded(body): Body,
) -> Result<Json<ConversationObject>, ApiError> {
    let metadata = metadata_of(&body)?;
    let update = move |conversation: &mut Conversation| {
        conversation.metadata = metadata;
        Ok(conversation.told())
    };
    changed(&state, &caller, &id, update).await.map(Json)
}

/// Forgets it. Responses that were kept stay.
pub(crate) async fn delete(
    State(state): State<AppState>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<Deleted>, ApiError> {
    if !state.store.delete(Kind::Conversation, caller.0.salt, &id).await? {
        return Err(missing(&id));
    }
    Ok(Json(Deleted { id, object: "conversation.deleted", deleted: true }))
}

/// Adds items.
pub(crate) async fn add_items(
    State(state): State<AppState>,
    caller: Authenticated,
    Path(id): Path<String>,
    mut params: Params,
    Bounded(body): Body,
) -> Result<Json<ListPage<Value>>, ApiError> {
    params.take_all("include");
    params.finish()?;
    let items = conversation_items(&body)?;
    let add = move |conversation: &mut Conversation| {
        let added = new_items(conversation, items, &Uuid::now_v7().simple().to_string())?;
        conversation.items.extend(added.iter().cloned());
        if conversation.items.len() > ITEMS_MAX || conversation.object(0).head.len() > BYTES_MAX {
            let message = format!("a conversation has at most {ITEMS_MAX} items and {BYTES_MAX} bytes; begin another");
            return Err(ApiError::invalid_value("items", &message));
        }
        Ok(added)
    };
    let added = changed(&state, &caller, &id, add).await?;
    Ok(page(added, false, |item| item["id"].as_str().unwrap_or_default()))
}

/// What was said in it, newest first where nothing else is wanted.
pub(crate) async fn items(
    State(state): State<AppState>,
    caller: Authenticated,
    Path(id): Path<String>,
    mut params: Params,
) -> Result<Json<ListPage<Value>>, ApiError> {
    let wanted = params.page(Order::Descending, 100)?;
    params.take_all("include");
    params.finish()?;
    let items = find(&state, &caller, &id).await?.items;
    slice(items, &wanted).ok_or_else(|| ApiError::not_kept("item", wanted.after.as_deref().unwrap_or_default()))
}

/// One item.
pub(crate) async fn item(
    State(state): State<AppState>,
    caller: Authenticated,
    Path((id, item)): Path<(String, String)>,
    mut params: Params,
) -> Result<Json<Value>, ApiError> {
    params.take_all("include");
    params.finish()?;
    let mut conversation = find(&state, &caller, &id).await?;
    let place = conversation.place_of(&item).ok_or_else(|| ApiError::not_kept("item", &item))?;
    Ok(Json(conversation.items.swap_remove(place)))
}

/// Takes an item out.
pub(crate) async fn delete_item(
    State(state): State<AppState>,
    caller: Authenticated,
    Path((id, item)): Path<(String, String)>,
) -> Result<Json<ConversationObject>, ApiError> {
    let take_out = move |conversation: &mut Conversation| {
        let place = conversation.place_of(&item).ok_or_else(|| ApiError::not_kept("item", &item))?;
        conversation.items.remove(place);
        Ok(conversation.told())
    };
    changed(&state, &caller, &id, take_out).await.map(Json)
}
