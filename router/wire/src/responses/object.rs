//! The response itself, with every field of OpenAI's schema.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::request::ResponsesRequest;
use crate::options::ServiceTier;
use crate::response::CompletionUsage;

/// Where a response stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words are OpenAI's")]
pub enum ResponseStatus {
    Queued,
    InProgress,
    Completed,
    Incomplete,
    Failed,
    Cancelled,
}

impl ResponseStatus {
    pub(crate) const ALL: [Self; 6] =
        [Self::Queued, Self::InProgress, Self::Completed, Self::Incomplete, Self::Failed, Self::Cancelled];

    /// OpenAI's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What a response would cost before its answer.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are OpenAI's")]
pub struct InputTokens {
    #[schemars(extend("const" = "response.input_tokens"))]
    pub object: &'static str,
    pub input_tokens: usize,
}

/// Why a response failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseError {
    /// OpenAI's word: `server_error`, `rate_limit_exceeded` or `invalid_prompt`.
    pub code: &'static str,
    /// For the client's developer.
    pub message: String,
}

/// A response.
#[derive(Debug, Clone)]
pub struct ResponseObject {
    /// `resp_...`.
    pub id: String,
    /// The model asked for.
    pub model: String,
    /// Seconds since 1970.
    pub created_at: i64,
    /// Where it stands.
    pub status: ResponseStatus,
    /// Seconds since 1970, once it is complete.
    pub completed_at: Option<i64>,
    /// Why it failed.
    pub error: Option<ResponseError>,
    /// Why it is incomplete, in OpenAI's word.
    pub incomplete: Option<&'static str>,
    /// What came of it, as items.
    pub output: Vec<Value>,
    /// What it cost, once that is known.
    pub usage: Option<CompletionUsage>,
    echo: Map<String, Value>,
}

impl ResponseObject {
    /// A response that is yet to begin. What the request left open of sampling is told as the model's own.
    #[must_use]
    pub fn new(id: String, created_at: i64, request: &ResponsesRequest, open: (f64, f64)) -> Self {
        let mut echo = request.echo.clone();
        for (name, default) in [("temperature", open.0), ("top_p", open.1)] {
            if echo[name].is_null() {
                echo.insert(name.to_owned(), json!(default));
            }
        }
        echo.insert("service_tier".into(), json!(request.chat.options.service_tier.as_str()));
        Self {
            id,
            model: request.chat.model.clone(),
            created_at,
            status: if request.background { ResponseStatus::Queued } else { ResponseStatus::InProgress },
            completed_at: None,
            error: None,
            incomplete: None,
            output: Vec::new(),
            usage: None,
            echo,
        }
    }

    /// Tells how urgent it was in the end.
    pub fn set_tier(&mut self, tier: ServiceTier) {
        self.echo.insert("service_tier".into(), json!(tier.as_str()));
    }

    /// As on the wire.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut map = Map::new();
        let mut set = |name: &str, value: Value| map.insert(name.to_owned(), value);
        set("id", json!(self.id));
        set("object", json!("response"));
        set("created_at", json!(self.created_at));
        set("status", json!(self.status.as_str()));
        set("completed_at", json!(self.completed_at));
        set(
            "error",
            self.error.as_ref().map_or(Value::Null, |error| json!({"code": error.code, "message": error.message})),
        );
        set("incomplete_details", self.incomplete.map_or(Value::Null, |reason| json!({"reason": reason})));
        set("model", json!(self.model));
        set("output", Value::Array(self.output.clone()));
        set("usage", self.usage.as_ref().map_or(Value::Null, usage));
        map.extend(self.echo.clone());
        Value::Object(map)
    }
}

fn usage(usage: &CompletionUsage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.prompt_tokens_details.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.completion_tokens_details.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    })
}
