//! Which steps there are, and in which order.

use allerac_engine_core::sampler::Sampler;
use allerac_engine_core::{Dry, Mirostat, Repetition, SamplingParams, TokenId, Xtc};

use crate::{assert_close, distribution, logits, params, tokens};

const ALWAYS: Xtc = Xtc { probability: 1.0, threshold: 0.15 };

fn of(params: SamplingParams, probabilities: &[f32]) -> Vec<f32> {
    distribution(&mut Sampler::new(params), &logits(probabilities))
}

#[test]
fn each_step_alone() {
    let four = [0.4, 0.3, 0.2, 0.1];
    assert_close(&of(params(), &four), &four);
    assert_close(&of(SamplingParams { top_k: 2, ..params() }, &four), &[4.0 / 7.0, 3.0 / 7.0, 0.0, 0.0]);
    assert_close(&of(SamplingParams { top_p: 0.6, ..params() }, &four), &[4.0 / 7.0, 3.0 / 7.0, 0.0, 0.0]);
    assert_close(&of(SamplingParams { min_p: 0.6, ..params() }, &four), &[4.0 / 7.0, 3.0 / 7.0, 0.0, 0.0]);
    // 1.28 nats are expected; 1.20 and 1.61 are nearer than 0.92 and 2.30.
    assert_close(&of(SamplingParams { typical_p: 0.4, ..params() }, &four), &[0.0, 0.6, 0.4, 0.0]);
    assert_close(&of(SamplingParams { xtc: Some(ALWAYS), ..params() }, &four), &[0.0, 0.0, 2.0 / 3.0, 1.0 / 3.0]);
    // Squared: 16, 9, 4, 1 of 30.
    let hot = SamplingParams { temperature: 0.5, ..params() };
    assert_close(&of(hot, &four), &[16.0 / 30.0, 9.0 / 30.0, 4.0 / 30.0, 1.0 / 30.0]);
    // At most 2 bits: 1/4 and more.
    let mirostat = Some(Mirostat { tau: 1.0, eta: 0.1 });
    assert_close(&of(SamplingParams { mirostat, ..params() }, &four), &[4.0 / 7.0, 3.0 / 7.0, 0.0, 0.0]);
}

#[test]
fn every_filter_works_on_what_the_one_before_it_kept() {
    // top_k leaves 4, 3 and 2 of 9. They expect 1.06 nats, and 1/3 is nearest to that, then 4/9.
    let probabilities = [0.4, 0.3, 0.2, 0.1];
    let narrow = SamplingParams { top_k: 3, typical_p: 0.5, ..params() };
    assert_close(&of(narrow.clone(), &probabilities), &[4.0 / 7.0, 3.0 / 7.0, 0.0, 0.0]);
    // top_p would be content with two of four, and is with one of the two that are left.
    let narrower = SamplingParams { top_p: 0.5, ..narrow };
    assert_close(&of(narrower, &probabilities), &[1.0, 0.0, 0.0, 0.0]);
    // Typical drops the likeliest: then 0.3 is what min_p compares with.
    let typical = SamplingParams { typical_p: 0.4, min_p: 0.6, ..params() };
    assert_close(&of(typical, &probabilities), &[0.0, 0.6, 0.4, 0.0]);
    // min_p would keep only the likeliest of what XTC leaves, and XTC finds only what min_p left.
    let xtc = SamplingParams { min_p: 0.7, xtc: Some(ALWAYS), ..params() };
    assert_close(&of(xtc, &probabilities), &[0.0, 1.0, 0.0, 0.0]);
    // The temperature comes last: at 1/2 a top_p of 0.4 would drop nothing but the first, 16 of 30.
    let hot = SamplingParams { top_p: 0.6, temperature: 0.5, ..params() };
    assert_close(&of(hot, &probabilities), &[16.0 / 25.0, 9.0 / 25.0, 0.0, 0.0]);
}

#[test]
fn penalties_come_before_the_filters() {
    // All logits are negative here: twice one is the square of the probability.
    let repetition = Some(Repetition { penalty: 2.0, last_tokens: 64 });
    let wanted = SamplingParams { repetition, top_k: 1, ..params() };
    let mut sampler = Sampler::after(wanted, &tokens(&[0]), |_| Vec::new());
    // 0.6 squared is 0.36, less than 0.4.
    assert_close(&distribution(&mut sampler, &logits(&[0.6, 0.4])), &[0.0, 1.0]);
    // Now both came: 0.36 and 0.16.
    assert_close(&distribution(&mut sampler, &logits(&[0.6, 0.4])), &[1.0, 0.0]);
}

#[test]
fn the_penalties_add_up_in_order() {
    let repetition = Some(Repetition { penalty: 2.0, last_tokens: 64 });
    let dry =
        Dry { multiplier: 0.5, base: 2.0, allowed_length: 1, last_tokens: u32::MAX, sequence_breakers: Vec::new() };
    let wanted = SamplingParams {
        logit_bias: vec![(TokenId(0), 3.0)],
        repetition,
        presence_penalty: 0.25,
        frequency_penalty: 0.125,
        dry: Some(dry),
        temperature: 0.0,
        ..params()
    };
    let mut sampler = Sampler::after(wanted, &tokens(&[0, 1]), |_| Vec::new());
    assert_eq!(sampler.sample(&[1.0, 1.0, 1.9], None), Ok(TokenId(0)), "(1 + 3) / 2 = 2, 1 / 2 and 1.9");
    assert_eq!(sampler.sample(&[1.0, 1.0, 2.1], None), Ok(TokenId(2)), "2 - 0.375, 0.5 - 0.5 and 2.1");
    // Now 0 1 0 2 were said, the last two of them as the answer, and nothing repeats.
    assert_eq!(sampler.sample(&[2.25, 4.0, 4.0], None), Ok(TokenId(0)), "5.25 / 2 - 0.375 = 2.25, 2 and 2 - 0.375");
    // After the last 0 both 1 and 2 would repeat what followed it before.
    assert_eq!(sampler.sample(&[-2.0, 4.0, 4.8], None), Ok(TokenId(2)), "0, 2 - 0.5 and 2.4 - 0.375 - 0.5 = 1.525");
    assert_eq!(sampler.sample(&[-9.0, 4.0, 4.8], None), Ok(TokenId(1)), "less, 2 and 2.4 - 0.5");
}

#[test]
fn mirostat_replaces_the_filters_and_keeps_penalties() {
    let filters = SamplingParams {
        top_k: 1,
        top_p: 0.1,
        min_p: 0.9,
        typical_p: 0.1,
        xtc: Some(ALWAYS),
        mirostat: Some(Mirostat { tau: 9.0, eta: 0.1 }),
        logit_bias: vec![(TokenId(3), -100.0)],
        ..params()
    };
    assert_close(&of(filters, &[0.4, 0.3, 0.1, 0.2]), &[0.5, 0.375, 0.125, 0.0]);
}

#[test]
fn greedy_takes_the_likeliest_of_what_is_left() {
    let greedy = SamplingParams { temperature: 0.0, ..params() };
    let of = |params: SamplingParams| Sampler::new(params).sample(&logits(&[0.4, 0.3, 0.2, 0.1]), None).unwrap().0;
    assert_eq!(of(greedy.clone()), 0);
    assert_eq!(of(SamplingParams { typical_p: 0.4, ..greedy.clone() }), 1);
    assert_eq!(of(SamplingParams { xtc: Some(ALWAYS), ..greedy.clone() }), 2);
    assert_eq!(of(SamplingParams { mirostat: Some(Mirostat { tau: 5.0, eta: 0.1 }), ..greedy }), 0);
}

#[test]
fn what_is_left_can_be_drawn_however_far_below_the_likeliest_it_was() {
    // At this temperature all of the others weigh nothing beside the first, which XTC takes away.
    let cold = SamplingParams { temperature: 0.001, xtc: Some(ALWAYS), ..params() };
    assert_close(&of(cold, &[0.5, 0.3, 0.15, 0.05]), &[0.0, 1.0, 0.0, 0.0]);
    let cold = SamplingParams { temperature: 0.001, typical_p: 0.2, ..params() };
    assert_close(&of(cold, &[0.5, 0.25, 0.125, 0.125]), &[0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn parameters_out_of_range_never_panic() {
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0, 0.0, 2.0, f32::MIN_POSITIVE, f32::MAX] {
        for temperature in [1.0, odd] {
            for field in 0..9 {
                let (mut dry, mut repetition) = (
                    Dry { multiplier: 1.0, base: 1.75, allowed_length: 0, last_tokens: 9, sequence_breakers: vec![] },
                    Repetition { penalty: 1.1, last_tokens: 9 },
                );
                let (mut xtc, mut mirostat) = (ALWAYS, Mirostat { tau: 5.0, eta: 0.1 });
                let mut wanted = SamplingParams { temperature, ..params() };
                match field {
                    0 => repetition.penalty = odd,
                    1 => dry.multiplier = odd,
                    2 => dry.base = odd,
                    3 => wanted.typical_p = odd,
                    4 => xtc.probability = odd,
                    5 => xtc.threshold = odd,
                    6 => mirostat.tau = odd,
                    7 => mirostat.eta = odd,
                    _ => (wanted.typical_p, wanted.min_p) = (0.5, odd),
                }
                wanted.repetition = (field == 0).then_some(repetition);
                wanted.dry = [1, 2].contains(&field).then_some(dry);
                wanted.xtc = [4, 5].contains(&field).then_some(xtc);
                wanted.mirostat = [6, 7].contains(&field).then_some(mirostat);
                let mut sampler = Sampler::after(wanted, &tokens(&[0, 1, 0, 9]), |_| Vec::new());
                let logits = [1.0, 2.0, 0.5, -3.0];
                for _ in 0..4 {
                    if let Ok(token) = sampler.sample(&logits, None) {
                        sampler.logprob(&logits, token, 4, |_| Vec::new());
                    }
                }
            }
        }
    }
}
