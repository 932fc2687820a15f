//! What is urgent comes first, and what nobody waits for goes on when there is time.

use allerac_engine_core::{Class, Engine, Event, Generate, Limits, RequestId};

use crate::fake::{Fake, Faults, LIMITS, config, drain, engine_with, expected, request, start_of};

fn tokens_of(events: &[Event], id: u64) -> usize {
    let of = |event: &Event| match event {
        Event::Chunk { id: other, chunk } if other.0 == id => chunk.tokens.len(),
        _ => 0,
    };
    events.iter().map(of).sum()
}

fn batch(id: u64, prompt: &[u32], max_tokens: u32) -> Generate {
    Generate { class: Class::Batch, ..request(id, prompt, max_tokens) }
}

#[test]
fn what_nobody_waits_for_rests_while_somebody_waits() {
    let mut engine = engine_with(config(16));
    let (mut events, start) = (Vec::new(), start_of(30));
    engine.submit(batch(1, &[start], 30), &mut events);
    engine.step(&mut events);
    let before = tokens_of(&events, 1);
    engine.submit(request(2, &[start, start], 9), &mut events);
    for _ in 0..5 {
        engine.step(&mut events);
    }
    assert!(tokens_of(&events, 2) >= 5, "somebody waits for these");
    assert!(tokens_of(&events, 1) <= before + 1, "at most the step that is its turn");
    drain(&mut engine, &mut events);
    assert_eq!(tokens_of(&events, 1), 30);
}

#[test]
fn it_gives_up_its_slot_and_goes_on_where_it_was() {
    let limits = Limits { sequences: 1, ..LIMITS };
    let mut engine = Engine::new(Fake::new(limits, Faults::default()), config(16));
    let (mut events, start) = (Vec::new(), start_of(30));
    let patient = batch(1, &[start], 30);
    let (wanted, _) = expected(&patient.prompt, 30);
    engine.submit(patient, &mut events);
    for _ in 0..4 {
        engine.step(&mut events);
    }
    let before = tokens_of(&events, 1);
    // Also where both are the same person's.
    engine.submit(Generate { salt: 1, ..request(2, &[start, 5], 3) }, &mut events);
    engine.step(&mut events);
    assert!(tokens_of(&events, 2) > 0, "it begins at once");
    drain(&mut engine, &mut events);
    let mut answer = Vec::new();
    let mut order = Vec::new();
    for event in &events {
        match event {
            Event::Chunk { id: RequestId(1), chunk } => answer.extend(chunk.tokens.iter().copied()),
            Event::Finished { id, .. } => order.push(id.0),
            _ => {}
        }
    }
    assert_eq!(answer, wanted);
    assert_eq!(order, [2, 1]);
    // What it had computed was not computed again: the prompt, and each token once.
    assert!(before > 0);
    let computed = engine.into_backend().computed;
    let other = 2 + tokens_of(&events, 2);
    let guessed = 30;
    assert!(computed <= 1 + 30 + other + guessed, "{computed}");
}

#[test]
fn a_paused_request_can_be_cancelled() {
    let limits = Limits { sequences: 1, ..LIMITS };
    let mut engine = Engine::new(Fake::new(limits, Faults::default()), config(16));
    let (mut events, start) = (Vec::new(), start_of(30));
    engine.submit(batch(1, &[start], 30), &mut events);
    engine.step(&mut events);
    engine.submit(request(2, &[start, start], 9), &mut events);
    engine.step(&mut events);
    engine.cancel(RequestId(1), &mut events);
    let cancelled = |event: &Event| matches!(event, Event::Finished { id: RequestId(1), .. });
    assert_eq!(events.iter().filter(|event| cancelled(event)).count(), 1);
    drain(&mut engine, &mut events);
    assert_eq!(events.iter().filter(|event| cancelled(event)).count(), 1);
}

#[test]
fn a_voice_passes_those_who_read() {
    let limits = Limits { sequences: 1, ..LIMITS };
    let mut engine = Engine::new(Fake::new(limits, Faults::default()), config(16));
    let mut events = Vec::new();
    for id in 1..5 {
        engine.submit(request(id, &[5, 6], 3), &mut events);
    }
    engine.submit(Generate { class: Class::Voice, ..request(5, &[5, 6], 3) }, &mut events);
    engine.submit(batch(6, &[5, 6], 3), &mut events);
    engine.submit(request(7, &[5, 6], 3), &mut events);
    drain(&mut engine, &mut events);
    let finished = |event: &Event| match event {
        Event::Finished { id, .. } => Some(id.0),
        _ => None,
    };
    let order: Vec<u64> = events.iter().filter_map(finished).collect();
    assert_eq!((order[0], order[6]), (5, 6));
}

#[test]
fn what_nobody_waits_for_is_not_starved_by_those_who_never_stop() {
    let limits = Limits { sequences: 1, ..LIMITS };
    let mut engine = Engine::new(Fake::new(limits, Faults::default()), config(16));
    let mut events = Vec::new();
    engine.submit(batch(0, &[5, 6, 7, 8], 20), &mut events);
    engine.step(&mut events);
    let is_done =
        |events: &[Event]| events.iter().any(|event| matches!(event, Event::Finished { id: RequestId(0), .. }));
    for id in 1..400 {
        engine.submit(Generate { salt: 1, ..request(id, &[5, 6], 3) }, &mut events);
        engine.step(&mut events);
        if is_done(&events) {
            return;
        }
    }
    panic!("it never came to an end");
}
