//! Parameters that remember earlier tokens.

use allerac_engine_core::sampler::Sampler;
use allerac_engine_core::{
    Config, Dry, Engine, Event, FinishReason, Generate, Mirostat, Repetition, SamplingParams, TokenId, Xtc,
};

use crate::fake::{END, Fake, Faults, LIMITS, VOCABULARY, config, drain, request};

/// One request that remembers its tokens in every way there is.
fn remembering(seed: u64, mirostat: Option<Mirostat>) -> Generate {
    let prompt = [1, 2, 3, 4].repeat(4);
    let sampling = SamplingParams {
        logit_bias: vec![(END, -100.0)],
        repetition: Some(Repetition { penalty: 1.2, last_tokens: 6 }),
        frequency_penalty: 0.02,
        dry: Some(Dry {
            multiplier: 0.1,
            base: 1.1,
            allowed_length: 3,
            last_tokens: u32::MAX,
            sequence_breakers: vec!["DE".into(), "Q".into()],
        }),
        xtc: Some(Xtc { probability: 0.1, threshold: 0.3 }),
        temperature: 0.08,
        mirostat,
        seed,
        ..SamplingParams::default()
    };
    Generate { sampling, ..request(1, &prompt, 40) }
}

/// What the request is answered, and in how many steps.
fn answer(request: Generate, speculate: bool) -> (Vec<TokenId>, usize) {
    let faults = Faults { step_us: 500, ..Faults::default() };
    let mut engine = Engine::new(Fake::new(LIMITS, faults), Config { speculate, ..config(16) });
    let mut events = Vec::new();
    engine.submit(request, &mut events);
    drain(&mut engine, &mut events);
    let chunks = events.into_iter().filter_map(|event| match event {
        Event::Chunk { chunk, .. } => Some(chunk.tokens),
        _ => None,
    });
    (chunks.flatten().collect(), engine.into_backend().steps)
}

/// The same without an engine: one token after the other.
fn expected(request: &Generate) -> Vec<TokenId> {
    let bytes = |token: TokenId| vec![b'A' + u8::try_from(token.0).unwrap()];
    let mut sampler = Sampler::after(request.sampling.clone(), &request.prompt, bytes);
    let mut tokens = request.prompt.clone();
    for _ in 0..request.max_tokens {
        let mut logits = [0.0; VOCABULARY as usize];
        logits[Fake::next(&tokens).0 as usize] = 1.0;
        tokens.push(sampler.sample_with(&logits, None, &[], bytes).unwrap());
    }
    tokens.split_off(request.prompt.len())
}

#[test]
fn guesses_change_nothing_that_is_remembered() {
    let (mut with_guesses, mut without) = (0, 0);
    for seed in 0..40 {
        let mirostat = (seed % 4 == 0).then_some(Mirostat { tau: 1.0, eta: 0.3 });
        let request = remembering(seed, mirostat);
        let expected = expected(&request);
        for (speculate, steps) in [(true, &mut with_guesses), (false, &mut without)] {
            let (tokens, taken) = answer(request.clone(), speculate);
            assert_eq!(tokens, expected, "seed {seed}");
            *steps += taken;
        }
    }
    assert!(with_guesses * 20 < without * 19, "{with_guesses} steps with guesses, {without} without");
}

#[test]
fn a_penalty_reaches_back_into_the_prompt() {
    let first = |multiplier| {
        let dry =
            Dry { multiplier, base: 1.75, allowed_length: 2, last_tokens: u32::MAX, sequence_breakers: Vec::new() };
        let logit_bias = vec![(END, -100.0)];
        let sampling = SamplingParams { temperature: 0.0, logit_bias, dry: Some(dry), ..SamplingParams::default() };
        answer(Generate { sampling, ..request(1, &[1, 2, 3, 4].repeat(4), 1) }, false).0
    };
    // The prompt repeats itself, and the model goes on with that; all other tokens are equally likely.
    assert_eq!(first(0.0), [TokenId(1)]);
    assert_eq!(first(1.0), [TokenId(2)]);
}

#[test]
fn an_answer_does_not_end_before_it_may() {
    let start = TokenId((1..VOCABULARY).find(|first| natural(TokenId(*first)).len() > 1).expect("one is answered"));
    let natural = natural(start);
    let length = u32::try_from(natural.len()).unwrap();
    let answered = |min_tokens, speculate| {
        let sampling = SamplingParams { temperature: 0.0, min_tokens, ..SamplingParams::default() };
        answer(Generate { sampling, ..request(1, &[start.0], 40) }, speculate).0
    };
    assert_eq!(answered(length, false), natural, "it may end when it is as long as it must be");
    let longer = answered(length + 1, false);
    assert!(longer.len() > natural.len() && longer.starts_with(&natural), "{longer:?}");
    let whole = answered(u32::MAX, false);
    assert_eq!(whole.len(), 40);
    assert!(!whole.contains(&END));
    assert_eq!(answered(u32::MAX, true), whole);
}

/// What the fake model says after a token until it ends by itself, where that is within 30 tokens; else nothing.
fn natural(start: TokenId) -> Vec<TokenId> {
    let (tokens, reason) = crate::fake::expected(&[start], 30);
    if reason == FinishReason::Stop { tokens } else { Vec::new() }
}
