//! Log probabilities: under the model's own distribution, or under the one that a token was drawn from.

use super::filter::{Candidate, by_likelihood, highest_of, likeliest, sum, top_k};
use super::softmax::Weights;
use crate::event::TokenLogprob;
use crate::request::TokenId;

/// What stands for a token that cannot come, as OpenAI's API documents it.
const LOGPROB_MIN: f32 = -9999.0;

/// The log probability of `token` and of the `top` likeliest tokens under the model's own distribution:
/// `logit - ln(sum(exp(logits)))`. `bytes` gives the bytes of a token.
pub fn logprob(logits: &[f32], token: TokenId, top: u8, bytes: impl Fn(TokenId) -> Vec<u8>) -> TokenLogprob {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum = Weights::new(highest, 1.0).total(logits);
    #[allow(clippy::cast_possible_truncation, reason = "a logarithm of at most 2^32 fits an f32 well")]
    let normaliser = highest + sum.ln() as f32;
    let of = |logit: f32| (logit - normaliser).max(LOGPROB_MIN);
    let likeliest = if top == 0 { Vec::new() } else { likeliest(logits, highest, usize::from(top)) };
    let entry = |token: TokenId, logit: f32| (token, bytes(token), of(logit));
    TokenLogprob {
        token,
        bytes: bytes(token),
        logprob: logits.get(token.0 as usize).map_or(LOGPROB_MIN, |logit| of(*logit)),
        top: likeliest.into_iter().map(|candidate| entry(TokenId(candidate.token), candidate.logit)).collect(),
    }
}

/// A distribution that a token was drawn from, as far as it is reported.
pub(super) struct Drawn {
    weights: Weights,
    /// The sum of all weights.
    total: f64,
    /// The token that was drawn.
    token: TokenId,
    logit: Option<f32>,
    /// The likeliest tokens, most likely first; none that cannot be drawn.
    top: Vec<Candidate>,
}

impl Drawn {
    /// Drawn from every token of a vocabulary.
    pub(super) fn of_logits(logits: &[f32], temperature: f32, token: TokenId, top: u8) -> Self {
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights = Weights::new(highest, temperature);
        let top = if top == 0 { Vec::new() } else { likeliest(logits, highest, usize::from(top)) };
        let logit = logits.get(token.0 as usize).copied();
        Self { weights, total: weights.total(logits), token, logit, top }.without_impossible()
    }

    /// Drawn from only these tokens.
    pub(super) fn of_candidates(candidates: &[Candidate], temperature: f32, token: TokenId, top: u8) -> Self {
        let weights = Weights::new(highest_of(candidates), temperature);
        let mut likeliest = candidates.to_vec();
        top_k(&mut likeliest, usize::from(top));
        likeliest.sort_unstable_by(by_likelihood);
        let own = candidates.iter().find(|candidate| candidate.token == token.0);
        let (total, logit) = (sum(weights, candidates), own.map(|own| own.logit));
        Self { weights, total, token, logit, top: likeliest }.without_impossible()
    }

    fn without_impossible(mut self) -> Self {
        self.top.retain(|candidate| self.weights.of(candidate.logit) > 0.0);
        self
    }

    /// The log probability of the token and of the likeliest ones.
    pub(super) fn entry(&self, bytes: impl Fn(TokenId) -> Vec<u8>) -> TokenLogprob {
        #[allow(clippy::cast_possible_truncation, reason = "a logarithm of at most 2^32 fits an f32 well")]
        let normaliser = self.total.ln() as f32;
        let of = |logit: f32| (self.weights.exponent(logit) - normaliser).max(LOGPROB_MIN);
        let top = self.top.iter().map(|candidate| (TokenId(candidate.token), candidate.logit));
        TokenLogprob {
            token: self.token,
            bytes: bytes(self.token),
            logprob: self.logit.map_or(LOGPROB_MIN, of),
            top: top.map(|(token, logit)| (token, bytes(token), of(logit))).collect(),
        }
    }
}
