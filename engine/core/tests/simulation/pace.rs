//! Steps of the right size.

use allerac_engine_core::{Config, Engine, Event, Limits, TokenId};

use crate::fake::{Fake, Faults, LIMITS, config, drain, expected, request, start_of};

#[test]
fn right_guesses_save_steps_and_wrong_ones_change_nothing() {
    let prompt: Vec<TokenId> = [1, 2, 3, 4].repeat(4).into_iter().map(TokenId).collect();
    let numbers: Vec<u32> = prompt.iter().map(|token| token.0).collect();
    let steps = |speculate| {
        let faults = Faults { step_us: 500, ..Faults::default() };
        let mut engine = Engine::new(Fake::new(LIMITS, faults), Config { speculate, ..config(16) });
        let mut events = Vec::new();
        engine.submit(request(1, &numbers, 40), &mut events);
        drain(&mut engine, &mut events);
        let chunks = events.iter().filter_map(|event| match event {
            Event::Chunk { chunk, .. } => Some(chunk.tokens.clone()),
            _ => None,
        });
        assert_eq!(chunks.flatten().collect::<Vec<_>>(), expected(&prompt, 40).0);
        engine.into_backend().steps
    };
    let (with, without) = (steps(true), steps(false));
    assert!(with * 4 < without * 3, "{with} steps with guesses, {without} without");
}

/// The lengths of the pieces in which a prompt is computed beside a stream, in so many steps.
fn pieces(limits: Limits, chunk: u32, prompt: &[u32], steps: usize) -> Vec<usize> {
    let faults = Faults { step_us: 1, ..Faults::default() };
    let mut engine = Engine::new(Fake::new(limits, faults), config(chunk));
    let mut events = Vec::new();
    engine.submit(request(1, &[start_of(90)], 90), &mut events);
    engine.step(&mut events);
    engine.submit(request(2, prompt, 5), &mut events);
    (0..steps).for_each(|_| engine.step(&mut events));
    engine.into_backend().batches.into_iter().filter(|length| *length > 15).collect()
}

#[test]
fn a_chunk_of_prompt_takes_the_time_it_may() {
    let limits = Limits { cells: 4096, context: 4096, batch: 512, ..LIMITS };
    // 10 µs a token: the first piece is a guess, then 1 ms has room for 99.
    assert_eq!(pieces(limits, 16, &[3; 2000], 4), [16, 99, 99, 99]);
}

#[test]
fn where_even_the_shortest_piece_takes_long_it_is_cut_further() {
    let pieces = |piece_min| {
        let limits = Limits { cells: 8192, context: 8192, batch: 1024, piece_min, ..LIMITS };
        pieces(limits, 1024, &[3; 4000], 3)
    };
    // 10 µs a token: a chunk of 1 ms has room for 99, and 2 ms are bearable.
    assert_eq!(pieces(64), [1024, 99, 99]);
    assert_eq!(pieces(150), [1024, 150, 150]);
    assert_eq!(pieces(800), [1024, 199, 199]);
}
