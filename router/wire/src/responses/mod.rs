//! `POST /v1/responses`: what comes in, what goes out, and how items become messages.

mod echo;
mod items;
mod messages;
mod object;
mod request;
mod tools;

pub use messages::item_messages;
pub use object::{ResponseError, ResponseObject, ResponseStatus};
pub use request::ResponsesRequest;
