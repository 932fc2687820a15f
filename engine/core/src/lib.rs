//! The pure heart of the engine: requests, the scheduler that batches them, sampling, stop strings and
//! UTF-8 assembly, over a [`Backend`] that computes logits.
//!
//! Nothing here knows threads, I/O, clocks, JSON, HTTP or people. A caller feeds commands and calls
//! [`Engine::step`](engine::Engine::step); every effect comes back as an [`Event`].

mod active;
mod admit;
pub mod archive;
pub mod attention;
pub mod backend;
pub mod constraint;
mod draft;
pub mod encode;
pub mod engine;
pub mod event;
mod guess;
mod pace;
mod pause;
pub mod prefix;
mod produce;
mod queue;
pub mod request;
mod reuse;
pub mod sampler;
mod shares;
mod slot;
pub mod stats;
pub mod stop;
mod trial;
mod turns;
pub mod utf8;
pub mod work;

pub use archive::{Archive, EntryId, Fetched, Found, Kept, Tier};
pub use attention::{Attention, AttentionError, FlashAttention, KvType};
pub use backend::{Backend, BackendError, BatchToken, DRAFT_BACKLOG_MAX, Draft, Limits};
pub use constraint::{Constraint, ConstraintError, Grammar, TokenMask};
pub use encode::{Batcher, BatcherConfig, Encode, EncodeError, EncodeFailure, Encoded, Encoder, Sequence};
pub use engine::{Config, Engine};
pub use event::{Chunk, Event, Failure, FinishReason, TokenLogprob, Usage};
pub use request::{
    AdapterId, Class, Dry, Generate, Job, Mirostat, Repetition, RequestId, SamplingParams, Scope, TokenId, Xtc,
};
pub use stats::Stats;
pub use work::{Work, WorkLog};
