//! What can go wrong between the router and an engine.

use allerac_engine_core::event::RefuseReason;

use crate::protocol::PrepareError;

/// A request that an engine did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The model cannot be loaded.
    #[error("the model cannot be loaded: {reason}")]
    LoadFailed {
        /// For the administrator.
        reason: String,
    },
    /// Too many requests wait.
    #[error("{waiting} requests are waiting already; try again later")]
    QueueFull {
        /// Requests waiting.
        waiting: u32,
        /// How long another one would be likely to wait, in milliseconds; 0 where nothing is known yet.
        wait_ms: u32,
    },
    /// Prompt and output do not fit.
    #[error("{tokens} tokens do not fit the context of {context}")]
    TooLong {
        /// Tokens asked for in all.
        tokens: u32,
        /// Tokens that fit.
        context: u32,
    },
    /// The prompt could not be made.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The process died in the middle of this request.
    #[error("the engine crashed while it worked on this request; try again")]
    Crashed,
    /// The step failed.
    #[error("the engine could not compute this request: {message}")]
    Backend {
        /// llama.cpp's reason.
        message: String,
    },
    /// The answer could not go on within what it was to be.
    #[error("the answer cannot go on within its grammar: {message}")]
    Constraint {
        /// What happened.
        message: String,
    },
    /// The client did not read for so long that its answer filled the memory set aside for it.
    #[error("the client did not read its answer")]
    ClientStalled,
    /// The engine did not answer in time.
    #[error("the engine does not answer")]
    Timeout,
    /// The engine is being shut down.
    #[error("the engine was shut down")]
    Stopped,
}

impl From<RefuseReason> for EngineError {
    fn from(reason: RefuseReason) -> Self {
        match reason {
            RefuseReason::QueueFull { waiting, wait_ms } => Self::QueueFull { waiting, wait_ms },
            RefuseReason::TooLong { tokens, context } => Self::TooLong { tokens, context },
        }
    }
}
