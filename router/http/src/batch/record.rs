//! A batch as it is kept, and as it is told.

use allerac_objects::{Kind, New};
pub(crate) use allerac_wire::BatchStatus as Status;
use allerac_wire::{
    BatchCounts, BatchEndpoint, BatchError, BatchErrors, BatchInputDetails, BatchObject, BatchOutputDetails,
    BatchRequest, BatchUsage,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::handlers::{KEPT_S, now_s};

/// A batch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    /// The public id of the key that its lines are asked with.
    pub(crate) key_id: String,
    endpoint: String,
    pub(crate) input_file_id: String,
    completion_window: String,
    metadata: Map<String, Value>,
    /// How long its files are kept, in seconds.
    pub(crate) kept_s: i64,
    pub(crate) status: Status,
    created_at: i64,
    pub(crate) expires_at: i64,
    /// When it came to each status, by OpenAI's name for that time.
    times: Map<String, Value>,
    /// Why it failed: what was wrong with which line.
    pub(crate) errors: Vec<BatchError>,
    pub(crate) output_file_id: Option<String>,
    pub(crate) error_file_id: Option<String>,
    pub(crate) total: u32,
    pub(crate) completed: u32,
    pub(crate) failed: u32,
    pub(crate) usage: Usage,
    model: Option<String>,
}

/// Tokens of all answers.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    input: u64,
    cached: u64,
    output: u64,
    reasoning: u64,
}

impl Usage {
    /// Adds what one answer says, in the words of either API.
    pub(crate) fn add(&mut self, usage: &Value) {
        let number = |names: [&str; 2], detail: Option<&str>| {
            let value = usage.get(names[0]).or_else(|| usage.get(names[1]))?;
            detail.map_or(Some(value), |detail| value.get(detail))?.as_u64()
        };
        self.input += number(["input_tokens", "prompt_tokens"], None).unwrap_or(0);
        self.output += number(["output_tokens", "completion_tokens"], None).unwrap_or(0);
        let details = ["input_tokens_details", "prompt_tokens_details"];
        self.cached += number(details, Some("cached_tokens")).unwrap_or(0);
        let details = ["output_tokens_details", "completion_tokens_details"];
        self.reasoning += number(details, Some("reasoning_tokens")).unwrap_or(0);
    }

    fn told(self) -> BatchUsage {
        BatchUsage {
            input_tokens: self.input,
            input_tokens_details: BatchInputDetails { cached_tokens: self.cached },
            output_tokens: self.output,
            output_tokens_details: BatchOutputDetails { reasoning_tokens: self.reasoning },
            total_tokens: self.input + self.output,
        }
    }
}

impl Record {
    /// A batch that nobody has worked on yet.
    pub(crate) fn new(request: BatchRequest, key_id: String) -> Self {
        let created_at = now_s();
        let window_s = i64::try_from(request.window.as_secs()).unwrap_or(i64::MAX);
        Self {
            id: format!("batch_{}", Uuid::now_v7().simple()),
            key_id,
            endpoint: request.endpoint.path().to_owned(),
            input_file_id: request.input_file_id,
            completion_window: request.completion_window,
            metadata: request.metadata,
            kept_s: request.kept_s.unwrap_or(KEPT_S),
            status: Status::Validating,
            created_at,
            expires_at: created_at.saturating_add(window_s),
            times: Map::new(),
            errors: Vec::new(),
            output_file_id: None,
            error_file_id: None,
            total: 0,
            completed: 0,
            failed: 0,
            usage: Usage::default(),
            model: None,
        }
    }

    pub(crate) fn endpoint(&self) -> BatchEndpoint {
        BatchEndpoint::of_path(&self.endpoint).unwrap_or(BatchEndpoint::Chat)
    }

    /// Notes that it came to a status.
    pub(crate) fn become_(&mut self, status: Status) {
        self.status = status;
        let name = match status {
            Status::Validating => return,
            Status::Failed => "failed_at",
            Status::InProgress => "in_progress_at",
            Status::Finalizing => "finalizing_at",
            Status::Completed => "completed_at",
            Status::Expired => "expired_at",
            Status::Cancelling => "cancelling_at",
            Status::Cancelled => "cancelled_at",
        };
        self.times.insert(name.to_owned(), json!(now_s()));
    }

    /// Whether it was to be cancelled, also before the last start.
    pub(crate) fn is_cancelling(&self) -> bool {
        self.times.contains_key("cancelling_at")
    }

    /// Whether nothing more is begun for it.
    pub(crate) fn is_ending(&self) -> bool {
        self.is_cancelling() || !matches!(self.status, Status::Validating | Status::InProgress)
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.status, Status::Failed | Status::Completed | Status::Expired | Status::Cancelled)
    }

    /// The object to keep.
    pub(crate) fn object(&self, owner: u64) -> New {
        let over = self.is_over();
        New {
            kind: Kind::Batch,
            owner,
            id: self.id.clone(),
            created_at: self.created_at,
            expires_at: over.then(|| now_s().saturating_add(KEPT_S)),
            open: !over,
            head: serde_json::to_vec(self).unwrap_or_default(),
            tail: None,
        }
    }

    /// As on the wire.
    pub(crate) fn told(&self) -> BatchObject {
        let time = |name: &str| self.times.get(name).and_then(Value::as_i64);
        let errors = Some(self.errors.clone()).filter(|errors| !errors.is_empty());
        BatchObject {
            id: self.id.clone(),
            object: "batch",
            endpoint: self.endpoint.clone(),
            errors: errors.map(|data| BatchErrors { object: "list", data }),
            input_file_id: self.input_file_id.clone(),
            completion_window: self.completion_window.clone(),
            status: self.status,
            output_file_id: self.output_file_id.clone(),
            error_file_id: self.error_file_id.clone(),
            created_at: self.created_at,
            in_progress_at: time("in_progress_at"),
            expires_at: self.expires_at,
            finalizing_at: time("finalizing_at"),
            completed_at: time("completed_at"),
            failed_at: time("failed_at"),
            expired_at: time("expired_at"),
            cancelling_at: time("cancelling_at"),
            cancelled_at: time("cancelled_at"),
            metadata: self.metadata.clone(),
            model: self.model.clone(),
            request_counts: BatchCounts { total: self.total, completed: self.completed, failed: self.failed },
            usage: self.usage.told(),
        }
    }

    /// Notes the model that its lines name, where it is one.
    pub(crate) fn set_model(&mut self, model: Option<String>) {
        self.model = model;
    }
}
