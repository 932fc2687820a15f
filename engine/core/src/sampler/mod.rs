//! Chooses the next token from the logits.
//!
//! It works on the backend's logits slice directly: greedy decoding is one pass over it, and filters look
//! at no more candidates than they must.

mod filter;
mod logprob;
mod random;
mod softmax;

use std::collections::HashMap;

use crate::constraint::TokenMask;
use crate::request::{SamplingParams, TokenId};
use filter::Candidate;
pub use logprob::logprob;
use random::Random;
use softmax::Weights;

/// A bias at or below this bans the token, as OpenAI's API documents for -100.
const BIAS_BAN: f32 = -100.0;

/// Chooses the tokens of one request; its choices depend on nothing but the logits it is given.
#[derive(Debug)]
pub struct Sampler {
    params: SamplingParams,
    random: Random,
    /// How often each token was produced; kept only when a penalty wants it.
    produced: HashMap<TokenId, u32>,
    /// Logits after mask, bias and penalties, reused from token to token.
    adjusted: Vec<f32>,
    candidates: Vec<Candidate>,
}

/// No token can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// The model computed something that is not a number.
    #[error("the model's logits are not numbers")]
    NotANumber,
    /// Every token is banned.
    #[error("logit_bias bans every token that could come")]
    AllBanned,
}

impl Sampler {
    /// A sampler for one request.
    #[must_use]
    pub fn new(params: SamplingParams) -> Self {
        let random = Random::new(params.seed);
        Self { params, random, produced: HashMap::new(), adjusted: Vec::new(), candidates: Vec::new() }
    }

    /// Chooses a token, of the `allowed` ones where not all are.
    ///
    /// # Errors
    /// [`SampleError`] when the logits are unusable.
    pub fn sample(&mut self, logits: &[f32], allowed: Option<&TokenMask>) -> Result<TokenId, SampleError> {
        let token = if self.changes_logits() || allowed.is_some() {
            let mut adjusted = std::mem::take(&mut self.adjusted);
            if let Some(allowed) = allowed {
                allowed.apply(logits, &mut adjusted);
            } else {
                adjusted.clear();
                adjusted.extend_from_slice(logits);
            }
            self.adjust(&mut adjusted);
            let token = self.choose(&adjusted);
            self.adjusted = adjusted;
            token?
        } else {
            self.choose(logits)?
        };
        if self.params.presence_penalty != 0.0 || self.params.frequency_penalty != 0.0 {
            *self.produced.entry(token).or_default() += 1;
        }
        Ok(token)
    }

    fn changes_logits(&self) -> bool {
        !self.params.logit_bias.is_empty() || !self.produced.is_empty()
    }

    /// Applies bias and penalties: `logit - presence - count * frequency` for each token produced before.
    #[allow(clippy::cast_precision_loss, reason = "a request never produces 2^24 equal tokens")]
    fn adjust(&self, logits: &mut [f32]) {
        for (token, bias) in &self.params.logit_bias {
            if let Some(logit) = logits.get_mut(token.0 as usize) {
                *logit = if *bias <= BIAS_BAN { f32::NEG_INFINITY } else { *logit + bias };
            }
        }
        for (token, count) in &self.produced {
            if let Some(logit) = logits.get_mut(token.0 as usize) {
                *logit -= self.params.presence_penalty + *count as f32 * self.params.frequency_penalty;
            }
        }
    }

    fn choose(&mut self, logits: &[f32]) -> Result<TokenId, SampleError> {
        let (best, highest) = softmax::highest(logits)?;
        if self.params.temperature <= 0.0 {
            return Ok(best);
        }
        let weights = Weights::new(highest, self.params.temperature);
        let unit = self.random.unit();
        if filter::keeps_all(&self.params) {
            return Ok(weights.draw(logits, unit));
        }
        filter::keep(logits, highest, &self.params, &mut self.candidates);
        Ok(filter::draw(&self.candidates, weights, unit))
    }
}

#[cfg(test)]
mod tests;
