//! Thousands of random arrivals, cancels and failures.

use std::collections::HashMap;

use allerac_engine_core::{
    AdapterId, Class, Config, Engine, Event, FinishReason, Generate, Limits, RequestId, TokenId,
};
use proptest::prelude::*;

use crate::drafting::Drafting;
use crate::fake::{ADAPTERS, Fake, FakeArchive, Faults, LIMITS, config, drain, expected_with, id_of, is_last, request};

#[derive(Debug, Clone)]
enum Action {
    Submit { prompt: Vec<u32>, max_tokens: u32, class: Class, common: u32, score_prompt: bool, adapter: AdapterId },
    ArchiveOne,
    Cancel(u64),
    Step,
}

/// Prompts that begin alike, as conversations of the same people do.
fn prompt() -> impl Strategy<Value = Vec<u32>> {
    (0u32..3, 0usize..30, proptest::collection::vec(1u32..4, 1..12)).prop_map(|(first, common, own)| {
        let begin = (0..30).map(|place| 1 + (first + place * (first + 1)) % 7).take(common);
        begin.chain(own).collect()
    })
}

fn faults() -> impl Strategy<Value = Faults> {
    let steps = || proptest::collection::vec(1usize..60, 0..2);
    let cost = prop_oneof![Just(0), 1u64..2000];
    let never = any::<(bool, bool)>();
    (steps(), steps(), never, cost).prop_map(|(fail_at, nan_at, (never_truncates, never_restores), step_us)| Faults {
        fail_at,
        nan_at,
        never_truncates,
        never_restores,
        step_us,
        minds_pieces: false,
    })
}

fn drafting() -> impl Strategy<Value = Option<Drafting>> {
    let wrong = prop_oneof![Just(None), (1u64..4).prop_map(Some)];
    let costs = (0u64..40, 0u64..4);
    let drafting = (wrong, costs, 0u32..16, 1u32..5).prop_map(|(wrong_every, (token_us, catch_up_us), most, lanes)| {
        Drafting { wrong_every, token_us, catch_up_us, most, lanes, ..Drafting::default() }
    });
    proptest::option::weighted(0.8, drafting)
}

fn limits() -> impl Strategy<Value = Limits> {
    let copy_min = prop_oneof![Just(None), (0u32..8).prop_map(Some)];
    (copy_min, any::<bool>(), 1u32..8, 1u32..5).prop_map(|(copy_min, neighbours, piece_min, sequences)| Limits {
        copy_min,
        neighbours,
        piece_min,
        sequences,
        ..LIMITS
    })
}

fn class() -> impl Strategy<Value = Class> {
    prop_oneof![Just(Class::Batch), Just(Class::Chat), Just(Class::Voice)]
}

fn archive() -> impl Strategy<Value = Option<FakeArchive>> {
    let archive = |(delay, loses)| FakeArchive { delay, loses, ..FakeArchive::default() };
    proptest::option::of((0u32..3, proptest::option::of(1u64..4)).prop_map(archive))
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        2 => (prompt(), 0u32..24, class(), 0u32..20, proptest::bool::weighted(0.2), 0..=ADAPTERS)
            .prop_map(|(prompt, max_tokens, class, common, score_prompt, adapter)| Action::Submit {
                prompt, max_tokens, class, common, score_prompt, adapter: AdapterId(adapter),
            }),
        1 => Just(Action::ArchiveOne),
        1 => (0u64..60).prop_map(Action::Cancel),
        4 => Just(Action::Step),
    ]
}

/// What was counted is what was told. With a step that failed, tokens were begun and not computed.
fn check_counters(engine: &Engine<Fake>, events: &[Event], computes_all: bool) {
    let counters = engine.stats().counters;
    let (mut ended, mut produced, mut known, mut prompts) = (0, 0, 0, 0);
    for event in events {
        ended += u64::from(is_last(event));
        match event {
            Event::Chunk { chunk, .. } => produced += chunk.tokens.len() as u64,
            Event::Started { cached_tokens, .. } => known += u64::from(*cached_tokens),
            Event::Finished { usage, .. } | Event::Failed { usage, .. } => prompts += u64::from(usage.prompt_tokens),
            Event::Waiting { .. } | Event::Scored { .. } | Event::Refused { .. } => {}
        }
    }
    assert_eq!((counters.submitted, counters.ended.sum()), (ended, ended));
    assert_eq!((counters.output_tokens, counters.prompt.known()), (produced, known));
    if computes_all {
        assert_eq!(counters.prompt.computed + counters.prompt.known(), prompts);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn every_request_ends_once_and_answers_as_if_it_were_alone(
        actions in proptest::collection::vec(action(), 1..120),
        faults in faults(),
        limits in limits(),
        archive in archive(),
        drafting in drafting(),
        chunk in 1u32..20,
    ) {
        let limits = Limits { drafts: !faults.never_truncates, ..limits };
        let computes_all = faults.fail_at.is_empty();
        let mut engine = Engine::new(Fake::new(limits, faults).with_drafting(drafting), Config { queue: 6, ..config(chunk) });
        if let Some(archive) = archive {
            engine = engine.with_archive(Box::new(archive));
        }
        let (mut events, mut requests) = (Vec::new(), HashMap::new());
        for action in actions {
            match action {
                Action::Submit { prompt, max_tokens, class, common, score_prompt, adapter } => {
                    let id = requests.len() as u64;
                    let common = common.min(prompt.len().try_into().unwrap());
                    let request = Generate { class, common, score_prompt, adapter, ..request(id, &prompt, max_tokens) };
                    requests.insert(id, request.clone());
                    engine.submit(request, &mut events);
                }
                Action::Cancel(id) => engine.cancel(RequestId(id), &mut events),
                Action::ArchiveOne => {
                    engine.archive_one();
                }
                Action::Step => engine.step(&mut events),
            }
            engine.check_invariants();
        }
        drain(&mut engine, &mut events);
        check_counters(&engine, &events, computes_all);
        for (id, request) in requests {
            let own: Vec<&Event> = events.iter().filter(|event| id_of(event).0 == id).collect();
            prop_assert_eq!(own.iter().filter(|event| is_last(event)).count(), 1);
            prop_assert!(is_last(own.last().unwrap()));
            let (mut tokens, mut scored) = (Vec::new(), Vec::new());
            for event in &own {
                if let Event::Scored { logprobs, .. } = event {
                    prop_assert!(request.score_prompt && tokens.is_empty());
                    scored.extend(logprobs.iter().map(|entry| entry.token));
                }
                if let Event::Chunk { chunk, .. } = event {
                    tokens.extend_from_slice(&chunk.tokens);
                    prop_assert_eq!(chunk.completion_tokens as usize, tokens.len());
                }
            }
            prop_assert!(request.prompt.starts_with(&scored));
            let (wanted, wanted_reason) = expected_with(request.adapter, &request.prompt, request.max_tokens);
            prop_assert!(wanted.starts_with(&tokens));
            if let Event::Finished { reason, usage, .. } = own.last().unwrap() {
                prop_assert_eq!(usage.completion_tokens as usize, tokens.len());
                if *reason != FinishReason::Cancelled {
                    prop_assert_eq!(*reason, wanted_reason);
                    prop_assert_eq!(tokens, wanted);
                    prop_assert_eq!(usage.prompt_tokens as usize, request.prompt.len());
                    prop_assert_eq!(scored.len(), if request.score_prompt { request.prompt.len() } else { 0 });
                }
            }
        }
    }

    #[test]
    fn however_a_prompt_is_cut_its_numbers_are_those_of_the_whole(
        prompts in proptest::collection::vec((proptest::collection::vec(1u32..9, 1..50), 0usize..4), 1..8),
        piece_min in 1u32..9,
        chunk in 1u32..17,
    ) {
        let limits = Limits { piece_min, copy_min: None, ..LIMITS };
        let faults = Faults { minds_pieces: true, ..Faults::default() };
        let answers = |requests: &[Generate], pauses: &[usize]| {
            let mut engine = Engine::new(Fake::new(limits, faults.clone()), Config { queue: 9, ..config(chunk) });
            let mut events = Vec::new();
            for (request, pause) in requests.iter().zip(pauses) {
                engine.submit(request.clone(), &mut events);
                (0..*pause).for_each(|_| engine.step(&mut events));
            }
            drain(&mut engine, &mut events);
            let mut tokens: HashMap<u64, Vec<TokenId>> = HashMap::new();
            for event in events {
                if let Event::Chunk { id, chunk } = event {
                    tokens.entry(id.0).or_default().extend(chunk.tokens);
                }
            }
            tokens
        };
        let pauses: Vec<usize> = prompts.iter().map(|(_, pause)| *pause).collect();
        let requests: Vec<Generate> = (0..)
            .zip(&prompts)
            .map(|(id, (prompt, _))| Generate { salt: id, ..request(id, prompt, 10) })
            .collect();
        let together = answers(&requests, &pauses);
        for request in &requests {
            let alone = answers(std::slice::from_ref(request), &[0]);
            prop_assert_eq!(alone.get(&request.id.0), together.get(&request.id.0));
        }
    }
}
