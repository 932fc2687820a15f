//! XTC, "exclude top choices" (p-e-w, `text-generation-webui` pull request 6335): where several tokens are
//! likely enough to make sense, only the least likely of them stays, and with it the long tail.

use super::filter::{Candidate, by_likelihood, highest_of, sum};
use super::softmax::Weights;

/// Removes of the candidates at least `threshold` likely all but the least likely.
pub(super) fn exclude(candidates: &mut Vec<Candidate>, threshold: f32) {
    let weights = Weights::new(highest_of(candidates), 1.0);
    let enough = f64::from(threshold) * sum(weights, candidates);
    let is_top = |candidate: &Candidate| f64::from(weights.of(candidate.logit)) >= enough;
    let least = candidates.iter().copied().filter(is_top).max_by(by_likelihood);
    candidates.retain(|candidate| !is_top(candidate) || Some(*candidate) == least);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn left(probabilities: &[f32], threshold: f32) -> Vec<u32> {
        let mut candidates: Vec<Candidate> =
            (0..).zip(probabilities).map(|(token, p)| Candidate { token, logit: p.ln() }).collect();
        exclude(&mut candidates, threshold);
        candidates.iter().map(|candidate| candidate.token).collect()
    }

    #[test]
    fn of_the_top_choices_the_least_likely_stays() {
        let probabilities = [0.1, 0.4, 0.3, 0.2];
        assert_eq!(left(&probabilities, 0.5), [0, 1, 2, 3], "there is no top choice");
        assert_eq!(left(&probabilities, 0.35), [0, 1, 2, 3], "one alone stays");
        assert_eq!(left(&probabilities, 0.25), [0, 2, 3]);
        assert_eq!(left(&probabilities, 0.15), [0, 3]);
        assert_eq!(left(&probabilities, 0.05), [0]);
        assert_eq!(left(&[0.25; 4], 0.1), [3]);
    }

    proptest! {
        #[test]
        fn only_top_choices_go_and_one_of_them_stays(
            logits in proptest::collection::vec(-9.0f32..9.0, 1..200), threshold in 0.001f32..0.6,
        ) {
            let all: Vec<Candidate> = (0..).zip(logits).map(|(token, logit)| Candidate { token, logit }).collect();
            let total: f64 = all.iter().map(|candidate| f64::from(candidate.logit).exp()).sum();
            let share = |candidate: &Candidate| f64::from(candidate.logit).exp() / total;
            prop_assume!(all.iter().all(|candidate| (share(candidate) - f64::from(threshold)).abs() > 1e-6));
            let mut kept = all.clone();
            exclude(&mut kept, threshold);
            let is_top = |candidate: &&Candidate| share(candidate) > f64::from(threshold);
            let tops = all.iter().filter(is_top).count();
            prop_assert_eq!(all.len() - kept.len(), tops.saturating_sub(1));
            prop_assert_eq!(kept.iter().filter(is_top).count(), tops.min(1));
            let lowest = |candidates: &[Candidate]| {
                candidates.iter().filter(is_top).map(|candidate| candidate.logit).fold(f32::INFINITY, f32::min)
            };
            prop_assert_eq!(lowest(&all), lowest(&kept));
        }
    }
}
