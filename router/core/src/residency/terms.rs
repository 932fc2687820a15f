//! The words in which the policy is asked, and answers.

use std::sync::Arc;
use std::time::Duration;

/// Time since the policy began.
pub(crate) type Moment = Duration;
/// What an engine is for: the files of a model. Names of the same files share it.
pub(crate) type Key = Arc<str>;
/// Names one request for an engine.
pub(crate) type Ticket = u64;

/// What the administrator decides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// All models together, in bytes.
    pub(crate) budget: u64,
    /// How long a model stays that nobody uses; `None` until its memory is wanted.
    pub(crate) idle: Option<Duration>,
}

/// A request for an engine.
#[derive(Debug, Clone)]
pub(crate) struct Want {
    pub(crate) ticket: Ticket,
    pub(crate) key: Key,
    pub(crate) need: Need,
    /// Whether the model stays in memory once it is there.
    pub(crate) pinned: bool,
    /// How long the model stays afterwards, where the request says so.
    pub(crate) keep: Option<Duration>,
    /// Another number when its file is another one.
    pub(crate) file: u64,
}

/// Memory that a model takes, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Need {
    /// Files that are mapped: the kernel counts them as free memory though they are in use.
    pub(crate) mapped: u64,
    /// The rest.
    pub(crate) own: u64,
}

impl Need {
    pub(crate) fn all(self) -> u64 {
        self.mapped.saturating_add(self.own)
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start an engine; it is the so manieth of this policy.
    Start(Key, u64),
    /// The request gets the engine that was started under this number.
    Grant(Ticket, Key, u64),
    /// End an engine; nobody uses it.
    Stop(Key),
    /// The request gets none.
    Refuse(Ticket, Refusal),
}

/// Why a request gets no engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The model is larger than all that models may have.
    TooLarge { needs: u64, allowed: u64 },
    /// Something else has the memory.
    NoMemory { needs: u64, free: u64 },
    /// It failed to load, and is tried again later.
    Failed { reason: String, retry_in: Duration },
    /// It was removed.
    Gone,
}

/// What others see of a model in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) need: Need,
    /// When it goes, if nobody wants it until then.
    pub(crate) until: Option<Moment>,
    pub(crate) is_going: bool,
}
