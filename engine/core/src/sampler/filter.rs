//! Filters: which tokens may be drawn at all. Every one compares with the likeliest token, so nothing is
//! normalised, and only tokens that have a chance are ever collected or sorted.

use std::cmp::Ordering;

use super::softmax::{Weights, draw_from};
use super::typical;
use crate::request::{SamplingParams, TokenId};

/// Below `highest - CUTOFF * max(temperature, 1)` a token weighs less than `e^-30` of the likeliest one:
/// all such tokens of a vocabulary of 2^18 together weigh less than 2^-24, which an `f32` cannot show.
const CUTOFF: f32 = 30.0;

/// How far below the likeliest token a first look goes; most distributions are decided there.
pub(super) const FIRST_LOOK: f32 = 6.0;

/// How many candidates are sorted at first where as many are kept as sum up to a probability.
const SORTED_START: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub(super) token: u32,
    pub(super) logit: f32,
}

/// Whether `top_k`, typical, `top_p` and `min_p` keep every token.
pub(super) fn keeps_all(params: &SamplingParams) -> bool {
    params.top_k == 0 && params.typical_p >= 1.0 && params.top_p >= 1.0 && params.min_p <= 0.0
}

/// Leaves in `candidates` the tokens that `top_k`, then typical, then `top_p`, then `min_p` keep.
pub(super) fn keep(logits: &[f32], highest: f32, params: &SamplingParams, candidates: &mut Vec<Candidate>) {
    let weights = Weights::new(highest, 1.0);
    let floor = floor(highest, params.temperature);
    if params.top_k > 0 {
        let k = params.top_k as usize;
        collect(logits, highest, floor, candidates, |found| found.len() >= k);
        top_k(candidates, k);
        if params.typical_p < 1.0 {
            typical::narrow(candidates, highest, params.typical_p);
        }
    } else if params.typical_p < 1.0 {
        typical::collect(logits, highest, floor, params.typical_p, candidates);
    } else if params.top_p < 1.0 {
        let wanted = f64::from(params.top_p) * weights.total(logits);
        collect(logits, highest, floor, candidates, |found| sum(weights, found) >= wanted);
        top_p(candidates, weights, wanted);
    } else {
        gather(logits, floor.max(lowest_of_min_p(highest, params.min_p)), candidates);
    }
    if params.top_p < 1.0 && (params.top_k > 0 || params.typical_p < 1.0) {
        let total = sum(weights, candidates);
        top_p(candidates, weights, f64::from(params.top_p) * total);
    }
    let highest = if params.typical_p < 1.0 { highest_of(candidates) } else { highest };
    let lowest = lowest_of_min_p(highest, params.min_p);
    candidates.retain(|candidate| candidate.logit >= lowest);
}

/// The lowest logit that has a chance at this temperature.
pub(super) fn floor(highest: f32, temperature: f32) -> f32 {
    highest - CUTOFF * temperature.max(1.0)
}

/// The `count` likeliest tokens, most likely first, equal ones by id.
pub(super) fn likeliest(logits: &[f32], highest: f32, count: usize) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    collect(logits, highest, f32::NEG_INFINITY, &mut candidates, |found| found.len() >= count);
    top_k(&mut candidates, count);
    candidates.sort_unstable_by(by_likelihood);
    candidates
}

/// Draws one candidate with probability proportional to its weight; `unit` is in 0.0..1.0.
pub(super) fn draw(candidates: &[Candidate], weights: Weights, unit: f64) -> TokenId {
    let wanted = unit * sum(weights, candidates);
    let weighted = candidates.iter().map(|candidate| (candidate.token, weights.of(candidate.logit)));
    TokenId(draw_from(weighted, wanted).expect("every filter keeps a token that has a weight"))
}

/// Collects the likeliest tokens, looking deeper until there are `enough` or `floor` is reached.
fn collect(
    logits: &[f32],
    highest: f32,
    floor: f32,
    candidates: &mut Vec<Candidate>,
    enough: impl Fn(&[Candidate]) -> bool,
) {
    let mut depth = FIRST_LOOK;
    loop {
        let lowest = if depth < CUTOFF { floor.max(highest - depth) } else { floor };
        gather(logits, lowest, candidates);
        if lowest <= floor || enough(candidates) {
            return;
        }
        depth *= 2.0;
    }
}

/// Collects all tokens whose logit is at least `lowest`.
pub(super) fn gather(logits: &[f32], lowest: f32, candidates: &mut Vec<Candidate>) {
    candidates.clear();
    candidates.extend((0u32..).zip(logits).filter(|(_, logit)| **logit >= lowest).map(at));
}

pub(super) fn at((token, logit): (u32, &f32)) -> Candidate {
    Candidate { token, logit: *logit }
}

pub(super) fn highest_of(candidates: &[Candidate]) -> f32 {
    candidates.iter().map(|candidate| candidate.logit).fold(f32::NEG_INFINITY, f32::max)
}

/// The likeliest candidate, the lowest id of equal ones.
pub(super) fn likeliest_of(candidates: &[Candidate]) -> TokenId {
    TokenId(candidates.iter().min_by(|a, b| by_likelihood(a, b)).expect("every filter keeps a token").token)
}

pub(super) fn sum(weights: Weights, candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|candidate| f64::from(weights.of(candidate.logit))).sum()
}

/// Most likely first; equal ones by id, so that the order is total and repeatable.
pub(super) fn by_likelihood(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token))
}

pub(super) fn top_k(candidates: &mut Vec<Candidate>, k: usize) {
    if k < candidates.len() {
        candidates.select_nth_unstable_by(k, by_likelihood);
        candidates.truncate(k);
    }
}

/// Keeps the smallest set of most likely tokens whose weights sum to `wanted`, at least one (Holtzman et
/// al., "The Curious Case of Neural Text Degeneration", 2020).
fn top_p(candidates: &mut Vec<Candidate>, weights: Weights, wanted: f64) {
    first(candidates, weights, by_likelihood, |sum| sum >= wanted);
}

/// Keeps the first candidates of an order, up to the one with which the sum of their weights is `enough`.
/// Sorts no more than it must.
pub(super) fn first(
    candidates: &mut Vec<Candidate>,
    weights: Weights,
    order: impl Fn(&Candidate, &Candidate) -> Ordering,
    enough: impl Fn(f64) -> bool,
) {
    let mut sorted = SORTED_START.min(candidates.len());
    loop {
        if sorted < candidates.len() {
            candidates.select_nth_unstable_by(sorted, &order);
        }
        candidates[..sorted].sort_unstable_by(&order);
        let mut sum = 0.0;
        let last = candidates[..sorted].iter().position(|candidate| {
            sum += f64::from(weights.of(candidate.logit));
            enough(sum)
        });
        match last {
            Some(last) => return candidates.truncate(last + 1),
            None if sorted == candidates.len() => return,
            None => sorted = (sorted * 4).min(candidates.len()),
        }
    }
}

/// The lowest logit that is at least `p` times as likely as the highest.
fn lowest_of_min_p(highest: f32, p: f32) -> f32 {
    if p > 0.0 { highest + p.min(1.0).ln() } else { f32::NEG_INFINITY }
}
