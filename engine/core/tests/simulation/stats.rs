//! What the engine counts of its work.

use std::time::Duration;

use allerac_engine_core::stats::{Counters, Ended, PromptTokens, Requests};
use allerac_engine_core::{Class, Engine, Event, Generate, Limits, RequestId};

use crate::fake::{Fake, FakeArchive, Faults, LIMITS, config, drain, engine_with, request, start_of};

const LONG: [u32; 12] = [9, 8, 7, 6, 5, 4, 3, 2, 1, 9, 8, 7];

/// Serves a request to its end; what was known of its prompt, by where.
fn known(engine: &mut Engine<Fake>, request: Generate) -> PromptTokens {
    let before = engine.stats().counters.prompt;
    let mut events = Vec::new();
    engine.submit(request, &mut events);
    drain(engine, &mut events);
    let after = engine.stats().counters.prompt;
    PromptTokens {
        computed: after.computed - before.computed,
        slot: after.slot - before.slot,
        copied: after.copied - before.copied,
        memory: after.memory - before.memory,
        disk: after.disk - before.disk,
    }
}

fn of(salt: u64, id: u64, prompt: &[u32]) -> Generate {
    Generate { salt, ..request(id, prompt, 2) }
}

#[test]
fn tokens_of_prompts_are_counted_by_where_they_came_from() {
    let limits = Limits { sequences: 2, ..LIMITS };
    for (delay, memory, disk) in [(0, 12, 0), (3, 0, 12)] {
        let archive = FakeArchive { delay, ..FakeArchive::default() };
        let mut engine = Engine::new(Fake::new(limits, Faults::default()), config(16)).with_archive(Box::new(archive));
        let none = PromptTokens::default();
        assert_eq!(known(&mut engine, of(1, 1, &LONG)), PromptTokens { computed: 12, ..none });
        assert_eq!(known(&mut engine, of(1, 2, &LONG)), PromptTokens { slot: 12, ..none });
        // A short common beginning is copied.
        let other = [9, 8, 7, 6, 20, 21];
        assert_eq!(known(&mut engine, of(1, 3, &other)), PromptTokens { computed: 2, copied: 4, ..none });
        for (id, token) in [(4, 4), (5, 5)] {
            assert_eq!(known(&mut engine, of(2, id, &[token; 9])).computed, 9);
        }
        assert_eq!(known(&mut engine, of(1, 6, &LONG)), PromptTokens { memory, disk, ..none });
        // At hand now.
        for (id, token) in [(7, 7), (8, 8)] {
            known(&mut engine, of(2, id, &[token; 9]));
        }
        assert_eq!(known(&mut engine, of(1, 9, &LONG)), PromptTokens { memory: 12, ..none });
    }
}

#[test]
fn requests_are_counted_by_class_and_place() {
    let limits = Limits { sequences: 1, ..LIMITS };
    let mut engine = Engine::new(Fake::new(limits, Faults::default()), config(16));
    let (mut events, start) = (Vec::new(), start_of(30));
    engine.submit(Generate { class: Class::Batch, ..request(1, &[start], 30) }, &mut events);
    engine.step(&mut events);
    engine.submit(request(2, &[start, start], 9), &mut events);
    engine.submit(Generate { class: Class::Voice, ..request(3, &[start, 5], 9) }, &mut events);
    engine.step(&mut events);
    let gauges = engine.stats().gauges;
    let of = |class: Class| gauges.requests[class as usize];
    assert_eq!(of(Class::Batch), Requests { paused: 1, ..Requests::default() });
    assert_eq!(of(Class::Chat), Requests { waiting: 1, ..Requests::default() });
    assert_eq!(of(Class::Voice), Requests { active: 1, ..Requests::default() });
    assert_eq!((gauges.cells, gauges.cells_active, gauges.cells_kept), (96, 2, 0));
    engine.cancel(RequestId(2), &mut events);
    drain(&mut engine, &mut events);
    let Counters { submitted, ended, paused, resumed, .. } = engine.stats().counters;
    assert_eq!((submitted, ended.sum(), ended.cancelled, paused, resumed), (3, 3, 1, 1, 1));
    assert_eq!(engine.stats().gauges.requests, [Requests::default(); 3]);
}

#[test]
fn guesses_and_steps_are_counted() {
    let faults = Faults { step_us: 500, ..Faults::default() };
    let mut engine = Engine::new(Fake::new(LIMITS, faults), config(16));
    let (mut events, prompt) = (Vec::new(), [1, 2, 3, 4].repeat(4));
    engine.submit(request(1, &prompt, 40), &mut events);
    drain(&mut engine, &mut events);
    let counters = engine.stats().counters;
    let (output, right, guessed) = (counters.output_tokens, counters.draft_tokens_accepted, counters.draft_tokens);
    assert!(0 < right && right < guessed, "{right} of {guessed}");
    // The first token comes of the prompt; each step gives one, and one more for each right guess. What ends a turn
    // is no token of the answer.
    assert_eq!(counters.prefill.steps, 1);
    assert_eq!(counters.decode.steps + right, output - 1 + counters.ended.stop);
    let computed = counters.prompt.computed + counters.decode.steps + guessed;
    let time = counters.prefill.time + counters.decode.time;
    let steps = counters.prefill.steps + counters.decode.steps;
    assert_eq!(time.as_micros(), u128::from(500 * steps + 10 * computed));
    assert_eq!(engine.into_backend().computed as u64, computed);
}

#[test]
fn what_never_began_is_counted_by_why() {
    let mut engine = engine_with(config(16));
    let mut events = Vec::new();
    engine.submit(request(0, &[], 5), &mut events);
    engine.submit(request(1, &[3; 60], 5), &mut events);
    for id in 2..14 {
        engine.submit(request(id, &[5, 6], 1), &mut events);
    }
    let ended = engine.stats().counters.ended;
    assert_eq!(ended, Ended { failed: 1, too_long: 1, queue_full: 4, ..Ended::default() });
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Refused { .. })).count(), 5);
    assert_eq!(engine.stats().gauges.requests[Class::Chat as usize].waiting, 8);
}

#[test]
fn the_time_of_steps_goes_to_their_requests_to_the_last_nanosecond() {
    let faults = Faults { step_us: 500, ..Faults::default() };
    let mut engine = Engine::new(Fake::new(LIMITS, faults), config(16));
    let mut events = Vec::new();
    for id in 1..=3 {
        engine.submit(request(id, &[5, 6, u32::try_from(id).unwrap()], 20), &mut events);
    }
    drain(&mut engine, &mut events);
    let Counters { prefill, decode, .. } = engine.stats().counters;
    let work = engine.take_work(Duration::from_millis(70));
    let mut ids: Vec<u64> = work.iter().map(|work| work.id.0).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3]);
    assert_eq!(work.iter().map(|work| work.time).sum::<Duration>(), prefill.time + decode.time);
    assert_eq!(work.iter().map(|work| work.cpu).sum::<Duration>(), Duration::from_millis(70));
    assert!(engine.take_work(Duration::from_secs(1)).is_empty());
}
