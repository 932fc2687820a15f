//! Every way to keep keys and values, with the real model.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use allerac_engine_core::{Attention, AttentionError, Backend, BatchToken, FlashAttention, KvType, TokenId};
use allerac_engine_llama::{Context, ContextParams, LoadError, Model};

const MODEL: &str =
    ".cache/test-data/models/blobs/sha256-b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

fn model() -> &'static Model {
    let path = std::env::var_os("ALLERAC_TEST_MODEL")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(MODEL), PathBuf::from);
    assert!(path.exists(), "{} is missing; fetch it: make test-model", path.display());
    Model::load(&path, None, |_| {}).unwrap()
}

fn params(attention: Attention) -> ContextParams {
    ContextParams {
        context: 256,
        cells: 512,
        sequences: 2,
        batch: 128,
        threads: 1,
        threads_batch: 1,
        sheds_threads: true,
        attention,
    }
}

/// The most likely token after what sequence 0 has and these.
fn next(context: &mut Context, tokens: &[TokenId], position: u32) -> TokenId {
    let last = tokens.len() - 1;
    let batch = tokens.iter().enumerate().map(|(index, token)| BatchToken {
        token: *token,
        position: position + u32::try_from(index).unwrap(),
        sequence: 0,
        wants_logits: index == last,
    });
    context.decode(&batch.collect::<Vec<_>>()).unwrap();
    let logits = context.logits(last);
    assert!(logits.iter().all(|logit| logit.is_finite()));
    let best = (0..).zip(logits).max_by(|(_, a), (_, b)| a.total_cmp(b)).unwrap();
    TokenId(best.0)
}

fn greedy(context: &mut Context, prompt: &[TokenId], count: usize) -> Vec<TokenId> {
    let mut answer = vec![next(context, prompt, 0)];
    let mut position = u32::try_from(prompt.len()).unwrap();
    while answer.len() < count {
        answer.push(next(context, &answer[answer.len() - 1..], position));
        position += 1;
    }
    answer
}

fn all() -> impl Iterator<Item = Attention> {
    let types = || KvType::ALL.into_iter();
    let pairs = types().flat_map(move |kv_type_k| types().map(move |kv_type_v| (kv_type_k, kv_type_v)));
    pairs.flat_map(|(kv_type_k, kv_type_v)| {
        [FlashAttention::On, FlashAttention::Off].map(|flash| Attention { flash, kv_type_k, kv_type_v })
    })
}

fn text(context: &Context, tokens: &[TokenId]) -> String {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| context.token_bytes(*token)).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn every_combination_answers_or_is_refused_with_its_reason() {
    let model = model();
    let short = model.tokenise("The capital of France is", false);
    // Long enough for the kernels that take large pieces; and what comes next is so clear that coarse numbers do not
    // change it.
    let capitals = [("Italy", "Rome"), ("Spain", "Madrid"), ("Greece", "Athens"), ("Austria", "Vienna")];
    let known: String = capitals.iter().map(|(land, city)| format!("The capital of {land} is {city}. ")).collect();
    let long = model.tokenise(&(known.repeat(3) + "The capital of France is"), false);
    assert!(long.len() > 64 && long.len() < 200, "{}", long.len());
    let mut kinds = std::collections::BTreeSet::new();
    let (mut answered, mut refused) = (0, 0);
    for attention in all() {
        let mut context = match Context::new(model, params(attention)) {
            Ok(context) => context,
            Err(LoadError::Attention(AttentionError::QuantisedValues(kv_type))) => {
                assert_eq!((kv_type, attention.flash), (attention.kv_type_v, FlashAttention::Off));
                refused += 1;
                continue;
            }
            Err(error) => panic!("{attention}: {error}"),
        };
        assert!(kinds.insert(context.kv_kind()), "{attention} is of the kind of another one");
        let answer = greedy(&mut context, &short, 1);
        assert_eq!(text(&context, &answer), " Paris", "{attention}");
        // The pairs that are of use, since a long prompt takes a while.
        if attention.kv_type_v == KvType::F16 || attention.kv_type_k == attention.kv_type_v {
            context.clear(0);
            let answer = greedy(&mut context, &long, 5);
            assert_eq!(text(&context, &answer), " Paris. The capital of", "{attention}");
        }
        answered += 1;
    }
    // Six formats of values are quantised, and each was tried with nine of keys.
    assert_eq!((answered, refused), (2 * 81 - 54, 54));
}
