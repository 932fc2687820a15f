//! Mirostat 2 (Basu et al., "Mirostat: A Neural Text Decoding Algorithm that Directly Controls Perplexity", 2021,
//! algorithm 2): drops the tokens of more than `mu` bits of surprise, and moves `mu` so that those drawn have
//! `tau` bits on average.

use super::filter::{self, Candidate};
use super::softmax::Weights;
use crate::request::Mirostat;

/// The state of one request.
#[derive(Debug)]
pub(super) struct Control {
    params: Mirostat,
    /// Bits of surprise that a token may have; begins at `2 * tau`, as in the paper.
    mu: f64,
}

impl Control {
    pub(super) fn new(params: Mirostat) -> Self {
        Self { params, mu: 2.0 * f64::from(params.tau) }
    }

    /// Leaves in `candidates` the tokens that surprise by at most `mu` bits, at least the likeliest.
    #[allow(clippy::cast_possible_truncation, reason = "it is compared with logits of this precision")]
    pub(super) fn keep(&self, logits: &[f32], likeliest: Candidate, temperature: f32, candidates: &mut Vec<Candidate>) {
        let total = Weights::new(likeliest.logit, temperature).total(logits);
        // -log2(exp((logit - highest) / temperature) / total) <= mu, solved for the logit.
        let depth = (self.mu * std::f64::consts::LN_2 - total.ln()) * f64::from(temperature);
        let lowest = (f64::from(likeliest.logit) - depth) as f32;
        filter::gather(logits, lowest.max(filter::floor(likeliest.logit, temperature)), candidates);
        if candidates.is_empty() {
            candidates.push(likeliest);
        }
    }

    /// Learns from the probability that the drawn token had among those kept.
    pub(super) fn note(&mut self, probability: f64) {
        let error = -probability.log2() - f64::from(self.params.tau);
        self.mu -= f64::from(self.params.eta) * error;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probabilities 1/2, 1/4, 1/8, 1/8: surprises of 1, 2, 3 and 3 bits.
    fn kept(control: &Control, temperature: f32) -> Vec<u32> {
        let logits: Vec<f32> = [0.5f32, 0.25, 0.125, 0.125].iter().map(|p| p.ln()).collect();
        let mut candidates = Vec::new();
        control.keep(&logits, Candidate { token: 0, logit: logits[0] }, temperature, &mut candidates);
        candidates.iter().map(|candidate| candidate.token).collect()
    }

    #[test]
    fn tokens_of_more_surprise_are_dropped() {
        let at = |mu| Control { params: Mirostat { tau: 1.0, eta: 0.5 }, mu };
        assert_eq!(kept(&at(3.01), 1.0), [0, 1, 2, 3]);
        assert_eq!(kept(&at(2.5), 1.0), [0, 1]);
        assert_eq!(kept(&at(1.5), 1.0), [0]);
        assert_eq!(kept(&at(-7.0), 1.0), [0], "the likeliest stays");
        // At temperature 1/2 they are 16, 4, 1 and 1 of 22: 0.46, 2.46 and 4.46 bits.
        assert_eq!(kept(&at(2.5), 0.5), [0, 1]);
        assert_eq!(kept(&at(2.4), 0.5), [0]);
    }

    #[test]
    fn the_bound_moves_by_the_error() {
        let mut control = Control::new(Mirostat { tau: 3.0, eta: 0.5 });
        assert!((control.mu - 6.0).abs() < 1e-12);
        // 5 bits were 2 too many.
        control.note(1.0 / 32.0);
        assert!((control.mu - 5.0).abs() < 1e-12);
        // No surprise is 3 too few.
        control.note(1.0);
        assert!((control.mu - 6.5).abs() < 1e-12);
    }
}
