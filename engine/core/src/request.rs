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

/// Names an adapter: small matrices that are added to those of the model (Hu et al., "LoRA", 2021). It follows from the
/// adapter's content, so that what is known under it stays true whatever else is installed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AdapterId(pub u64);

impl AdapterId {
    /// The model as it is.
    pub const NONE: Self = Self(0);
}

/// Whose and what a sequence is. KV means something only under the adapter that it was computed with, and is nobody
/// else's business.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Scope {
    /// See [`Generate::salt`].
    pub salt: u64,
    /// See [`Generate::adapter`].
    pub adapter: AdapterId,
}

/// How urgent a request is, least first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Class {
    /// Nobody waits for it: it runs while nothing else does, and is paused for others.
    Batch,
    /// Somebody reads along.
    #[default]
    Chat,
    /// Somebody listens: it comes first.
    Voice,
}

impl Class {
    /// All of them, in their order.
    pub const ALL: [Self; 3] = [Self::Batch, Self::Chat, Self::Voice];

    /// What it is called where people read it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Chat => "chat",
            Self::Voice => "voice",
        }
    }
}

/// Generate a continuation of `prompt`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generate {
    /// The caller's name for this request; every event carries it.
    pub id: RequestId,
    /// Whose request it is: owners share the machine fairly, and cached prefixes are shared only under an equal
    /// salt, so that timing tells nobody what another owner asked.
    pub salt: u64,
    /// What is added to the model for it.
    pub adapter: AdapterId,
    /// How urgent it is.
    pub class: Class,
    /// The whole prompt, at least one token.
    pub prompt: Vec<TokenId>,
    /// How many of the prompt's first tokens are common to all owners: what is known of them is shared whatever the
    /// salt.
    pub common: u32,
    /// The most tokens to produce; 0 only computes the prompt. The prompt and this together fit the context.
    pub max_tokens: u32,
    /// How the next token is chosen.
    pub sampling: SamplingParams,
    /// Generation ends before the first of these strings; it is not part of the text. Each non-empty.
    pub stop: Vec<String>,
    /// Whether control tokens are part of the text, by their names: models write calls of tools with them.
    pub control_words: bool,
    /// Tokens that the answer is expected to repeat; guesses are made from them.
    pub prediction: Vec<TokenId>,
    /// `Some(n)`: report the log probability of each chosen token and of the `n` most likely ones.
    pub top_logprobs: Option<u8>,
    /// Whether the prompt's own tokens have their log probabilities reported too, with as many likely ones as
    /// `top_logprobs` says. All of the prompt is computed then, whatever is known of it.
    pub score_prompt: bool,
}

impl Generate {
    /// What its KV is known under.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope { salt: self.salt, adapter: self.adapter }
    }
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

/// How a token is chosen from the logits. The steps apply in the order of the fields, which is llama.cpp's
/// default: bias, penalties, DRY, `top_k`, typical, `top_p`, `min_p`, XTC, temperature. Each filter sees the
/// probabilities of what the ones before it kept, at temperature 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SamplingParams {
    /// Added to the logits of these tokens first; a value of -100 or less bans the token.
    pub logit_bias: Vec<(TokenId, f32)>,
    /// Makes every token less likely that came lately, in prompt or output.
    pub repetition: Option<Repetition>,
    /// Subtracted once from every token already produced (OpenAI's definition), -2..=2.
    pub presence_penalty: f32,
    /// Subtracted times the number of occurrences among the tokens already produced, -2..=2.
    pub frequency_penalty: f32,
    /// Makes tokens less likely that would go on repeating what stands in prompt or output.
    pub dry: Option<Dry>,
    /// Keep the `k` most likely tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep the tokens whose information is nearest to the expected one, the smallest set of them whose
    /// probabilities sum to more than this; 1 keeps all. It may drop the likeliest token.
    pub typical_p: f32,
    /// Keep the smallest set of most likely tokens whose probabilities sum to at least this; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens at least this fraction as likely as the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Drops the likeliest tokens now and then.
    pub xtc: Option<Xtc>,
    /// 0 is greedy; otherwise logits are divided by it after the filters above.
    pub temperature: f32,
    /// Replaces all filters from `top_k` to `xtc`, and comes after the temperature.
    pub mirostat: Option<Mirostat>,
    /// Seeds this request's own random generator; the same seed gives the same choices from the same logits.
    pub seed: u64,
    /// Log probabilities are those of what is drawn from, after all the steps above, not the model's own.
    pub post_sampling_probs: bool,
    /// Before so many tokens none that ends a turn is chosen, unless the answer must be of a form.
    pub min_tokens: u32,
}

/// The repetition penalty of Keskar et al., "CTRL" (2019): positive logits are divided by it. Negative ones are
/// multiplied, since dividing would make them more likely.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Repetition {
    /// Above 0; 1 changes nothing.
    pub penalty: f32,
    /// Tokens looked back at; `u32::MAX` is the whole context.
    pub last_tokens: u32,
}

/// "Don't Repeat Yourself" (p-e-w, `text-generation-webui` pull request 5677): a token that would extend a
/// repetition of `n` tokens, `n >= allowed_length`, loses `multiplier * base^(n - allowed_length)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dry {
    /// At least 0; 0 changes nothing.
    pub multiplier: f32,
    /// At least 1.
    pub base: f32,
    /// The longest repetition, in tokens, that costs nothing to begin.
    pub allowed_length: u32,
    /// Tokens looked back at; `u32::MAX` is the whole context.
    pub last_tokens: u32,
    /// No repetition reaches across any of these; each non-empty.
    pub sequence_breakers: Vec<String>,
}

/// "Exclude top choices" (p-e-w, `text-generation-webui` pull request 6335).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Xtc {
    /// How often it happens, 0..=1.
    pub probability: f32,
    /// Of the tokens at least this likely only the least likely stays; above 0.5 there are never two.
    pub threshold: f32,
}

/// Version 2 of Basu et al., "Mirostat: A Neural Text Decoding Algorithm that Directly Controls Perplexity" (2021).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mirostat {
    /// The surprise aimed at, in bits a token.
    pub tau: f32,
    /// How fast it is corrected, 0..=1.
    pub eta: f32,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            logit_bias: Vec::new(),
            repetition: None,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            dry: None,
            top_k: 0,
            typical_p: 1.0,
            top_p: 1.0,
            min_p: 0.0,
            xtc: None,
            temperature: 1.0,
            mirostat: None,
            seed: 0,
            post_sampling_probs: false,
            min_tokens: 0,
        }
    }
}
