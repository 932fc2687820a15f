//! `POST /v1/responses`: what comes in, what goes out, and how items become messages.

mod conversation;
mod echo;
mod items;
mod messages;
mod object;
mod request;
mod tools;

pub(crate) use conversation::ITEMS_MAX as CONVERSATION_ITEMS_MAX;
pub use conversation::{ConversationObject, ConversationRequest, conversation_items};
pub use messages::item_messages;
pub use object::{InputTokens, ResponseError, ResponseObject, ResponseStatus};
pub use request::ResponsesRequest;
pub(crate) use request::{CACHED_WORD_CHARS_MAX, ID_CHARS_MAX, INCLUDABLE, RETENTIONS};
pub(crate) use tools::LEFT_ALONE;
