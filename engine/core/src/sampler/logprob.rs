//! Log probabilities under the model's own distribution.

use crate::event::TokenLogprob;
use crate::request::TokenId;

/// The log probability of `token` and of the `top` likeliest tokens: `logit - ln(sum(exp(logits)))`.
/// `bytes` gives the bytes of a token.
pub fn logprob(logits: &[f32], token: TokenId, top: u8, bytes: impl Fn(TokenId) -> Vec<u8>) -> TokenLogprob {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from((logit - highest).exp())).sum();
    #[allow(clippy::cast_possible_truncation, reason = "a logarithm of at most 2^32 fits an f32 well")]
    let normaliser = highest + sum.ln() as f32;
    let entry = |token: TokenId| (token, bytes(token), logits[token.0 as usize] - normaliser);
    let (token, own_bytes, own) = entry(token);
    TokenLogprob {
        token,
        bytes: own_bytes,
        logprob: own,
        top: likeliest(logits, usize::from(top)).into_iter().map(entry).collect(),
    }
}

/// The `count` likeliest tokens, likeliest first, equal ones by id.
#[allow(clippy::cast_possible_truncation, reason = "vocabularies are far below 2^32 tokens")]
fn likeliest(logits: &[f32], count: usize) -> Vec<TokenId> {
    let count = count.min(logits.len());
    if count == 0 {
        return Vec::new();
    }
    let order = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    let mut tokens: Vec<u32> = (0..logits.len() as u32).collect();
    tokens.select_nth_unstable_by(count - 1, order);
    tokens.truncate(count);
    tokens.sort_unstable_by(order);
    tokens.into_iter().map(TokenId).collect()
}
