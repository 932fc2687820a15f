//! What a caller asks of the engine.

use serde::{Deserialize, Serialize};

use crate::constraint::Constraint;

/// A token of the loaded model's vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(pub u32);

/// Names one request between the router and one engine process. Chosen by the router, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub u64);

/// Generate a continuation of `prompt`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generate {
    /// The caller's name for this request; every event carries it.
    pub id: RequestId,
    /// Whose request it is: owners share the machine fairly, and cached prefixes are shared only under an equal
    /// salt, so that timing tells nobody what another owner asked.
    pub salt: u64,
    /// The whole prompt, at least one token.
    pub prompt: Vec<TokenId>,
    /// The most tokens to produce, at least one. The prompt and this together fit the context.
    pub max_tokens: u32,
    /// How the next token is chosen.
    pub sampling: SamplingParams,
    /// Generation ends before the first of these strings; it is not part of the text. Each non-empty.
    pub stop: Vec<String>,
    /// `Some(n)`: report the log probability of each chosen token and of the `n` most likely ones.
    pub top_logprobs: Option<u8>,
}

/// A request and what its answer is limited to.
#[derive(Debug)]
pub struct Job {
    /// The request.
    pub request: Generate,
    /// Limits every token of the answer; `None` where the answer may be anything.
    pub constraint: Option<Box<dyn Constraint>>,
}

impl From<Generate> for Job {
    fn from(request: Generate) -> Self {
        Self { request, constraint: None }
    }
}

/// How a token is chosen from the logits. The steps apply in the order of the fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SamplingParams {
    /// Added to the logits of these tokens first; a value of -100 or less bans the token.
    pub logit_bias: Vec<(TokenId, f32)>,
    /// Subtracted once from every token already produced (OpenAI's definition), -2..=2.
    pub presence_penalty: f32,
    /// Subtracted times the number of occurrences among the tokens already produced, -2..=2.
    pub frequency_penalty: f32,
    /// Keep the `k` most likely tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep the smallest set of most likely tokens whose probabilities sum to at least this; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens at least this fraction as likely as the likeliest; 0 keeps all.
    pub min_p: f32,
    /// 0 is greedy; otherwise logits are divided by it after the filters above.
    pub temperature: f32,
    /// Seeds this request's own random generator; the same seed gives the same choices from the same logits.
    pub seed: u64,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            logit_bias: Vec::new(),
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            temperature: 1.0,
            seed: 0,
        }
    }
}
