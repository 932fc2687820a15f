//! Where the KV of sequences goes that have no place in the context any more, and from where it comes back.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::request::{Generate, Scope, TokenId};
pub use crate::slot::AfterPrompt;

/// Keeps sequences outside the context. Nothing in it is needed: what it loses is computed again.
pub trait Archive {
    /// The entry that has most of a request's prompt.
    fn find(&mut self, request: &Generate) -> Option<Found>;

    /// The entry itself, when it is at hand; else it is being brought.
    fn fetch(&mut self, entry: EntryId) -> Fetched;

    /// Takes a sequence in. It may be dropped at any time.
    fn keep(&mut self, kept: Kept);

    /// Drops an entry that turned out to be of no use.
    fn forget(&mut self, entry: EntryId);

    /// How full it is.
    fn stats(&self) -> ArchiveStats;
}

/// How full an archive is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveStats {
    /// Sequences.
    pub entries: u64,
    /// Memory that their KV takes.
    pub memory_bytes: u64,
    /// What it takes on disk.
    pub disk_bytes: u64,
}

/// Names a sequence in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(pub u64);

/// An entry that begins like a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Which one.
    pub entry: EntryId,
    /// Tokens it has in common with the prompt.
    pub common: u32,
    /// Tokens it has in all.
    pub length: u32,
}

/// What became of a wish for an entry.
#[derive(Debug)]
pub enum Fetched {
    /// Here it is, and where it was.
    Here(Arc<Kept>, Tier),
    /// It is on its way from a slower place; ask again.
    Coming,
    /// It is lost.
    Gone,
}

/// Where an archive has an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// At hand.
    Memory,
    /// In a slower place. What is brought from there was there when it is used for the first time; while it stays at
    /// hand then, it is in memory.
    Disk,
}

/// A sequence with its KV.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Whose it is, and under what it was computed.
    pub scope: Scope,
    /// See [`Generate::common`].
    pub common: u32,
    /// The sequence.
    pub tokens: Vec<TokenId>,
    /// Logits after a prompt that it begins with, where they are known.
    pub after_prompt: Option<AfterPrompt>,
    /// The KV, in the backend's own form.
    pub state: Vec<u8>,
}
