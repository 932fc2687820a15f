//! Answers, with every field of Anthropic's schema.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// A whole message, or one that begins.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are Anthropic's")]
pub struct MessageBody {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub role: &'static str,
    pub model: String,
    pub content: Vec<Block>,
    pub stop_reason: Option<&'static str>,
    pub stop_sequence: Option<String>,
    pub stop_details: Option<Value>,
    pub container: Option<Value>,
    pub diagnostics: Option<Value>,
    /// Absent unless the request has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_management: Option<Value>,
    pub usage: MessageUsage,
}

/// A block of a message.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the fields are Anthropic's")]
pub enum Block {
    Text { text: String, citations: Option<Value> },
    Thinking { thinking: String, signature: String },
    ToolUse { id: String, name: String, input: Value, caller: ToolCaller },
}

/// Who calls a tool: always the model itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the words are Anthropic's")]
pub enum ToolCaller {
    Direct,
}

/// Tokens of a message. What was cached is not among `input_tokens`.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are Anthropic's")]
pub struct MessageUsage {
    pub input_tokens: u32,
    pub cache_creation_input_tokens: u32,
    pub cache_read_input_tokens: u32,
    pub cache_creation: CacheCreation,
    pub output_tokens: u32,
    pub output_tokens_details: OutputDetails,
    pub server_tool_use: Option<()>,
    pub service_tier: &'static str,
    pub inference_geo: Option<()>,
    pub speed: Option<()>,
}

#[derive(Debug, Clone, Copy, Default, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are Anthropic's")]
pub struct CacheCreation {
    pub ephemeral_5m_input_tokens: u32,
    pub ephemeral_1h_input_tokens: u32,
}

#[derive(Debug, Clone, Copy, Default, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are Anthropic's")]
pub struct OutputDetails {
    pub thinking_tokens: u32,
}

impl MessageUsage {
    /// Of a prompt with so many tokens, of which some were cached, and an answer, of which some were thought.
    #[must_use]
    pub fn new(prompt: u32, cached: u32, output: u32, thinking: u32) -> Self {
        Self {
            input_tokens: prompt.saturating_sub(cached),
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: cached,
            cache_creation: CacheCreation::default(),
            output_tokens: output,
            output_tokens_details: OutputDetails { thinking_tokens: thinking },
            server_tool_use: None,
            service_tier: "standard",
            inference_geo: None,
            speed: None,
        }
    }
}

/// An event of a streamed message.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the fields are Anthropic's")]
pub enum Event {
    MessageStart { message: Box<MessageBody> },
    Ping,
    ContentBlockStart { index: u32, content_block: Block },
    ContentBlockDelta { index: u32, delta: BlockDelta },
    ContentBlockStop { index: u32 },
    MessageDelta(MessageDelta),
    MessageStop,
    Error { error: ProblemDetail, request_id: String },
}

impl Event {
    /// The name beside the data.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::MessageStart { .. } => "message_start",
            Self::Ping => "ping",
            Self::ContentBlockStart { .. } => "content_block_start",
            Self::ContentBlockDelta { .. } => "content_block_delta",
            Self::ContentBlockStop { .. } => "content_block_stop",
            Self::MessageDelta(_) => "message_delta",
            Self::MessageStop => "message_stop",
            Self::Error { .. } => "error",
        }
    }
}

/// What an event adds to a block.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the fields are Anthropic's")]
pub enum BlockDelta {
    TextDelta { text: String },
    ThinkingDelta { thinking: String },
    SignatureDelta { signature: String },
    InputJsonDelta { partial_json: String },
}

/// The end of a message: why, and what it cost in all.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are Anthropic's")]
pub struct MessageDelta {
    pub delta: EventDelta,
    /// Absent unless the request has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_management: Option<Value>,
    pub usage: DeltaUsage,
}

/// Tokens of a message, as its end tells them: what was known before is not told again.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are Anthropic's")]
pub struct DeltaUsage {
    pub input_tokens: u32,
    pub cache_creation_input_tokens: u32,
    pub cache_read_input_tokens: u32,
    pub output_tokens: u32,
    pub output_tokens_details: OutputDetails,
    pub server_tool_use: Option<()>,
}

impl From<MessageUsage> for DeltaUsage {
    fn from(usage: MessageUsage) -> Self {
        Self {
            input_tokens: usage.input_tokens,
            cache_creation_input_tokens: usage.cache_creation_input_tokens,
            cache_read_input_tokens: usage.cache_read_input_tokens,
            output_tokens: usage.output_tokens,
            output_tokens_details: usage.output_tokens_details,
            server_tool_use: usage.server_tool_use,
        }
    }
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are Anthropic's")]
pub struct EventDelta {
    pub stop_reason: Option<&'static str>,
    pub stop_sequence: Option<String>,
    pub stop_details: Option<Value>,
    pub container: Option<Value>,
}

/// An error.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are Anthropic's")]
pub struct Problem {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub error: ProblemDetail,
    pub request_id: String,
}

/// What went wrong.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are Anthropic's")]
pub struct ProblemDetail {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub message: String,
}

/// The tokens of a conversation.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are Anthropic's")]
pub struct TokenCount {
    pub input_tokens: u32,
}

/// A page of the models that a key can use.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are Anthropic's")]
pub struct ModelPage {
    pub data: Vec<ListedModel>,
    pub has_more: bool,
    pub first_id: Option<String>,
    pub last_id: Option<String>,
}

/// A model.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are Anthropic's")]
pub struct ListedModel {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub id: String,
    pub display_name: String,
    pub created_at: String,
    pub lifecycle: &'static str,
    pub capabilities: Option<()>,
    pub max_input_tokens: Option<u32>,
    pub max_tokens: Option<u32>,
    pub line: Option<()>,
    pub deprecated_at: Option<()>,
    pub retires_at: Option<()>,
}
