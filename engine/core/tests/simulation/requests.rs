//! What becomes of one request.

use allerac_engine_core::event::RefuseReason;
use allerac_engine_core::{Config, Engine, Event, FinishReason, Generate, RequestId, TokenId, Usage};

use crate::fake::{Fake, Faults, LIMITS, VOCABULARY, config, drain, engine_with, expected, id_of, request, start_of};

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
fn a_request_without_prompt_fails_at_once() {
    let mut engine = engine_with(config(8));
    let mut events = Vec::new();
    engine.submit(request(1, &[], 5), &mut events);
    assert!(matches!(events[..], [Event::Failed { .. }]), "{events:?}");
    assert!(!engine.has_work());
}

#[test]
fn a_request_without_room_for_an_answer_only_computes_its_prompt() {
    let mut engine = engine_with(config(8));
    let mut events = Vec::new();
    engine.submit(request(2, &[5, 6, 7], 0), &mut events);
    drain(&mut engine, &mut events);
    let usage = Usage { prompt_tokens: 3, ..Usage::default() };
    let (id, reason, tail) = (RequestId(2), FinishReason::Length, String::new());
    let end = Event::Finished { id, reason, tail, usage };
    assert_eq!(events, [Event::Started { id, cached_tokens: 0 }, end]);
}

#[test]
fn a_prompt_is_scored_whole_also_where_it_is_known() {
    let mut engine = engine_with(config(8));
    // What follows in the model's eyes, so that some tokens are the likeliest.
    let start = start_of(12);
    let mut prompt = vec![start];
    prompt.extend(expected(&[TokenId(start)], 12).0.iter().map(|token| token.0));
    prompt[7] = (prompt[7] + 1) % 31 + 1;
    engine.submit(request(1, &prompt, 1), &mut Vec::new());
    drain(&mut engine, &mut Vec::new());
    let mut events = Vec::new();
    let scored = Generate { score_prompt: true, top_logprobs: Some(2), ..request(3, &prompt, 1) };
    engine.submit(scored, &mut events);
    drain(&mut engine, &mut events);
    assert!(events.contains(&Event::Started { id: RequestId(3), cached_tokens: 0 }), "{events:?}");
    let entries = events.iter().filter_map(|event| match event {
        Event::Scored { logprobs, .. } => Some(logprobs.clone()),
        _ => None,
    });
    let entries = entries.collect::<Vec<_>>().concat();
    assert_eq!(entries.iter().map(|entry| entry.token.0).collect::<Vec<_>>(), prompt);
    assert_eq!((entries[0].logprob, entries[0].top.len()), (0.0, 0));
    let sum = (1f32.exp() + (VOCABULARY - 1) as f32).ln();
    let tokens: Vec<TokenId> = prompt.iter().copied().map(TokenId).collect();
    for (place, entry) in entries.iter().enumerate().skip(1) {
        let likeliest = Fake::next(&tokens[..place]);
        let logit = f32::from(u8::from(likeliest == entry.token));
        assert!((entry.logprob - (logit - sum)).abs() < 1e-5, "{place}");
        assert_eq!((entry.top.len(), entry.top[0].0), (2, likeliest));
    }
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
