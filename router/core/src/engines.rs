//! What others see of models and their engines, and why a request may have none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use allerac_engine_link::protocol::ModelInfo;
use allerac_engine_link::{Engine, EngineError, EngineStatus, Report};

use allerac_models::fit::Split;

use crate::model::LocalModel;
use crate::residency::{Refusal, View};

/// The memory for models.
#[derive(Clone)]
pub struct Memory {
    /// All models together, in bytes.
    pub budget_bytes: u64,
    /// What they may take of what is free now, in bytes.
    pub free_bytes: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Memory({} bytes)", self.budget_bytes)
    }
}

/// Why there is no engine for a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoEngine {
    /// The model is larger than all that models may have.
    #[error("this model needs about {} MiB of memory, and models may have {} MiB on this box; choose a smaller one", .needs >> 20, .allowed >> 20)]
    TooLarge {
        /// Bytes.
        needs: u64,
        /// Bytes.
        allowed: u64,
    },
    /// Something else has the memory.
    #[error("this model needs about {} MiB of memory, and {} MiB are free now; try again later", .needs >> 20, .free >> 20)]
    NoMemory {
        /// Bytes.
        needs: u64,
        /// Bytes.
        free: u64,
    },
    /// It failed to load.
    #[error("the model could not be loaded and is tried again in {} s, or when its file changes", .retry_in.as_secs().max(1))]
    Failed {
        /// For the administrator.
        reason: String,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// It was removed meanwhile.
    #[error("the model was removed")]
    Gone,
    /// The server is being shut down.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<Refusal> for NoEngine {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TooLarge { needs, allowed } => Self::TooLarge { needs, allowed },
            Refusal::NoMemory { needs, free } => Self::NoMemory { needs, free },
            Refusal::Failed { reason, retry_in } => Self::Failed { reason, retry_in },
            Refusal::Gone => Self::Gone,
        }
    }
}

/// An installed model, and what its engine is doing.
#[derive(Debug, Clone)]
pub struct ModelState {
    /// The model.
    pub model: Arc<LocalModel>,
    /// What its engine is doing; `None` where it has none.
    pub status: Option<EngineStatus>,
    /// What its engines did so far.
    pub report: Report,
    /// When it leaves memory, if nobody wants it until then; `None` for never.
    pub until: Option<Instant>,
    /// Memory that it takes as measured, or that is set aside for it while that cannot be; 0 where it has no engine.
    pub memory_bytes: u64,
    /// What of it is on the graphics processor.
    pub split: Option<Split>,
}

impl ModelState {
    /// What the model is, where it is in memory.
    #[must_use]
    pub fn loaded(&self) -> Option<&Arc<ModelInfo>> {
        match &self.status {
            Some(EngineStatus::Ready(info)) => Some(info),
            _ => None,
        }
    }
}

/// A model, as the keeper lets it be seen.
pub(crate) fn state(model: &Arc<LocalModel>, view: &View) -> ModelState {
    let model = Arc::clone(model);
    let Some(standing) = view.get(&model.key) else {
        return ModelState {
            model,
            status: None,
            report: Report::default(),
            until: None,
            memory_bytes: 0,
            split: None,
        };
    };
    let status = match (&standing.engine, &standing.failure) {
        (Some(engine), _) => Some(engine.status()),
        (None, Some(reason)) => Some(EngineStatus::Failed { reason: reason.clone() }),
        (None, None) => None,
    };
    let measured = standing.engine.as_ref().and_then(Engine::memory_bytes);
    ModelState {
        model,
        status,
        report: standing.engine.as_ref().map_or_else(|| standing.before.clone(), Engine::report),
        until: standing.until,
        memory_bytes: measured.unwrap_or(standing.need_bytes),
        split: standing.split,
    }
}
