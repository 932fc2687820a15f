//! Log probabilities under the model's own distribution.

use super::filter::likeliest;
use super::softmax::Weights;
use crate::event::TokenLogprob;
use crate::request::TokenId;

/// What stands for a token that cannot come, as OpenAI's API documents it.
const LOGPROB_MIN: f32 = -9999.0;

/// The log probability of `token` and of the `top` likeliest tokens: `logit - ln(sum(exp(logits)))`.
/// `bytes` gives the bytes of a token.
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
