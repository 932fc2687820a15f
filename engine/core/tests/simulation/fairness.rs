//! Who is next, and who waits for whom.

use allerac_engine_core::{Engine, Event, Generate, Limits};

use crate::fake::{Fake, Faults, LIMITS, config, drain, engine_with, request, start_of};

/// The ids in the order in which the first token of each came.
fn begun(events: &[Event]) -> Vec<u64> {
    let mut ids = Vec::new();
    for event in events {
        if let Event::Chunk { id, .. } = event
            && !ids.contains(&id.0)
        {
            ids.push(id.0);
        }
    }
    ids
}

#[test]
fn a_long_prompt_does_not_stop_the_others() {
    let mut engine = engine_with(config(4));
    let mut events = Vec::new();
    let start = start_of(9);
    engine.submit(request(1, &[start], 20), &mut events);
    engine.step(&mut events);
    engine.submit(request(2, &[3; 30], 5), &mut events);
    for produced in 2..8 {
        engine.step(&mut events);
        let chunks = |wanted| events.iter().filter(|e| matches!(e, Event::Chunk { id, .. } if id.0 == wanted)).count();
        // Thirty tokens in chunks of four: none of them holds the other request up.
        assert_eq!((chunks(1), chunks(2)), (produced, 0));
    }
}

#[test]
fn whoever_asks_a_lot_waits_behind_whoever_asks_a_little() {
    let mut engine = engine_with(config(16));
    let mut events = Vec::new();
    let start = start_of(12);
    for id in 0..7 {
        engine.submit(Generate { salt: 1, ..request(id, &[start], 12) }, &mut events);
    }
    engine.step(&mut events);
    engine.submit(Generate { salt: 2, ..request(9, &[start], 12) }, &mut events);
    drain(&mut engine, &mut events);
    assert_eq!(begun(&events)[..5], [0, 1, 2, 9, 3]);
}

#[test]
fn nobody_has_all_slots_where_others_were_lately() {
    let limits = Limits { sequences: 4, cells: 400, ..LIMITS };
    let mut engine = Engine::new(Fake::new(limits, Faults::default()), config(16));
    let mut events = Vec::new();
    let start = start_of(30);
    engine.submit(Generate { salt: 2, ..request(0, &[start], 1) }, &mut events);
    drain(&mut engine, &mut events);
    for id in 1..6 {
        engine.submit(Generate { salt: 1, ..request(id, &[start], 30) }, &mut events);
    }
    engine.step(&mut events);
    assert_eq!(engine.busy_sequences().len(), 3);
    engine.submit(Generate { salt: 2, ..request(6, &[start], 30) }, &mut events);
    engine.step(&mut events);
    assert_eq!(engine.busy_sequences().len(), 4);
    drain(&mut engine, &mut events);
    assert_eq!(begun(&events), [0, 1, 2, 3, 6, 4, 5]);
}

#[test]
fn a_waiting_request_hears_its_place() {
    let mut engine = engine_with(config(16));
    let mut events = Vec::new();
    let start = start_of(12);
    for id in 0..5 {
        engine.submit(Generate { salt: 1, ..request(id, &[start], 12) }, &mut events);
    }
    drain(&mut engine, &mut events);
    let places = events.iter().filter_map(|event| match event {
        Event::Waiting { id, place, .. } => Some((id.0, *place)),
        _ => None,
    });
    assert_eq!(places.collect::<Vec<_>>(), [(3, 1), (4, 2)]);
}

#[test]
fn short_prompts_pass_a_long_one_which_is_not_starved() {
    let mut engine = engine_with(config(4));
    let mut events = Vec::new();
    let start = start_of(60);
    // Somebody generates, so that there is a chunk of four tokens a step.
    engine.submit(Generate { salt: 1, ..request(0, &[start], 60) }, &mut events);
    engine.step(&mut events);
    engine.submit(Generate { salt: 1, ..request(1, &[3; 20], 1) }, &mut events);
    engine.step(&mut events);
    for id in 2..60 {
        engine.submit(Generate { salt: 1, ..request(u64::from(id), &[1 + id % 29, 5, 6, 7], 1) }, &mut events);
        engine.step(&mut events);
    }
    drain(&mut engine, &mut events);
    let order = begun(&events);
    let place = order.iter().position(|id| *id == 1).unwrap();
    assert!((10..50).contains(&place), "{order:?}");
}
