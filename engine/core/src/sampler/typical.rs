//! Locally typical sampling (Meister et al., "Locally Typical Sampling", 2023): keeps the tokens whose
//! information, `-ln p`, is nearest to the expected one, the entropy.
//!
//! With `p = exp(l) / sum(exp(l))` the distance `|-ln p - entropy|` is `|l - mean|`, where `mean` is the mean of
//! the logits under `p`; so no logarithm is taken, and candidates are found by their logits alone.

use super::filter::{Candidate, FIRST_LOOK, at, by_likelihood, first, sum};
use super::softmax::Weights;

/// Leaves in `candidates` the typical tokens of a whole vocabulary.
///
/// What is below `floor` comes last: the mean is at most the logarithm of the vocabulary's size, which is about
/// 13, below the highest logit, so all other tokens are nearer to it.
pub(super) fn collect(logits: &[f32], highest: f32, floor: f32, p: f32, candidates: &mut Vec<Candidate>) {
    let weights = Weights::new(highest, 1.0);
    let (total, depth) = weights.total_and_depth(logits);
    let (mean, wanted) = (mean(highest, depth), f64::from(p) * total);
    let mut radius = FIRST_LOOK;
    loop {
        let lowest = floor.max(mean - radius);
        let near = |(_, logit): &(u32, &f32)| **logit >= lowest && **logit <= mean + radius;
        candidates.clear();
        candidates.extend((0u32..).zip(logits).filter(near).map(at));
        let is_all = lowest <= floor && mean + radius >= highest;
        if is_all || sum(weights, candidates) > wanted {
            break;
        }
        radius *= 2.0;
    }
    nearest(candidates, weights, mean, wanted);
}

/// Leaves in `candidates` the typical ones of them; `highest` is the highest of their logits.
pub(super) fn narrow(candidates: &mut Vec<Candidate>, highest: f32, p: f32) {
    let weights = Weights::new(highest, 1.0);
    let weighted = || candidates.iter().map(|candidate| (candidate.logit, f64::from(weights.of(candidate.logit))));
    let total: f64 = weighted().map(|(_, weight)| weight).sum();
    let depths: f64 = weighted().map(|(logit, weight)| f64::from(highest - logit) * weight).sum();
    nearest(candidates, weights, mean(highest, depths / total), f64::from(p) * total);
}

#[allow(clippy::cast_possible_truncation, reason = "it was computed from logits of this precision")]
fn mean(highest: f32, depth: f64) -> f32 {
    highest - depth as f32
}

/// Keeps the smallest set of candidates nearest to the mean whose weights sum to more than `wanted`; of equally
/// near ones the likelier come first.
fn nearest(candidates: &mut Vec<Candidate>, weights: Weights, mean: f32, wanted: f64) {
    let distance = |candidate: &Candidate| (candidate.logit - mean).abs();
    let order = |a: &Candidate, b: &Candidate| distance(a).total_cmp(&distance(b)).then_with(|| by_likelihood(a, b));
    first(candidates, weights, order, |sum| sum > wanted);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::filter::floor;
    use proptest::prelude::*;

    fn kept(logits: &[f32], p: f32) -> Vec<u32> {
        let highest = logits.iter().copied().fold(f32::MIN, f32::max);
        let mut candidates = Vec::new();
        collect(logits, highest, floor(highest, 1.0), p, &mut candidates);
        candidates.iter().map(|candidate| candidate.token).collect()
    }

    #[test]
    fn the_tokens_nearest_to_the_entropy_come_first() {
        // The entropy is 1.75 bits, so 1/4 with its 2 bits is nearest, then 1/2 with 1, then 1/8 with 3.
        let logits: Vec<f32> = [0.5f32, 0.25, 0.125, 0.125].iter().map(|p| p.ln()).collect();
        assert_eq!(kept(&logits, 0.2), [1]);
        assert_eq!(kept(&logits, 0.7), [1, 0]);
        assert_eq!(kept(&logits, 0.8), [1, 0, 2]);
        assert_eq!(kept(&logits, 0.99), [1, 0, 2, 3]);
        assert_eq!(kept(&logits, 0.0), [1]);
        // As in llama.cpp's own tests.
        let of = |probabilities: [f32; 4]| kept(&probabilities.map(f32::ln), 0.5);
        assert_eq!(of([0.97, 0.01, 0.01, 0.01]), [0]);
        assert_eq!(of([0.4, 0.2, 0.2, 0.2]), [1, 2, 3]);
    }

    #[test]
    fn banned_tokens_do_not_move_the_mean() {
        let mut logits = vec![f32::NEG_INFINITY; 40];
        logits[3] = 0.5f32.ln();
        logits[17] = 0.5f32.ln();
        assert_eq!(kept(&logits, 0.6), [3, 17]);
    }

    #[test]
    fn a_long_tail_far_from_the_mean_is_found() {
        // 9440 tokens of e^-10 beside one of 1 are 30 % of it; the mean is 3 below the likeliest and 7 above them.
        let mut logits = vec![-10.0; 9441];
        logits[0] = 0.0;
        assert_eq!(kept(&logits, 0.6), [0]);
        // 80 % need a third of them.
        assert_eq!(kept(&logits, 0.8), (0..=3147).collect::<Vec<_>>());
    }

    /// The distance of each token's information from the entropy, and its probability, in `f64`.
    fn naive(logits: &[f32]) -> Vec<(f64, f64)> {
        let total: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        let probabilities: Vec<f64> = logits.iter().map(|logit| f64::from(*logit).exp() / total).collect();
        let entropy: f64 = probabilities.iter().map(|p| -p * p.ln()).sum();
        probabilities.into_iter().map(|p| ((-p.ln() - entropy).abs(), p)).collect()
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_the_paper_says(
            logits in proptest::collection::vec(-12.0f32..12.0, 1..1200), p in 0.01f32..0.999, narrows in any::<bool>(),
        ) {
            let kept = if narrows {
                let mut candidates: Vec<Candidate> = (0..).zip(&logits).map(at).collect();
                narrow(&mut candidates, logits.iter().copied().fold(f32::MIN, f32::max), p);
                candidates.iter().map(|candidate| candidate.token).collect()
            } else {
                kept(&logits, p)
            };
            let naive = naive(&logits);
            let (farthest, sum) = kept.iter().fold((0.0f64, 0.0f64), |(farthest, sum), token| {
                let (distance, probability) = naive[*token as usize];
                (farthest.max(distance), sum + probability)
            });
            let nearer = naive.iter().filter(|(distance, _)| *distance < farthest - 1e-4).count();
            prop_assert!(nearer < kept.len(), "everything nearer than the last one is kept");
            prop_assert!(sum > f64::from(p) - 1e-4);
            let without_last = sum - naive[*kept.last().unwrap() as usize].1;
            prop_assert!(without_last < f64::from(p) + 1e-4);
        }
    }
}
