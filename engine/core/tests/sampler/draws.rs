//! What is drawn.

use allerac_engine_core::sampler::Sampler;
use allerac_engine_core::{Dry, Mirostat, Repetition, SamplingParams, TokenId, Xtc};
use proptest::prelude::*;

use crate::{distribution, logits, params, tokens};

const DRAWS: u32 = 40_000;

/// Pearson's chi-squared of draws beside a distribution, and its degrees of freedom.
fn chi_squared(counts: &[u32], distribution: &[f32]) -> (f64, f64) {
    let total: f64 = counts.iter().copied().map(f64::from).sum();
    let mut terms = Vec::new();
    for (count, share) in counts.iter().zip(distribution) {
        assert!(*share > 0.0 || *count == 0, "a token that cannot be drawn was");
        if *share > 0.0 {
            let expected = f64::from(*share) * total;
            terms.push((f64::from(*count) - expected).powi(2) / expected);
        }
    }
    (terms.iter().sum(), terms.len() as f64 - 1.0)
}

#[test]
fn draws_follow_the_distribution_that_is_reported() {
    let logits = logits(&[0.3, 0.2, 0.15, 0.1, 0.08, 0.07, 0.06, 0.04]);
    let banned = vec![(TokenId(2), -100.0)];
    for (seed, wanted) in [
        params(),
        SamplingParams { temperature: 1.7, ..params() },
        SamplingParams { logit_bias: banned, ..params() },
        SamplingParams { typical_p: 0.6, temperature: 0.6, ..params() },
        SamplingParams { top_k: 6, typical_p: 0.8, top_p: 0.9, min_p: 0.1, ..params() },
        SamplingParams { xtc: Some(Xtc { probability: 1.0, threshold: 0.12 }), temperature: 1.3, ..params() },
        // A rate of nothing keeps the bound of mirostat where it is.
        SamplingParams { mirostat: Some(Mirostat { tau: 1.9, eta: 0.0 }), temperature: 1.1, ..params() },
    ]
    .into_iter()
    .enumerate()
    {
        let mut sampler = Sampler::new(SamplingParams { seed: seed as u64, ..wanted.clone() });
        let distribution = distribution(&mut sampler, &logits);
        let mut counts = vec![0; logits.len()];
        (0..DRAWS).for_each(|_| counts[sampler.sample(&logits, None).unwrap().0 as usize] += 1);
        let (chi_squared, freedom) = chi_squared(&counts, &distribution);
        // Mean and four standard deviations.
        assert!(chi_squared < freedom + 4.0 * (2.0 * freedom).sqrt(), "{wanted:?}: {counts:?} of {distribution:?}");
    }
}

#[test]
fn xtc_happens_as_often_as_asked() {
    let xtc = Some(Xtc { probability: 0.25, threshold: 0.3 });
    let mut sampler = Sampler::new(SamplingParams { xtc, seed: 5, ..params() });
    let logits = logits(&[0.6, 0.4]);
    let first = (0..DRAWS).filter(|_| sampler.sample(&logits, None) == Ok(TokenId(0))).count() as f64;
    // Three quarters of 0.6; when it happens only the second stays.
    let (share, expected) = (first / f64::from(DRAWS), 0.45);
    assert!((share - expected).abs() < 4.0 * (expected * (1.0 - expected) / f64::from(DRAWS)).sqrt(), "{share}");
}

#[test]
fn mirostat_holds_the_surprise_of_a_zipf_distribution() {
    // The paper's model of a language: the token of rank r has a probability proportional to 1/r.
    let logits: Vec<f32> = (1..=30_000u16).map(|rank| -f32::from(rank).ln()).collect();
    for (tau, seed) in [(2.0, 1), (3.5, 2), (5.0, 3)] {
        let mirostat = Some(Mirostat { tau, eta: 0.1 });
        let mut sampler = Sampler::new(SamplingParams { mirostat, seed, ..params() });
        let (mut sum, draws) = (0.0, 4000);
        for draw in 0..draws + 500 {
            let token = sampler.sample(&logits, None).unwrap();
            // The first ones bring it from 2 tau to where it belongs.
            if draw >= 500 {
                sum -= sampler.logprob(&logits, token, 0, |_| Vec::new()).logprob / std::f32::consts::LN_2;
            }
        }
        let mean = sum / draws as f32;
        assert!((mean - tau).abs() < 0.05, "{mean} bits instead of {tau}");
    }
}

/// Parameters of every kind, on and off.
fn any_params() -> impl Strategy<Value = SamplingParams> {
    let filters = (
        prop_oneof![Just(0u32), 1u32..20],
        prop_oneof![Just(1.0f32), 0.05f32..1.0],
        prop_oneof![Just(1.0f32), 0.05f32..1.0],
        prop_oneof![Just(0.0f32), 0.01f32..0.9],
        proptest::option::of((0.1f32..=1.0, 0.01f32..0.5)),
        proptest::option::of((0.5f32..9.0, 0.0f32..=1.0)),
    );
    let penalties = (
        proptest::option::of((0.5f32..3.0, 1u32..30)),
        proptest::option::of((0.1f32..4.0, 1.0f32..3.0, 0u32..4, 1u32..99)),
        prop_oneof![Just(0.0f32), -2.0f32..2.0],
    );
    let temperature = prop_oneof![Just(0.0f32), 0.05f32..2.0];
    (filters, penalties, temperature, any::<u64>()).prop_map(|(filters, penalties, temperature, seed)| {
        let (top_k, typical_p, top_p, min_p, xtc, mirostat) = filters;
        let (repetition, dry, presence_penalty) = penalties;
        SamplingParams {
            // Two tokens are banned.
            logit_bias: vec![(TokenId(0), -100.0), (TokenId(3), -100.0)],
            repetition: repetition.map(|(penalty, last_tokens)| Repetition { penalty, last_tokens }),
            presence_penalty,
            dry: dry.map(|(multiplier, base, allowed_length, last_tokens)| Dry {
                multiplier,
                base,
                allowed_length,
                last_tokens,
                sequence_breakers: vec!["e".into()],
            }),
            top_k,
            typical_p,
            top_p,
            min_p,
            xtc: xtc.map(|(probability, threshold)| Xtc { probability, threshold }),
            temperature,
            mirostat: mirostat.map(|(tau, eta)| Mirostat { tau, eta }),
            seed,
            ..params()
        }
    })
}

proptest! {
    #[test]
    fn whatever_is_asked_only_what_is_kept_is_drawn(
        wanted in any_params(), logits in proptest::collection::vec(-9.0f32..9.0, 5..120),
        prompt in proptest::collection::vec(0u32..9, 0..20),
    ) {
        let bytes = |token: TokenId| vec![b'a' + u8::try_from(token.0 % 26).unwrap()];
        let mut one = Sampler::after(wanted.clone(), &tokens(&prompt), bytes);
        let mut two = Sampler::after(wanted.clone(), &tokens(&prompt), bytes);
        for _ in 0..12 {
            let token = one.sample_with(&logits, None, &[], bytes).unwrap();
            prop_assert_eq!(two.sample_with(&logits, None, &[], bytes).unwrap(), token, "the same seed repeats");
            prop_assert!(![0, 3].contains(&token.0), "banned");
            let entry = one.logprob(&logits, token, u8::MAX, bytes);
            let own = entry.top.iter().find(|(id, ..)| *id == token);
            prop_assert!(own.is_some_and(|(.., logprob)| *logprob == entry.logprob), "what was drawn is reported");
            let sum: f32 = entry.top.iter().map(|(.., logprob)| logprob.exp()).sum();
            prop_assert!((sum - 1.0).abs() < 1e-3, "{} in all", sum);
            prop_assert!(entry.top.iter().all(|(id, ..)| id.0 != 0 && id.0 != 3));
            if wanted.mirostat.is_none() && wanted.top_k > 0 {
                prop_assert!(entry.top.len() <= wanted.top_k as usize);
            }
        }
    }
}
