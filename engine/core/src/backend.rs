//! What computes logits: one model, one context, several sequences.

use std::time::Duration;

use crate::request::{AdapterId, TokenId};

/// A model with a KV cache of several sequences. Implemented by llama.cpp and, in tests, by a fake.
pub trait Backend {
    /// Sizes that do not change while the model is loaded.
    fn limits(&self) -> Limits;

    /// Computes a batch with an adapter that it [has](Self::has_adapter) and appends it to the sequences' KV: either the
    /// next tokens of several sequences or a piece of one sequence's prompt, at most `limits().batch` tokens. A sequence's
    /// tokens stand together, and are all computed with the same adapter. Returns how long it took, or zero where that is
    /// not measured.
    ///
    /// # Errors
    /// [`BackendError`]; the KV of the batch's sequences is then undefined and must be cleared.
    fn decode(&mut self, batch: &[BatchToken], adapter: AdapterId) -> Result<Duration, BackendError>;

    /// Whether batches can be computed with this adapter.
    fn has_adapter(&self, adapter: AdapterId) -> bool {
        adapter == AdapterId::NONE
    }

    /// The logits of the batch's token at `index` (its place in the last batch), one for each token of
    /// the vocabulary. The token had `wants_logits`.
    fn logits(&self, index: usize) -> &[f32];

    /// Drops all KV of `sequence`.
    fn clear(&mut self, sequence: u32);

    /// Drops the KV of `sequence` from position `from` on. `false` when the backend cannot remove a part:
    /// then nothing was removed and the caller clears the whole sequence.
    fn truncate(&mut self, sequence: u32, from: u32) -> bool;

    /// Makes the first `length` tokens of sequence `from` also those of `to`, which has none. Called only
    /// where `limits().copy_min` says that it can be.
    fn copy(&mut self, from: u32, to: u32, length: u32);

    /// The KV of `sequence`, to be [restored](Self::restore) one day; `None` where that cannot be.
    fn save(&self, sequence: u32) -> Option<Vec<u8>>;

    /// Gives `sequence`, which has none, KV that was saved. `false` when it does not fit: then the sequence is
    /// cleared.
    fn restore(&mut self, sequence: u32, state: &[u8]) -> bool;

    /// The bytes that a token stands for; empty for control tokens.
    fn token_bytes(&self, token: TokenId) -> Vec<u8>;

    /// The same, where control tokens stand for their names.
    fn token_text(&self, token: TokenId) -> Vec<u8> {
        self.token_bytes(token)
    }

    /// Whether the token ends a turn.
    fn is_end(&self, token: TokenId) -> bool;

    /// How many of a sequence's `tokens` a smaller model has yet to compute before it can guess what follows; `None`
    /// where there is none, or where it has no place for the sequence now. Asked before every guess.
    fn draft_backlog(&mut self, sequence: u32, tokens: &[TokenId]) -> Option<u32> {
        let _ = (sequence, tokens);
        None
    }

    /// Lets the smaller model guess what follows a sequence's `tokens`, of which `draft_backlog` is known. With more
    /// than [`DRAFT_BACKLOG_MAX`] of them to compute it computes about `room` of these and guesses nothing.
    fn draft(&mut self, sequence: u32, tokens: &[TokenId], length: u32, room: u32) -> Draft {
        let _ = (sequence, tokens, length, room);
        Draft::default()
    }
}

/// With at most so many tokens to compute a smaller model guesses in the same call: they are what the step before
/// added, and hardly take longer than one.
pub const DRAFT_BACKLOG_MAX: u32 = 8;

/// What a smaller model made of a sequence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Draft {
    /// At most as many as were wanted, of the vocabulary; none while it catches up.
    pub tokens: Vec<TokenId>,
    /// Tokens of the sequence that it computed.
    pub computed: u32,
    /// How long that took, or zero where that is not measured.
    pub took: Duration,
}

/// One token of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchToken {
    /// The token.
    pub token: TokenId,
    /// Its position in the sequence, from 0.
    pub position: u32,
    /// The sequence it extends.
    pub sequence: u32,
    /// Whether its logits are read afterwards.
    pub wants_logits: bool,
}

/// Sizes of a loaded model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// KV cells shared by all sequences.
    pub cells: u32,
    /// The longest single sequence, prompt and output together.
    pub context: u32,
    /// Sequences at once.
    pub sequences: u32,
    /// Tokens in one step.
    pub batch: u32,
    /// Tokens in the vocabulary.
    pub vocabulary: u32,
    /// The fewest tokens that are cheaper to [copy](Backend::copy) from another sequence than to compute;
    /// `None` where sequences cannot be copied.
    pub copy_min: Option<u32>,
    /// Whether tokens that were computed on trial can be removed again from the end of a sequence.
    pub drafts: bool,
    /// Whether only sequences with neighbouring numbers are computed together; others one after another.
    pub neighbours: bool,
    /// Kernels choose their arithmetic by the length of a piece of prompt, and pieces of at least this many
    /// tokens give the same numbers however the prompt is cut; 1 where all do.
    pub piece_min: u32,
}

/// A step that could not be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// No room in the KV cache for this batch.
    #[error("no room in the KV cache")]
    CacheFull,
    /// The adapter cannot be used.
    #[error("the adapter cannot be used")]
    NoAdapter,
    /// The computation failed; the code is llama.cpp's.
    #[error("decode failed with code {0}")]
    Failed(i32),
}
