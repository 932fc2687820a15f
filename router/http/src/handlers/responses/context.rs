//! What a response answers: the items before it, and those of its request.

use allerac_objects::{Kind, New, Seal};
use allerac_wire::{ResponsesRequest, WireError, item_messages};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::again::Again;
use super::sealed_about;
use crate::error::ApiError;
use crate::handlers::KEPT_S;
use crate::handlers::conversations::Conversation;
use crate::state::AppState;

/// Items of one conversation, and of one response with all that is before it.
pub(crate) const ITEMS_MAX: usize = 8192;
/// Bytes of what is kept that one request may go on from or refer to: more than any model reads.
pub(crate) const BYTES_MAX: usize = 24 * 1024 * 1024;
/// References of one request. For each a whole response is read.
const REFERENCES_MAX: usize = 64;
/// Hexadecimal digits of the name that ids of a response and of its items share.
const NAME_CHARS: usize = 32;

/// All items that a response answers, each with an id.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) items: Vec<Value>,
    /// How many of them were there before the request.
    pub(crate) known: usize,
    /// The conversation that they are of.
    pub(crate) conversation: Option<String>,
}

/// What is kept of a response.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) response: Value,
    pub(crate) input: Vec<Value>,
    /// What it takes to begin it again, while it is not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) again: Option<Again>,
    /// Bytes that it takes.
    #[serde(skip)]
    bytes: usize,
}

impl Kept {
    /// One of somebody's; `None` where there is none.
    pub(crate) async fn find(state: &AppState, owner: u64, id: &str) -> Result<Option<Self>, ApiError> {
        let object = state.store.get(Kind::Response, owner, id).await?;
        Ok(object.and_then(|object| {
            let kept: Self = serde_json::from_slice(&object.head).ok()?;
            Some(Self { bytes: object.head.len(), ..kept })
        }))
    }

    /// What is to be kept.
    pub(crate) fn new(response: Value, input: Vec<Value>) -> Self {
        Self { response, input, again: None, bytes: 0 }
    }

    /// The name of the response.
    pub(crate) fn id(&self) -> &str {
        self.response["id"].as_str().unwrap_or_default()
    }

    /// As an object of the store, with what was said in a stream.
    pub(crate) fn object(&self, owner: u64, open: bool, tail: Option<Vec<u8>>) -> New {
        let created_at = self.response["created_at"].as_i64().unwrap_or_default();
        New {
            kind: Kind::Response,
            owner,
            id: self.id().to_owned(),
            created_at,
            expires_at: Some(created_at.saturating_add(KEPT_S)),
            open,
            head: serde_json::to_vec(self).unwrap_or_default(),
            tail,
        }
    }
}

impl Context {
    /// Finds what a request refers to, and puts its conversation together. New items are named after `name`.
    pub(crate) async fn of(
        state: &AppState,
        owner: u64,
        request: &mut ResponsesRequest,
        name: &str,
    ) -> Result<Self, ApiError> {
        let (mut items, mut bytes) = match (&request.previous_response_id, &request.conversation) {
            (Some(id), _) => before(state, owner, id).await?,
            (None, Some(id)) => said_in(state, owner, id).await?,
            (None, None) => (Vec::new(), 0),
        };
        let (known, mut references) = (items.len(), 0);
        refuse_too_much(references, bytes)?;
        for (index, item) in std::mem::take(&mut request.input).into_iter().enumerate() {
            let is_reference = item["type"] == "item_reference";
            let mut item = if is_reference {
                references += 1;
                let item = referred(state, owner, index, item["id"].as_str().unwrap_or_default()).await?;
                bytes += item.to_string().len();
                item
            } else {
                item
            };
            refuse_too_much(references, bytes)?;
            open_thought(state.store.seal(), owner, index, &mut item)?;
            let item = named(item, name, index);
            // A conversation has each once.
            if request.conversation.is_some() && !is_reference && items.iter().any(|known| known["id"] == item["id"]) {
                let param = format!("input[{index}].id");
                return Err(ApiError::invalid_value(&param, &format!("`{param}` is in the conversation already")));
            }
            items.push(item);
        }
        if items.len() > ITEMS_MAX {
            let message = format!("the conversation has {} items, and at most {ITEMS_MAX} are kept", items.len());
            return Err(ApiError::invalid_value("input", &message));
        }
        request.chat.messages = item_messages(request.instructions.as_deref(), &items, known)?;
        Ok(Self { items, known, conversation: request.conversation.take() })
    }

    /// The same of a request whose conversation was put together before.
    pub(crate) fn again(items: Vec<Value>, known: usize, request: &mut ResponsesRequest) -> Result<Self, ApiError> {
        request.chat.messages = item_messages(request.instructions.as_deref(), &items, known)?;
        Ok(Self { items, known, conversation: request.conversation.take() })
    }
}

fn refuse_too_much(references: usize, bytes: usize) -> Result<(), ApiError> {
    if references <= REFERENCES_MAX && bytes <= BYTES_MAX {
        return Ok(());
    }
    let message =
        format!("the request goes on from too much: at most {REFERENCES_MAX} references and {BYTES_MAX} bytes");
    Err(ApiError::invalid_value("input", &message))
}

/// The items of a response that another one goes on from, and the bytes that they take.
async fn before(state: &AppState, owner: u64, id: &str) -> Result<(Vec<Value>, usize), ApiError> {
    const PARAM: &str = "previous_response_id";
    let missing = || ApiError::not_kept("response", id).with_param(PARAM);
    let Some(kept) = Kept::find(state, owner, id).await? else {
        if state.background.find(owner, id).is_some() {
            return Err(ApiError::invalid_value(PARAM, "the response is not complete yet; wait for it"));
        }
        return Err(missing());
    };
    if matches!(kept.response["status"].as_str(), Some("queued" | "in_progress")) {
        return Err(ApiError::invalid_value(PARAM, "the response is not complete; it cannot be gone on from"));
    }
    let output = kept.response["output"].as_array().cloned().unwrap_or_default();
    Ok((kept.input.into_iter().chain(output).collect(), kept.bytes))
}

/// What was said in a conversation, and the bytes that it takes.
async fn said_in(state: &AppState, owner: u64, id: &str) -> Result<(Vec<Value>, usize), ApiError> {
    let object = state.store.get(Kind::Conversation, owner, id).await?;
    let bytes = object.as_ref().map_or(0, |object| object.head.len());
    let missing = || ApiError::not_kept("conversation", id).with_param("conversation");
    let conversation = object.as_ref().and_then(Conversation::read).ok_or_else(missing)?;
    Ok((conversation.items, bytes))
}

/// The item that a reference names: its id tells the response that it came with.
async fn referred(state: &AppState, owner: u64, index: usize, id: &str) -> Result<Value, ApiError> {
    let missing = || ApiError::not_kept("item", id).with_param(&format!("input[{index}].id"));
    let name = id.split_once('_').and_then(|(_, rest)| rest.get(..NAME_CHARS)).ok_or_else(missing)?;
    let kept = Kept::find(state, owner, &format!("resp_{name}")).await?.ok_or_else(missing)?;
    let output = kept.response["output"].as_array().cloned().unwrap_or_default();
    output.into_iter().chain(kept.input).find(|item| item["id"] == id).ok_or_else(missing)
}

/// A thought that came back sealed says again what it said.
fn open_thought(seal: &Seal, owner: u64, index: usize, item: &mut Value) -> Result<(), ApiError> {
    let Some(sealed) = item["encrypted_content"].as_str() else { return Ok(()) };
    if item["content"].as_array().is_some_and(|content| !content.is_empty()) {
        return Ok(());
    }
    let text = BASE64.decode(sealed.as_bytes()).ok().and_then(|sealed| seal.open(&sealed_about(owner), &sealed));
    let Some(text) = text.and_then(|text| String::from_utf8(text).ok()) else {
        let param = format!("input[{index}].encrypted_content");
        let message = format!("`{param}` was not sealed by this box for you, or was changed");
        return Err(WireError { message, param: Some(param), code: Some("invalid_encrypted_content") }.into());
    };
    item["content"] = json!([{"type": "reasoning_text", "text": text}]);
    Ok(())
}

/// An item with an id.
pub(crate) fn named(mut item: Value, name: &str, index: usize) -> Value {
    if item["id"].is_string() {
        return item;
    }
    let prefix = match item["type"].as_str() {
        Some("function_call") => "fc",
        Some("function_call_output") => "fco",
        Some("custom_tool_call") => "ctc",
        Some("custom_tool_call_output") => "ctco",
        Some("reasoning") => "rs",
        _ => "msg",
    };
    item["id"] = json!(format!("{prefix}_{name}i{index:x}"));
    item
}
