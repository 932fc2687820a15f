//! The JSON of the OpenAI API, exactly as on the wire.
//!
//! Requests are parsed strictly: each field is honoured, or refused by name. Nothing is dropped silently.

mod chat;
mod completion;
mod constraint;
mod fields;
mod options;
mod response;
mod sampling;

pub use chat::{ChatRequest, Message};
pub use completion::{CompletionRequest, Prompt};
pub use constraint::{Constraint, Form};
pub use fields::{Envelope, WireError};
pub use options::{Options, ServiceTier};
pub use response::{
    ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatLogprobs, ChatMessage, Completion, CompletionChoice,
    CompletionLogprobs, CompletionTokensDetails, CompletionUsage, Delta, ErrorBody, ErrorDetail, Logprob, Model,
    ModelList, PromptTokensDetails, TopLogprob,
};
pub use sampling::{DryOptions, LastTokens, MirostatOptions, Sampling};
