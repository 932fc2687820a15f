//! Our sampler beside llama.cpp's own samplers, on the same logits and after the same tokens.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use allerac_engine_core::sampler::Sampler;
use allerac_engine_core::{Dry, Mirostat, Repetition, SamplingParams, TokenId, Xtc};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use llama_cpp_2::{LogOptions, send_logs_to_tracing};

const MODEL: &str =
    ".cache/test-data/models/blobs/sha256-b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
/// A small part of a vocabulary, so that all tokens that can be drawn are reported.
const TOKENS: u32 = 200;

/// The first numbers of a linear congruential generator (Knuth's MMIX), 0.0..1.0.
fn random(seed: u32) -> impl Iterator<Item = f32> {
    let next =
        |state: &u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
    std::iter::successors(Some(u64::from(seed)), next).skip(2).map(|state| (state >> 40) as f32 / (1u32 << 24) as f32)
}

/// A number below `end`, for one in 0.0..1.0.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is small and not negative")]
fn below(unit: f32, end: u32) -> u32 {
    (unit * end as f32) as u32
}

/// Logits like a model's: most are low, a few stand out.
fn logits(seed: u32) -> Vec<f32> {
    random(seed).take(TOKENS as usize).map(|unit| 12.0 * unit.powi(4) - 4.0).collect()
}

fn ours(sampler: &mut Sampler, logits: &[f32]) -> Vec<f32> {
    let token = sampler.sample(logits, None).unwrap();
    let entry = sampler.logprob(logits, token, u8::MAX, |_| Vec::new());
    let mut distribution = vec![0.0; logits.len()];
    entry.top.iter().for_each(|(token, _, logprob)| distribution[token.0 as usize] = logprob.exp());
    distribution
}

fn theirs(sampler: &mut LlamaSampler, logits: &[f32]) -> Vec<f32> {
    let data = (0..).zip(logits).map(|(token, logit)| LlamaTokenData::new(LlamaToken(token), *logit, 0.0));
    let mut array = LlamaTokenDataArray::from_iter(data, false);
    array.apply_sampler(sampler);
    let mut distribution = vec![0.0; logits.len()];
    let highest = array.data.iter().map(LlamaTokenData::logit).fold(f32::MIN, f32::max);
    let weight = |data: &LlamaTokenData| (data.logit() - highest).exp();
    let total: f32 = array.data.iter().map(weight).sum();
    let place = |data: &LlamaTokenData| usize::try_from(data.id().0).unwrap();
    array.data.iter().for_each(|data| distribution[place(data)] = weight(data) / total);
    distribution
}

#[track_caller]
fn assert_equal(ours: &[f32], theirs: &[f32]) {
    for (token, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        assert!((ours - theirs).abs() < 1e-5, "token {token} has {ours} and not {theirs}");
        // What they drop we drop, and the other way round.
        assert_eq!(*ours > 1e-12, *theirs > 1e-12, "token {token} has {ours} and not {theirs}");
    }
}

fn params() -> SamplingParams {
    SamplingParams { post_sampling_probs: true, ..SamplingParams::default() }
}

fn model() -> (LlamaBackend, LlamaModel) {
    let path = std::env::var_os("ALLERAC_TEST_MODEL")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(MODEL), PathBuf::from);
    assert!(path.exists(), "{} is missing; fetch it: make test-model", path.display());
    send_logs_to_tracing(LogOptions::default());
    let backend = LlamaBackend::init().unwrap();
    let model = LlamaModel::load_from_file(&backend, path, &LlamaModelParams::default()).unwrap();
    (backend, model)
}

#[test]
fn the_filters_agree() {
    for seed in 0..60 {
        let logits = logits(seed);
        let [typical_p, top_p, min_p, threshold] = random(seed + 1000).take(4).collect::<Vec<_>>()[..] else {
            panic!("there are always more")
        };
        let (typical_p, min_p, threshold) = (0.1 + 0.89 * typical_p, 0.1 * min_p, 0.25 * threshold);
        let temperature = 0.5 + top_p;
        let top_p = 0.3 + 0.7 * top_p;
        // Every second one leaves a step out.
        let top_k = if seed % 2 == 0 { 0 } else { 5 + seed };
        let typical_p = if seed % 3 == 0 { 1.0 } else { typical_p };
        let xtc = (seed % 5 > 1).then_some(Xtc { probability: 1.0, threshold });
        let wanted = SamplingParams { top_k, typical_p, top_p, min_p, xtc, temperature, ..params() };
        let mut chain = LlamaSampler::chain_simple([
            LlamaSampler::top_k(i32::try_from(top_k).unwrap()),
            LlamaSampler::typical(typical_p, 0),
            LlamaSampler::top_p(top_p, 0),
            LlamaSampler::min_p(min_p, 0),
            LlamaSampler::xtc(xtc.map_or(0.0, |xtc| xtc.probability), threshold, 0, 1),
            LlamaSampler::temp(temperature),
        ]);
        assert_equal(&ours(&mut Sampler::new(wanted), &logits), &theirs(&mut chain, &logits));
    }
}

#[test]
fn mirostat_agrees() {
    for seed in 0..60 {
        let (tau, eta) = (1.0 + seed as f32 / 15.0, 0.1);
        let temperature = 0.7 + seed as f32 / 60.0;
        let wanted = SamplingParams { mirostat: Some(Mirostat { tau, eta }), temperature, ..params() };
        let mut sampler = Sampler::new(wanted);
        let mut chain =
            LlamaSampler::chain_simple([LlamaSampler::temp(temperature), LlamaSampler::mirostat_v2(1, tau, eta)]);
        for step in 0..8 {
            // Tokens that are certain are drawn alike by both, and move the bound alike.
            let mut certain = vec![-90.0; TOKENS as usize];
            certain[step] = 0.0;
            assert_equal(&ours(&mut sampler, &certain), &theirs(&mut chain, &certain));
        }
        assert_equal(&ours(&mut sampler, &logits(seed)), &theirs(&mut chain, &logits(seed)));
    }
}

#[test]
fn the_repetition_penalty_agrees() {
    for seed in 0..60 {
        let history: Vec<u32> = random(seed).take(90).map(|unit| below(unit, 40)).collect();
        let (penalty, last_tokens) = (1.0 + seed as f32 / 50.0 + 0.01, 1 + seed * 2);
        let wanted = SamplingParams { repetition: Some(Repetition { penalty, last_tokens }), ..params() };
        let tokens: Vec<TokenId> = history.iter().copied().map(TokenId).collect();
        let mut sampler = Sampler::after(wanted, &tokens, |_| Vec::new());
        let (vocabulary, last) = (i32::try_from(TOKENS).unwrap(), i32::try_from(last_tokens).unwrap());
        let mut chain = LlamaSampler::penalties(vocabulary, last, penalty, 0.0, 0.0);
        chain.accept_many(history.iter().map(|token| LlamaToken(i32::try_from(*token).unwrap())));
        assert_equal(&ours(&mut sampler, &logits(seed)), &theirs(&mut chain, &logits(seed)));
    }
}

#[test]
fn dry_agrees() {
    let (_backend, model) = model();
    let vocabulary = model.vocab();
    let bytes = |token: TokenId| vocabulary.token_to_piece(LlamaToken(i32::try_from(token.0).unwrap()), false, None);
    let breakers: [&[&str]; 3] = [&["\n", ":", "\"", "*"], &["\n\n"], &[]];
    // Letters with breakers between them, one of them `\n`, as this model numbers them.
    let alphabet = [65, 66, 67, 68, 69, 198, 42];
    assert_eq!(alphabet.map(|token| bytes(TokenId(token))).concat(), b"QRSTU\n:");
    for seed in 0..600 {
        let mut numbers = random(seed);
        // Few letters repeat much, more of them meet more breakers.
        let letters = 2 + seed % 6;
        let mut history: Vec<u32> =
            numbers.by_ref().take(60).map(|unit| alphabet[below(unit, letters) as usize]).collect();
        history.extend_from_within(20..20 + seed as usize % 40);
        let breakers = breakers[seed as usize % 3];
        let (allowed_length, last_tokens) = (seed % 4, 3 + seed % 120);
        let (multiplier, base) = (0.1 + numbers.next().unwrap(), 1.0 + numbers.next().unwrap() / 4.0);
        let sequence_breakers = breakers.iter().map(|breaker| (*breaker).to_owned()).collect();
        let dry = Dry { multiplier, base, allowed_length, last_tokens, sequence_breakers };
        let tokens: Vec<TokenId> = history.iter().copied().map(TokenId).collect();
        let mut sampler = Sampler::after(SamplingParams { dry: Some(dry), ..params() }, &tokens, bytes);
        let (allowed, last) = (i32::try_from(allowed_length).unwrap(), i32::try_from(last_tokens).unwrap());
        let mut chain = LlamaSampler::dry(&model, multiplier, base, allowed, last, breakers);
        chain.accept_many(history.iter().map(|token| LlamaToken(i32::try_from(*token).unwrap())));
        assert_equal(&ours(&mut sampler, &logits(seed)), &theirs(&mut chain, &logits(seed)));
    }
}
