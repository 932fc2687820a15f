//! What is known is not computed again.

use allerac_engine_core::{Engine, Event, Generate, Limits, RequestId};

use crate::fake::{Fake, Faults, LIMITS, config, drain, engine_with, request, start_of};

#[test]
fn the_same_owner_gets_the_known_prefix_and_another_owner_does_not() {
    let mut engine = engine_with(config(8));
    let prompt = [9, 8, 7, 6, 5, 4];
    let cached = |engine: &mut Engine<Fake>, id| {
        let mut events = Vec::new();
        engine.submit(request(id, &prompt, 4), &mut events);
        drain(engine, &mut events);
        let Event::Started { cached_tokens, .. } = events[0] else { panic!("{events:?}") };
        cached_tokens
    };
    assert_eq!(cached(&mut engine, 2), 0);
    assert_eq!(cached(&mut engine, 4), 6);
    assert_eq!(cached(&mut engine, 3), 0);
}

#[test]
fn what_several_requests_begin_with_is_computed_once() {
    let prompt: Vec<u32> = (1..=20).collect();
    let run = |copy_min: Option<u32>, salts: [u64; 3]| {
        let limits = Limits { copy_min, ..LIMITS };
        let mut engine = Engine::new(Fake::new(limits, Faults::default()), config(4));
        let mut events = Vec::new();
        for (id, salt) in salts.into_iter().enumerate() {
            engine.submit(Generate { salt, ..request(id as u64, &prompt, 1) }, &mut events);
        }
        drain(&mut engine, &mut events);
        engine.into_backend().computed
    };
    assert_eq!(run(Some(1), [7, 7, 7]), 20);
    assert_eq!(run(Some(1), [7, 8, 7]), 20 + 20);
    assert_eq!(run(Some(20), [7, 7, 7]), 20);
    assert_eq!(run(Some(21), [7, 7, 7]), 60);
    assert_eq!(run(None, [7, 7, 7]), 60);
}

#[test]
fn where_only_neighbours_decode_together_requests_get_neighbouring_slots() {
    let limits = Limits { neighbours: true, sequences: 6, cells: 6 * 64, ..LIMITS };
    let mut engine = Engine::new(Fake::new(limits, Faults::default()), config(16));
    let start = start_of(21);
    let mut events = Vec::new();
    let submit = |engine: &mut Engine<Fake>, id, salt, prompt: &[u32], max_tokens, events: &mut Vec<Event>| {
        engine.submit(Generate { salt, ..request(id, prompt, max_tokens) }, events);
        engine.step(events);
    };
    // Ended requests of others are remembered in all slots; that of salt 5 in the last.
    for id in 0..6 {
        submit(&mut engine, id, id, &[7; 12], 9, &mut events);
    }
    drain(&mut engine, &mut events);
    // A long answer in the first slot; then the conversation of salt 5 goes on.
    submit(&mut engine, 10, 0, &[7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, start], 30, &mut events);
    submit(&mut engine, 11, 5, &[7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, start], 30, &mut events);
    let cached = events.iter().find_map(|event| match event {
        Event::Started { id: RequestId(11), cached_tokens } => Some(*cached_tokens),
        _ => None,
    });
    assert_eq!(cached, Some(12));
    assert_eq!(engine.busy_sequences(), [0, 1]);
}

#[test]
fn a_short_common_beginning_does_not_cost_a_long_memory() {
    let mut engine = engine_with(config(16));
    let conversation: Vec<u32> = (1..=20).collect();
    let run = |engine: &mut Engine<Fake>, id, prompt: &[u32]| {
        let mut events = Vec::new();
        engine.submit(Generate { salt: 1, ..request(id, prompt, 1) }, &mut events);
        drain(engine, &mut events);
        let Event::Started { cached_tokens, .. } = events[0] else { panic!("{events:?}") };
        cached_tokens
    };
    assert_eq!(run(&mut engine, 1, &conversation), 0);
    for (id, other) in (2..).zip([21, 22, 23, 24]) {
        run(&mut engine, 100 + id, &[30, other, other, other]);
        // The conversation goes on and stays the last used but one.
        assert_eq!(run(&mut engine, id, &conversation), 20);
        // It shares two tokens, which are copied.
        assert_eq!(run(&mut engine, 200 + id, &[1, 2, other, other, other]), 2);
    }
}
