//! What the engine reports of a request.

use serde::{Deserialize, Serialize};

use crate::request::{RequestId, TokenId};

/// One thing that happened to a request. After `Finished`, `Failed` or `Refused` nothing follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The request's place in the queue changed.
    Waiting {
        /// Whose event this is.
        id: RequestId,
        /// 1 is next.
        place: u32,
        /// How long it is likely to wait, in milliseconds; 0 where nothing is known yet.
        wait_ms: u32,
    },
    /// The request left the queue; `cached_tokens` of its prompt need no computing.
    Started {
        /// Whose event this is.
        id: RequestId,
        /// Prompt tokens taken from the KV cache.
        cached_tokens: u32,
    },
    /// Tokens of the prompt were scored; all of them come before the first `Chunk`, in order.
    Scored {
        /// Whose event this is.
        id: RequestId,
        /// One for each token. The first token of a prompt has nothing before it that it could follow from: it is certain.
        logprobs: Vec<TokenLogprob>,
    },
    /// Tokens were produced. `text` may be empty while a stop string or a UTF-8 character is undecided.
    Chunk {
        /// Whose event this is.
        id: RequestId,
        /// What was produced.
        chunk: Chunk,
    },
    /// The request ended by itself or was cancelled; its sequence is free.
    Finished {
        /// Whose event this is.
        id: RequestId,
        /// Why it ended.
        reason: FinishReason,
        /// Text held back until now (a stop string that did not come about).
        tail: String,
        /// What it cost.
        usage: Usage,
    },
    /// The request could not be answered to its end.
    Failed {
        /// Whose event this is.
        id: RequestId,
        /// Why.
        failure: Failure,
        /// What it had cost until then.
        usage: Usage,
    },
    /// The request never entered the queue.
    Refused {
        /// Whose event this is.
        id: RequestId,
        /// Why.
        reason: RefuseReason,
    },
}

/// Why an answer broke off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// The backend failed; for the log and for the administrator.
    Backend(String),
    /// The answer cannot go on within its grammar; for the client.
    Constraint(String),
}

/// Why a request was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefuseReason {
    /// The queue already holds this many requests.
    QueueFull {
        /// Requests waiting.
        waiting: u32,
        /// How long another one would be likely to wait, in milliseconds; 0 where nothing is known yet.
        wait_ms: u32,
    },
    /// Prompt and `max_tokens` together do not fit the context.
    TooLong {
        /// Tokens asked for in all.
        tokens: u32,
        /// Tokens that fit.
        context: u32,
    },
}

/// New output of one request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// Whole UTF-8 characters, in order, never part of a stop string.
    pub text: String,
    /// The tokens produced since the last chunk, as the model made them.
    pub tokens: Vec<TokenId>,
    /// One per entry of `tokens` when log probabilities were asked for, else empty.
    pub logprobs: Vec<TokenLogprob>,
    /// Tokens produced by this request so far, these included.
    pub completion_tokens: u32,
}

/// The log probability of a produced token under the model's own distribution (softmax of the raw
/// logits, before penalties and filters), as OpenAI's API documents it; or under the distribution that it was
/// drawn from, where [`SamplingParams::post_sampling_probs`](crate::SamplingParams::post_sampling_probs) says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// The token.
    pub token: TokenId,
    /// Its bytes; may be part of a UTF-8 character.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// The most likely tokens at this place, most likely first, with their bytes.
    pub top: Vec<(TokenId, Vec<u8>, f32)>,
}

/// Why a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinishReason {
    /// The model ended its turn, or its answer is whole.
    Stop,
    /// The stop string at this place of the request's list came.
    StopString(u32),
    /// `max_tokens` were produced, or the context was full.
    Length,
    /// The caller cancelled.
    Cancelled,
}

/// Tokens of one request, counted where they are produced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Of these, taken from the KV cache.
    pub cached_tokens: u32,
    /// Tokens produced, the end-of-turn token not counted.
    pub completion_tokens: u32,
    /// Of these, guessed right from the prediction of the request.
    pub predicted_tokens: u32,
    /// Tokens of the prediction that were guessed and not produced.
    pub mispredicted_tokens: u32,
}
