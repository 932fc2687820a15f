//! The steps from logits to a token. Probabilities are never normalised before the last step: every
//! filter compares logits with the highest one.

use super::SampleError;
use crate::request::TokenId;

/// Below `highest - CUTOFF * max(temperature, 1)` a token is less likely than `e^-40` (about 4e-18) of
/// the likeliest one: all such tokens of any vocabulary together weigh less than an f32 can show.
const CUTOFF: f32 = 40.0;

/// How many candidates `top_p` sorts at first; most distributions are decided within these.
const TOP_P_START: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub(super) token: u32,
    pub(super) logit: f32,
}

/// The likeliest token (the lowest id of equal ones) and its logit.
#[allow(clippy::cast_possible_truncation, reason = "vocabularies are far below 2^32 tokens")]
pub(super) fn highest(logits: &[f32]) -> Result<(TokenId, f32), SampleError> {
    // Blocks keep the search for the maximum vectorised; the index is found in the winning block only.
    const BLOCK: usize = 64;
    let (mut best_block, mut highest, mut sum) = (0, f32::NEG_INFINITY, 0.0f32);
    for (index, block) in logits.chunks(BLOCK).enumerate() {
        let mut block_highest = f32::NEG_INFINITY;
        for logit in block {
            block_highest = block_highest.max(*logit);
            // 0 * x is 0 for numbers, and NaN for NaN and +-infinity.
            sum += if *logit == f32::NEG_INFINITY { 0.0 } else { 0.0 * *logit };
        }
        if block_highest > highest {
            (best_block, highest) = (index, block_highest);
        }
    }
    if sum.is_nan() {
        return Err(SampleError::NotANumber);
    }
    let start = best_block * BLOCK;
    let within = logits[start..].iter().position(|logit| *logit == highest && highest > f32::NEG_INFINITY);
    within.map(|offset| (TokenId((start + offset) as u32), highest)).ok_or(SampleError::AllBanned)
}

/// Every token that can be drawn at all.
#[allow(clippy::cast_possible_truncation, reason = "vocabularies are far below 2^32 tokens")]
pub(super) fn collect(logits: &[f32], highest: f32, temperature: f32, candidates: &mut Vec<Candidate>) {
    let lowest = highest - CUTOFF * temperature.max(1.0);
    candidates.clear();
    let all = logits.iter().enumerate();
    candidates.extend(
        all.filter(|(_, logit)| **logit >= lowest)
            .map(|(token, logit)| Candidate { token: token as u32, logit: *logit }),
    );
}

/// Most likely first; equal ones by id, so that the order is total and repeatable.
fn by_likelihood(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token))
}

pub(super) fn top_k(candidates: &mut Vec<Candidate>, k: u32) {
    let k = k as usize;
    if k > 0 && k < candidates.len() {
        candidates.select_nth_unstable_by(k, by_likelihood);
        candidates.truncate(k);
    }
}

/// Keeps the smallest set of most likely tokens whose probabilities sum to at least `p` (Holtzman et al.,
/// "The Curious Case of Neural Text Degeneration", 2020).
pub(super) fn top_p(candidates: &mut Vec<Candidate>, highest: f32, p: f32) {
    if p >= 1.0 {
        return;
    }
    let weight = |candidate: &Candidate| f64::from((candidate.logit - highest).exp());
    let wanted = f64::from(p) * candidates.iter().map(weight).sum::<f64>();
    let mut sorted = TOP_P_START.min(candidates.len());
    loop {
        if sorted < candidates.len() {
            candidates.select_nth_unstable_by(sorted, by_likelihood);
        }
        candidates[..sorted].sort_unstable_by(by_likelihood);
        let mut sum = 0.0;
        let enough = candidates[..sorted].iter().position(|candidate| {
            sum += weight(candidate);
            sum >= wanted
        });
        match enough {
            Some(last) => return candidates.truncate(last + 1),
            None if sorted == candidates.len() => return,
            None => sorted = (sorted * 4).min(candidates.len()),
        }
    }
}

/// Keeps tokens at least `p` times as likely as the likeliest.
pub(super) fn min_p(candidates: &mut Vec<Candidate>, highest: f32, p: f32) {
    if p > 0.0 {
        let lowest = highest + p.ln();
        candidates.retain(|candidate| candidate.logit >= lowest);
    }
}

/// Draws one candidate with probability proportional to `exp(logit / temperature)`; `unit` is in 0..1.
pub(super) fn draw(candidates: &[Candidate], highest: f32, temperature: f32, unit: f64) -> TokenId {
    let weight = |candidate: &Candidate| f64::from(((candidate.logit - highest) / temperature).exp());
    let wanted = unit * candidates.iter().map(weight).sum::<f64>();
    let mut sum = 0.0;
    let drawn = candidates.iter().find(|candidate| {
        sum += weight(candidate);
        sum > wanted
    });
    // Rounding may leave the sum a hair short of what is wanted: then it is the last one.
    let drawn = drawn.or(candidates.last()).expect("the likeliest token passes every filter");
    TokenId(drawn.token)
}
