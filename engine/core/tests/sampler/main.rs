//! The sampler's whole chain, seen through the distribution that it says it drew from and through what it draws.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chain;
mod draws;
mod reported;

use allerac_engine_core::sampler::Sampler;
use allerac_engine_core::{SamplingParams, TokenId};

/// A vocabulary of tokens with these probabilities.
fn logits(probabilities: &[f32]) -> Vec<f32> {
    probabilities.iter().map(|p| p.ln()).collect()
}

fn params() -> SamplingParams {
    SamplingParams { post_sampling_probs: true, ..SamplingParams::default() }
}

fn tokens(ids: &[u32]) -> Vec<TokenId> {
    ids.iter().copied().map(TokenId).collect()
}

/// The probabilities that the next token is drawn with; 0 for what cannot be.
fn distribution(sampler: &mut Sampler, logits: &[f32]) -> Vec<f32> {
    let token = sampler.sample(logits, None).unwrap();
    let entry = sampler.logprob(logits, token, u8::MAX, |_| Vec::new());
    let mut distribution = vec![0.0; logits.len()];
    for (token, _, logprob) in entry.top {
        distribution[token.0 as usize] = logprob.exp();
    }
    distribution
}

#[track_caller]
fn assert_close(seen: &[f32], expected: &[f32]) {
    let is_close = seen.len() == expected.len() && seen.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5);
    assert!(is_close, "{seen:?} instead of {expected:?}");
}
