//! Requests under different adapters share the machine, and nothing else.

use std::collections::HashMap;

use allerac_engine_core::{AdapterId, Class, Config, Engine, Event, Failure, Generate, SamplingParams, TokenId};

use crate::fake::{ADAPTERS, Fake, Faults, LIMITS, config, drain, engine_with, expected_with, request, start_of};

fn with(adapter: u64, request: Generate) -> Generate {
    Generate { adapter: AdapterId(adapter), ..request }
}

fn answers(events: &[Event]) -> HashMap<u64, Vec<TokenId>> {
    let mut answers: HashMap<u64, Vec<TokenId>> = HashMap::new();
    for event in events {
        if let Event::Chunk { id, chunk } = event {
            answers.entry(id.0).or_default().extend_from_slice(&chunk.tokens);
        }
    }
    answers
}

#[test]
fn each_answers_as_if_it_were_alone() {
    let mut engine = engine_with(config(8));
    let prompt = [9, 8, 7, 6, 5, 4];
    let mut events = Vec::new();
    // All of one owner: what one knows would be found by the others.
    for id in 0..=ADAPTERS {
        engine.submit(with(id, Generate { salt: 7, ..request(id, &prompt, 12) }), &mut events);
    }
    drain(&mut engine, &mut events);
    let answers = answers(&events);
    let prompt = prompt.map(TokenId);
    let alone: Vec<Vec<TokenId>> = (0..=ADAPTERS).map(|id| expected_with(AdapterId(id), &prompt, 12).0).collect();
    assert!(alone[0] != alone[1] && alone[1] != alone[2], "the adapters change nothing");
    for (id, alone) in (0u64..).zip(&alone) {
        assert_eq!(answers.get(&id).unwrap_or(&Vec::new()), alone);
    }
    let cached = events.iter().filter_map(|event| match event {
        Event::Started { cached_tokens, .. } => Some(*cached_tokens),
        _ => None,
    });
    assert_eq!(cached.collect::<Vec<_>>(), [0, 0, 0]);
}

#[test]
fn what_is_known_under_an_adapter_is_known_again() {
    let mut engine = engine_with(config(8));
    let mut events = Vec::new();
    for (id, adapter) in [(2, 1), (4, 0), (6, 1)] {
        engine.submit(with(adapter, request(id, &[9, 8, 7, 6], 1)), &mut events);
        drain(&mut engine, &mut events);
    }
    let cached = events.iter().filter_map(|event| match event {
        Event::Started { id, cached_tokens } => Some((id.0, *cached_tokens)),
        _ => None,
    });
    assert_eq!(cached.collect::<Vec<_>>(), [(2, 0), (4, 0), (6, 4)]);
}

#[test]
fn answers_take_turns_of_a_few_steps() {
    let mut engine = Engine::new(Fake::new(LIMITS, Faults::default()), Config { speculate: false, ..config(16) });
    let start = start_of(20);
    let mut events = Vec::new();
    engine.submit(request(2, &[start], 16), &mut events);
    // With an adapter an answer may be shorter; any of them has some tokens.
    let long = |adapter| (1..32).find(|first| expected_with(AdapterId(adapter), &[TokenId(*first)], 16).0.len() == 16);
    engine.submit(with(1, request(4, &[long(1).unwrap()], 16)), &mut events);
    drain(&mut engine, &mut events);
    let steps: Vec<u64> = engine.into_backend().adapters.iter().map(|adapter| adapter.0).collect();
    // Two prompts, then 15 tokens each, four at a time.
    assert_eq!(steps[..2], [0, 1]);
    let answered: Vec<u64> = [[0; 4], [1; 4]].concat().repeat(3);
    assert_eq!(steps[2..26], answered);
    assert_eq!(steps.len(), 2 + 2 * 15);
}

#[test]
fn an_adapter_that_is_not_there_is_an_error_of_that_request_alone() {
    let mut engine = engine_with(config(8));
    let mut events = Vec::new();
    engine.submit(with(ADAPTERS + 1, request(1, &[3], 4)), &mut events);
    assert!(matches!(&events[..], [Event::Failed { failure: Failure::Backend(why), .. }] if why.contains("adapter")));
    events.clear();
    engine.submit(request(2, &[start_of(4)], 4), &mut events);
    drain(&mut engine, &mut events);
    assert_eq!(answers(&events)[&2].len(), 4);
}

#[test]
fn what_nobody_waits_for_goes_on_under_each_adapter() {
    let mut engine = Engine::new(Fake::new(LIMITS, Faults::default()), Config { speculate: false, ..config(16) });
    let lasting = |id, max_tokens, class| {
        let sampling = SamplingParams { temperature: 0.0, min_tokens: u32::MAX, ..SamplingParams::default() };
        Generate { class, sampling, ..request(id, &[9], max_tokens) }
    };
    let mut events = Vec::new();
    engine.submit(lasting(1, 62, Class::Chat), &mut events);
    engine.submit(with(1, lasting(2, 4, Class::Batch)), &mut events);
    engine.submit(with(2, lasting(3, 4, Class::Batch)), &mut events);
    drain(&mut engine, &mut events);
    let chat = events.iter().position(|event| matches!(event, Event::Finished { id, .. } if id.0 == 1)).unwrap();
    // One of sixteen steps computes their prompts, the next ones are for an answer each.
    let before: Vec<usize> = [2, 3].map(|id| answers(&events[..chat])[&id].len()).to_vec();
    assert_eq!(before, [3, 2]);
}
