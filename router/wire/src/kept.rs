//! What is kept for people, as lists and files tell it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A page of a list; its objects have ids.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are OpenAI's")]
pub struct ListPage<T> {
    #[schemars(extend("const" = "list"))]
    pub object: &'static str,
    pub data: Vec<T>,
    pub first_id: Option<String>,
    pub last_id: Option<String>,
    pub has_more: bool,
}

/// What was deleted.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are OpenAI's")]
pub struct Deleted {
    pub id: String,
    pub object: &'static str,
    pub deleted: bool,
}

/// A file.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are OpenAI's")]
pub struct FileObject {
    pub id: String,
    #[schemars(extend("const" = "file"))]
    pub object: &'static str,
    pub bytes: u64,
    pub created_at: i64,
    pub expires_at: Option<i64>,
    pub filename: String,
    pub purpose: String,
    #[schemars(extend("const" = "processed"))]
    pub status: &'static str,
    pub status_details: Option<()>,
}

/// A batch. Times are seconds since 1970, null where it has not come that far.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are OpenAI's")]
pub struct BatchObject {
    pub id: String,
    #[schemars(extend("const" = "batch"))]
    pub object: &'static str,
    pub endpoint: String,
    pub errors: Option<BatchErrors>,
    pub input_file_id: String,
    pub completion_window: String,
    pub status: BatchStatus,
    pub output_file_id: Option<String>,
    pub error_file_id: Option<String>,
    pub created_at: i64,
    pub in_progress_at: Option<i64>,
    pub expires_at: i64,
    pub finalizing_at: Option<i64>,
    pub completed_at: Option<i64>,
    pub failed_at: Option<i64>,
    pub expired_at: Option<i64>,
    pub cancelling_at: Option<i64>,
    pub cancelled_at: Option<i64>,
    pub metadata: Map<String, Value>,
    /// Null where its lines name several.
    pub model: Option<String>,
    pub request_counts: BatchCounts,
    pub usage: BatchUsage,
}

/// Where a batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the words are OpenAI's")]
pub enum BatchStatus {
    Validating,
    Failed,
    InProgress,
    Finalizing,
    Completed,
    Expired,
    Cancelling,
    Cancelled,
}

/// What was wrong with the lines of a batch.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are OpenAI's")]
pub struct BatchErrors {
    #[schemars(extend("const" = "list"))]
    pub object: &'static str,
    pub data: Vec<BatchError>,
}

/// What was wrong with one line, or with all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are OpenAI's")]
pub struct BatchError {
    pub code: String,
    pub message: String,
    pub line: Option<u64>,
    pub param: Option<String>,
}

/// The lines of a batch.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are OpenAI's")]
pub struct BatchCounts {
    pub total: u32,
    pub completed: u32,
    pub failed: u32,
}

/// Tokens of all answers of a batch.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are OpenAI's")]
pub struct BatchUsage {
    pub input_tokens: u64,
    pub input_tokens_details: BatchInputDetails,
    pub output_tokens: u64,
    pub output_tokens_details: BatchOutputDetails,
    pub total_tokens: u64,
}

#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are OpenAI's")]
pub struct BatchInputDetails {
    pub cached_tokens: u64,
}

#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are OpenAI's")]
pub struct BatchOutputDetails {
    pub reasoning_tokens: u64,
}
