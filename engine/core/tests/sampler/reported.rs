//! Which log probabilities are reported.

use allerac_engine_core::sampler::{Sampler, logprob};
use allerac_engine_core::{SamplingParams, TokenId};

use crate::{logits, params};

fn top_of(wanted: SamplingParams, top: u8) -> Vec<(u32, f32)> {
    let logits = logits(&[0.4, 0.3, 0.2, 0.1]);
    let mut sampler = Sampler::new(wanted);
    let token = sampler.sample(&logits, None).unwrap();
    let entry = sampler.logprob(&logits, token, top, |token| vec![b'a' + u8::try_from(token.0).unwrap()]);
    assert_eq!(entry.bytes, [b'a' + u8::try_from(token.0).unwrap()]);
    entry.top.into_iter().map(|(token, _, logprob)| (token.0, (logprob.exp() * 1000.0).round() / 1000.0)).collect()
}

#[test]
fn the_models_own_unless_asked_for_those_drawn_from() {
    let narrow = SamplingParams { top_k: 2, temperature: 0.5, ..params() };
    assert_eq!(top_of(narrow.clone(), 3), [(0, 0.64), (1, 0.36)]);
    assert_eq!(top_of(narrow.clone(), 1), [(0, 0.64)]);
    assert_eq!(top_of(narrow.clone(), 0), []);
    let own = SamplingParams { post_sampling_probs: false, ..narrow };
    assert_eq!(top_of(own, 3), [(0, 0.4), (1, 0.3), (2, 0.2)]);
}

#[test]
fn the_models_own_are_those_of_the_raw_logits() {
    let raw = logits(&[0.4, 0.3, 0.2, 0.1]);
    let bias = vec![(TokenId(0), -100.0)];
    let mut sampler = Sampler::new(SamplingParams { logit_bias: bias, ..SamplingParams::default() });
    let token = sampler.sample(&raw, None).unwrap();
    assert_eq!(sampler.logprob(&raw, token, 4, |_| Vec::new()), logprob(&raw, token, 4, |_| Vec::new()));
}

#[test]
fn what_was_certain_has_all_the_probability() {
    assert_eq!(top_of(SamplingParams { temperature: 0.0, ..params() }, 4), [(0, 1.0)]);
    let banned = vec![(TokenId(0), -100.0)];
    assert_eq!(top_of(SamplingParams { temperature: 0.0, logit_bias: banned, ..params() }, 4), [(1, 1.0)]);
}

#[test]
fn a_ban_is_seen_where_nothing_is_filtered() {
    let banned = vec![(TokenId(1), -100.0)];
    assert_eq!(top_of(SamplingParams { logit_bias: banned, ..params() }, 4), [(0, 0.571), (2, 0.286), (3, 0.143)]);
}
