//! The JSON of each API, exactly as on the wire: OpenAI's, Anthropic's and Ollama's.
//!
//! Requests are parsed strictly: each field is honoured, or refused by name. Nothing is dropped silently.

pub mod anthropic;
mod arguments;
mod batch;
mod chat;
mod completion;
mod constraint;
mod conversation;
mod embedding;
mod fields;
mod kept;
mod message;
pub mod ollama;
mod options;
mod rerank;
mod response;
mod responses;
mod sampling;
pub mod schema;
mod tools;
mod upstream;

pub use arguments::arguments_object;
pub use batch::{BatchEndpoint, BatchLine, BatchRequest, file_expiry};
pub use chat::metadata_of;
pub use completion::{CompletionRequest, Prompt};
pub use constraint::{Constraint, Form};
pub use conversation::{ChatRequest, Effort, FreeText, Message, Part, Role, Tool, ToolCall, ToolChoice, Tools};
pub use embedding::{Embedding, EmbeddingEncoding, EmbeddingList, EmbeddingRequest, EmbeddingVector, EncoderUsage};
pub use fields::{Envelope, WireError};
pub use kept::{
    BatchCounts, BatchError, BatchErrors, BatchInputDetails, BatchObject, BatchOutputDetails, BatchStatus, BatchUsage,
    Deleted, FileObject, ListPage,
};
pub use options::{Options, ServiceTier};
pub use rerank::{RankedDocument, RankedText, RerankRequest, Reranking};
pub use response::{
    CallDelta, CalledCustom, CalledFunction, CalledTool, ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion,
    ChatLogprobs, ChatMessage, Completion, CompletionChoice, CompletionLogprobs, CompletionTokensDetails,
    CompletionUsage, CustomDelta, Delta, ErrorBody, ErrorDetail, FunctionDelta, Logprob, Model, ModelList,
    PromptTokensDetails, TopLogprob,
};
pub use responses::{
    ConversationObject, ConversationRequest, InputTokens, ResponseError, ResponseObject, ResponseStatus,
    ResponsesRequest, conversation_items, item_messages,
};
pub use sampling::{DryOptions, LastTokens, MirostatOptions, Sampling};
