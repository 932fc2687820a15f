use std::collections::BTreeSet;

use super::*;
use proptest::prelude::*;

fn params() -> SamplingParams {
    SamplingParams::default()
}

/// How often each token of a small vocabulary is chosen in `draws` draws.
fn counts(params: SamplingParams, logits: &[f32], draws: u32) -> Vec<u32> {
    let mut counts = vec![0; logits.len()];
    let mut sampler = Sampler::new(params);
    for _ in 0..draws {
        sampler.produced.clear();
        counts[sampler.sample(logits, None).unwrap().0 as usize] += 1;
    }
    counts
}

#[test]
fn greedy_takes_the_highest_and_the_lowest_id_of_equals() {
    let mut sampler = Sampler::new(SamplingParams { temperature: 0.0, ..params() });
    let mut logits = vec![0.0; 200];
    logits[150] = 3.0;
    logits[70] = 3.0;
    assert_eq!(sampler.sample(&logits, None), Ok(TokenId(70)));
}

#[test]
fn unusable_logits_are_an_error() {
    let mut sampler = Sampler::new(params());
    assert_eq!(sampler.sample(&[0.0, f32::NAN], None), Err(SampleError::NotANumber));
    assert_eq!(sampler.sample(&[0.0, f32::INFINITY], None), Err(SampleError::NotANumber));
    assert_eq!(sampler.sample(&[f32::NEG_INFINITY; 3], None), Err(SampleError::AllBanned));
    let banned = vec![(TokenId(0), -100.0), (TokenId(1), -100.0)];
    let mut sampler = Sampler::new(SamplingParams { logit_bias: banned, ..params() });
    assert_eq!(sampler.sample(&[1.0, 2.0], None), Err(SampleError::AllBanned));
}

#[test]
fn frequencies_follow_softmax_at_the_temperature() {
    let logits = [0.0f32, 1.0, 2.0, -1.0];
    for temperature in [0.5f32, 1.0, 2.0] {
        let weights: Vec<f64> = logits.iter().map(|l| f64::from(l / temperature).exp()).collect();
        let total: f64 = weights.iter().sum();
        let counts = counts(SamplingParams { temperature, seed: 7, ..params() }, &logits, 100_000);
        for (count, weight) in counts.iter().zip(&weights) {
            let (seen, expected) = (f64::from(*count) / 100_000.0, weight / total);
            // Four standard deviations of a binomial share.
            let tolerance = 4.0 * (expected * (1.0 - expected) / 100_000.0).sqrt();
            assert!((seen - expected).abs() < tolerance, "{seen} instead of {expected} at {temperature}");
        }
    }
}

#[test]
fn filters_keep_exactly_the_documented_tokens() {
    // Probabilities 0.5, 0.25, 0.125, 0.125.
    let logits: Vec<f32> = [0.5f32, 0.25, 0.125, 0.125].iter().map(|p| p.ln()).collect();
    let kept = |params: SamplingParams| {
        let counts = counts(params, &logits, 2_000);
        counts.iter().map(|count| *count > 0).collect::<Vec<_>>()
    };
    assert_eq!(kept(params()), [true, true, true, true]);
    assert_eq!(kept(SamplingParams { top_k: 1, ..params() }), [true, false, false, false]);
    assert_eq!(kept(SamplingParams { top_k: 3, ..params() }), [true, true, true, false]);
    assert_eq!(kept(SamplingParams { top_p: 0.4, ..params() }), [true, false, false, false]);
    assert_eq!(kept(SamplingParams { top_p: 0.7, ..params() }), [true, true, false, false]);
    assert_eq!(kept(SamplingParams { min_p: 0.4, ..params() }), [true, true, false, false]);
    assert_eq!(kept(SamplingParams { min_p: 0.6, ..params() }), [true, false, false, false]);
}

#[test]
fn penalties_count_what_was_produced() {
    let logits = [1.0f32, 0.8, 0.0];
    let greedy = SamplingParams { temperature: 0.0, ..params() };
    let take = |params: SamplingParams| {
        let mut sampler = Sampler::new(params);
        (0..4).map(|_| sampler.sample(&logits, None).unwrap().0).collect::<Vec<_>>()
    };
    assert_eq!(take(greedy.clone()), [0, 0, 0, 0]);
    // 1.0 -> 0.5 | 0.8 -> 0.3 | then presence alone changes nothing more.
    assert_eq!(take(SamplingParams { presence_penalty: 0.5, ..greedy.clone() }), [0, 1, 0, 0]);
    // 1.0, 0.8 | 0.6, 0.8 | 0.6, 0.4 | 0.2, 0.4
    assert_eq!(take(SamplingParams { frequency_penalty: 0.4, ..greedy }), [0, 1, 0, 1]);
}

#[test]
fn a_bias_moves_and_bans() {
    let greedy = |bias: f32| SamplingParams { temperature: 0.0, logit_bias: vec![(TokenId(1), bias)], ..params() };
    assert_eq!(Sampler::new(greedy(5.0)).sample(&[3.0, 0.0], None), Ok(TokenId(1)));
    assert_eq!(Sampler::new(greedy(-100.0)).sample(&[-500.0, 900.0], None), Ok(TokenId(0)));
}

#[test]
fn log_probabilities_sum_to_one_and_are_sorted() {
    let logits = [0.1f32, 2.0, 2.0, -3.0];
    let entry = logprob(&logits, TokenId(0), 4, |token| vec![u8::try_from(token.0).unwrap()]);
    assert_eq!(entry.top.iter().map(|(token, ..)| token.0).collect::<Vec<_>>(), [1, 2, 0, 3]);
    let sum: f32 = entry.top.iter().map(|(_, _, logprob)| logprob.exp()).sum();
    assert!((sum - 1.0).abs() < 1e-6);
    assert!((entry.logprob - entry.top[2].2).abs() < f32::EPSILON);
    assert_eq!(entry.bytes, [0]);
}

/// The tokens that the filters keep as documented: by whole sorts, in f64. `None` where rounding decides.
fn naive_keep(logits: &[f32], params: &SamplingParams) -> Option<BTreeSet<u32>> {
    let mut kept: Vec<(u32, f64)> = (0..).zip(logits.iter().copied().map(f64::from)).collect();
    kept.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let highest = kept[0].1;
    if params.top_k > 0 {
        kept.truncate(params.top_k as usize);
    }
    if params.top_p < 1.0 {
        let total: f64 = kept.iter().map(|(_, logit)| (logit - highest).exp()).sum();
        let mut sum = 0.0;
        let mut last = kept.len() - 1;
        for (index, (_, logit)) in kept.iter().enumerate() {
            sum += (logit - highest).exp() / total;
            if (sum - f64::from(params.top_p)).abs() < 1e-5 {
                return None;
            }
            if sum >= f64::from(params.top_p) {
                last = index;
                break;
            }
        }
        kept.truncate(last + 1);
    }
    if params.min_p > 0.0 {
        let lowest = highest + f64::from(params.min_p).ln();
        if kept.iter().any(|(_, logit)| (logit - lowest).abs() < 1e-5) {
            return None;
        }
        kept.retain(|(_, logit)| *logit >= lowest);
    }
    Some(kept.into_iter().map(|(token, _)| token).collect())
}

#[test]
fn parameters_out_of_range_never_panic() {
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0, 0.0, 2.0, f32::MIN_POSITIVE] {
        for field in 0..5 {
            let mut params = SamplingParams { logit_bias: vec![(TokenId(9), 1.0)], ..params() };
            match field {
                0 => params.temperature = odd,
                1 => params.top_p = odd,
                2 => params.min_p = odd,
                3 => params.presence_penalty = odd,
                _ => params.frequency_penalty = odd,
            }
            let mut sampler = Sampler::new(params);
            for _ in 0..3 {
                let _ = sampler.sample(&[1.0, 2.0, 0.5], None);
            }
        }
    }
}

#[test]
fn every_asked_log_probability_is_there_however_unlikely() {
    let mut logits = vec![f32::NEG_INFINITY; 300];
    logits[7] = 1.0;
    let entry = logprob(&logits, TokenId(3), 5, |_| Vec::new());
    assert_eq!(entry.top.iter().map(|(token, ..)| token.0).collect::<Vec<_>>(), [7, 0, 1, 2, 3]);
    assert_eq!(
        entry.top.iter().map(|(.., logprob)| *logprob).collect::<Vec<_>>(),
        [0.0, -9999.0, -9999.0, -9999.0, -9999.0]
    );
    assert!((entry.logprob - -9999.0).abs() < f32::EPSILON);
}

proptest! {
    #[test]
    fn the_same_seed_repeats_and_every_choice_passes_a_naive_check(
        logits in proptest::collection::vec(-20.0f32..20.0, 2..300),
        seed in any::<u64>(), top_k in 0u32..20, top_p in 0.05f32..=1.0, min_p in 0.0f32..0.5,
        temperature in 0.1f32..2.0,
    ) {
        let params = SamplingParams { seed, top_k, top_p, min_p, temperature, ..params() };
        let (mut one, mut two) = (Sampler::new(params.clone()), Sampler::new(params));
        for _ in 0..8 {
            let token = one.sample(&logits, None).unwrap();
            prop_assert_eq!(two.sample(&logits, None).unwrap(), token);
            let own = logits[token.0 as usize];
            let likelier = logits.iter().filter(|logit| **logit > own).count();
            prop_assert!(top_k == 0 || likelier < top_k as usize);
            let highest = logits.iter().copied().fold(f32::MIN, f32::max);
            prop_assert!((own - highest).exp() >= min_p * 0.999);
            if top_k == 0 {
                let total: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
                let before: f64 = logits.iter().filter(|l| **l > own).map(|l| f64::from(*l).exp()).sum();
                prop_assert!(before / total < f64::from(top_p) + 1e-6);
            }
        }
    }

    #[test]
    fn the_filters_keep_what_whole_sorts_keep(
        logits in proptest::collection::vec(-30.0f32..10.0, 1..1500), spread in 0.1f32..3.0,
        top_k in prop_oneof![Just(0u32), 1u32..400], top_p in prop_oneof![Just(1.0f32), 0.05f32..1.0],
        min_p in prop_oneof![Just(0.0f32), 0.0001f32..0.9], temperature in 0.2f32..2.0,
    ) {
        let logits: Vec<f32> = logits.into_iter().map(|logit| logit * spread).collect();
        let params = SamplingParams { top_k, top_p, min_p, temperature, ..params() };
        let Some(expected) = naive_keep(&logits, &params) else { return Ok(()) };
        let highest = logits.iter().copied().fold(f32::MIN, f32::max);
        let mut candidates = Vec::new();
        filter::keep(&logits, highest, &params, &mut candidates);
        let kept: BTreeSet<u32> = candidates.iter().map(|candidate| candidate.token).collect();
        prop_assert_eq!(kept.len(), candidates.len());
        // What is missing may only be what is too unlikely ever to be drawn.
        let negligible = |token: &u32| logits[*token as usize] < highest - 29.0 * temperature.max(1.0);
        prop_assert!(expected.difference(&kept).all(negligible));
        prop_assert!(kept.is_subset(&expected));
    }
}

#[test]
fn only_allowed_tokens_are_chosen_and_filters_see_no_others() {
    let logits = [9.0, 8.0, 1.0, 0.5];
    let allowed: TokenMask = [TokenId(2), TokenId(3)].into_iter().collect();
    let mut greedy = Sampler::new(SamplingParams { temperature: 0.0, ..params() });
    assert_eq!(greedy.sample(&logits, Some(&allowed)), Ok(TokenId(2)));
    // Beside what is not allowed, the two would be far too unlikely to be kept.
    let mut narrow = Sampler::new(SamplingParams { min_p: 0.5, top_p: 0.99, seed: 1, ..params() });
    let chosen: BTreeSet<u32> = (0..200).map(|_| narrow.sample(&logits, Some(&allowed)).unwrap().0).collect();
    assert_eq!(chosen, BTreeSet::from([2, 3]));
    // A bias may push a token, and ban the last one, but not bring in what is not allowed.
    let bias = vec![(TokenId(0), 100.0), (TokenId(2), -100.0)];
    let mut biased = Sampler::new(SamplingParams { logit_bias: bias, ..params() });
    assert_eq!(biased.sample(&logits, Some(&allowed)), Ok(TokenId(3)));
    let last: TokenMask = [TokenId(2)].into_iter().collect();
    assert_eq!(biased.sample(&logits, Some(&last)), Err(SampleError::AllBanned));
}
