//! What a running request tells its handler, wherever it is computed.

use std::time::{Duration, Instant};

use allerac_engine_core::TokenLogprob;
use allerac_parse::Piece;
use allerac_wire::CompletionUsage;

use crate::error::ApiError;
use crate::sse;

/// A step of a running request. `Done` or `Failed` is the last.
#[derive(Debug, Clone)]
pub(crate) enum Progress {
    /// One of the choices waits.
    Waiting(Wait),
    /// The engine began with one of the choices.
    Started(Begun),
    /// One choice goes on. A call always comes with an id.
    Chunk { index: u32, pieces: Vec<Piece>, logprobs: Vec<TokenLogprob> },
    /// One choice ended.
    Finished { index: u32, reason: Finish },
    /// All ended, and the cost is being settled.
    Done(CompletionUsage),
    /// It failed, and the cost is being settled.
    Failed(ApiError),
}

impl sse::Lane for Progress {
    fn failed(self) -> Result<Self, ApiError> {
        match self {
            Self::Failed(error) => Err(error),
            other => Ok(other),
        }
    }
}

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Its turn: it is at this place of the engine's queue, likely for so long.
    Turn { place: u32, wait_ms: u32 },
    /// Its model, which is being loaded, likely for so long.
    Load(Duration),
    /// Memory for its model, which others have.
    Memory,
}

/// How a choice began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun {
    /// Of all prompts of the request.
    pub(crate) prompt_tokens: u32,
    /// Of these, known before.
    pub(crate) cached_tokens: u32,
    /// How long the request waited for its model to be loaded.
    pub(crate) load_time: Duration,
    /// When the engine was asked.
    pub(crate) asked: Instant,
}

/// Why a choice ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The model ended its turn.
    #[default]
    Stop,
    /// This stop string came.
    StopString(String),
    /// It called tools, and waits for their answers.
    Calls,
    /// It had as many tokens as it may.
    Length,
    /// Another server kept it back.
    Filtered,
}

impl Finish {
    /// OpenAI's word.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Stop | Self::StopString(_) => "stop",
            Self::Calls => "tool_calls",
            Self::Length => "length",
            Self::Filtered => "content_filter",
        }
    }
}

/// A name for a call that the model gave none.
pub(crate) fn call_id(request_id: uuid::Uuid, choice: u32, index: u32) -> String {
    // The end of a time-ordered id is its random part.
    let id = request_id.simple().to_string();
    format!("call_{}{choice:x}{index:02x}", &id[id.len() - 20..])
}
