//! The JSON of the OpenAI API, exactly as on the wire.
//!
//! Requests are parsed strictly: each field is honoured, or refused by name. Nothing is dropped silently.

mod batch;
mod chat;
mod completion;
mod constraint;
mod conversation;
mod fields;
mod message;
mod options;
mod response;
mod responses;
mod sampling;
mod tools;
mod upstream;

pub use batch::{BatchEndpoint, BatchLine, BatchRequest, file_expiry};
pub use chat::metadata_of;
pub use completion::{CompletionRequest, Prompt};
pub use constraint::{Constraint, Form};
pub use conversation::{ChatRequest, Effort, Message, Part, Role, Tool, ToolCall, ToolChoice, Tools};
pub use fields::{Envelope, WireError};
pub use options::{Options, ServiceTier};
pub use response::{
    CallDelta, CalledFunction, CalledTool, ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatLogprobs,
    ChatMessage, Completion, CompletionChoice, CompletionLogprobs, CompletionTokensDetails, CompletionUsage, Delta,
    ErrorBody, ErrorDetail, FunctionDelta, Logprob, Model, ModelList, PromptTokensDetails, TopLogprob,
};
pub use responses::{ResponseError, ResponseObject, ResponseStatus, ResponsesRequest, item_messages};
pub use sampling::{DryOptions, LastTokens, MirostatOptions, Sampling};
