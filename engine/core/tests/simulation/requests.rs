//! What becomes of one request.

use allerac_engine_core::event::RefuseReason;
use allerac_engine_core::{Config, Engine, Event, FinishReason, RequestId};

use crate::fake::{Fake, Faults, LIMITS, config, drain, engine_with, id_of, request, start_of};

#[test]
fn a_request_that_cannot_fit_is_refused_with_both_counts() {
    let mut engine = engine_with(Config { queue: 1, ..config(4) });
    let mut events = Vec::new();
    engine.submit(request(1, &[5; 60], 5), &mut events);
    let reason = RefuseReason::TooLong { tokens: 65, context: 64 };
    assert_eq!(events, [Event::Refused { id: RequestId(1), reason }]);
}

#[test]
fn a_full_queue_refuses() {
    let mut engine = engine_with(Config { queue: 1, ..config(4) });
    let mut events = Vec::new();
    engine.submit(request(1, &[5], 5), &mut events);
    engine.submit(request(2, &[5], 5), &mut events);
    let reason = RefuseReason::QueueFull { waiting: 1, wait_ms: 0 };
    assert_eq!(events, [Event::Refused { id: RequestId(2), reason }]);
}

#[test]
fn a_cancelled_request_stops_before_the_next_step() {
    let mut engine = engine_with(config(8));
    let mut events = Vec::new();
    // A prompt whose answer is long enough to be cut.
    let start = start_of(6);
    engine.submit(request(1, &[start], 20), &mut events);
    engine.step(&mut events);
    engine.step(&mut events);
    engine.cancel(RequestId(1), &mut events);
    assert!(!engine.has_work());
    let Some(Event::Finished { reason, usage, .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!((*reason, usage.prompt_tokens, usage.completion_tokens), (FinishReason::Cancelled, 1, 2));
}

#[test]
fn a_request_without_prompt_or_answer_fails_at_once() {
    let mut engine = engine_with(config(8));
    let mut events = Vec::new();
    engine.submit(request(1, &[], 5), &mut events);
    engine.submit(request(2, &[5], 0), &mut events);
    assert!(matches!(events[..], [Event::Failed { .. }, Event::Failed { .. }]), "{events:?}");
    assert!(!engine.has_work());
}

#[test]
fn a_failed_prompt_does_not_take_the_decoding_along() {
    let start = start_of(20);
    // The third batch is the second request's prompt.
    let faults = Faults { fail_at: vec![3], ..Faults::default() };
    let mut engine = Engine::new(Fake::new(LIMITS, faults), config(16));
    let mut events = Vec::new();
    engine.submit(request(1, &[start], 20), &mut events);
    engine.step(&mut events);
    engine.submit(request(2, &[start, 4], 5), &mut events);
    drain(&mut engine, &mut events);
    let last = |wanted| events.iter().rfind(|event| id_of(event).0 == wanted).unwrap();
    assert!(matches!(last(1), Event::Finished { reason: FinishReason::Length, .. }));
    assert!(matches!(last(2), Event::Failed { .. }));
}
