//! Runs the engine over a fake backend: a seeded storm of arrivals, cancels and failures, with the
//! invariants checked after every step.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{HashMap, HashSet};

use allerac_engine_core::event::RefuseReason;
use allerac_engine_core::{
    Backend, BackendError, BatchToken, Config, Engine, Event, FinishReason, Generate, Limits, RequestId,
    SamplingParams, TokenId,
};
use proptest::prelude::*;
use std::time::Duration;

const VOCABULARY: u32 = 32;
const END: TokenId = TokenId(0);
const LIMITS: Limits = Limits {
    cells: 96,
    context: 64,
    sequences: 3,
    batch: 16,
    vocabulary: VOCABULARY,
    copy_min: Some(1),
    neighbours: false,
    piece_min: 1,
    drafts: true,
};

/// A model whose next token depends on the whole sequence, so that any mistake in the KV changes the answer,
/// and which repeats itself, so that some guesses are right. It checks that positions follow on, that the cells suffice, and what a batch may hold.
struct Fake {
    limits: Limits,
    sequences: HashMap<u32, Vec<TokenId>>,
    logits: Vec<Vec<f32>>,
    faults: Faults,
    steps: usize,
    /// Tokens computed so far.
    computed: usize,
    /// Lengths of the batches so far.
    batches: Vec<usize>,
}

/// What this backend cannot do, and when it fails.
#[derive(Debug, Clone, Default)]
struct Faults {
    /// Steps that fail, by number.
    fail_at: Vec<usize>,
    /// Steps that compute what is no number.
    nan_at: Vec<usize>,
    /// No part of a sequence can be removed.
    never_truncates: bool,
    /// What each step costs besides 10 µs a token; 0 measures nothing.
    step_us: u64,
    /// A token in a piece of prompt shorter than `piece_min` gives other numbers than in a longer one.
    minds_pieces: bool,
}

impl Fake {
    fn new(limits: Limits, faults: Faults) -> Self {
        let (sequences, logits, batches) = (HashMap::new(), Vec::new(), Vec::new());
        Self { limits, sequences, logits, faults, steps: 0, computed: 0, batches }
    }

    /// The model: what follows these tokens.
    fn next(tokens: &[TokenId]) -> TokenId {
        let hash = tokens.iter().fold(7u32, |hash, token| hash.wrapping_mul(31).wrapping_add(token.0 + 1));
        match tokens {
            [.., again, _, _, _] if hash % 5 != 0 && *again != END => TokenId(again.0 % VOCABULARY),
            _ => TokenId((hash >> 3) % VOCABULARY),
        }
    }
}

impl Backend for Fake {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn decode(&mut self, batch: &[BatchToken]) -> Result<Duration, BackendError> {
        self.steps += 1;
        self.computed += batch.len();
        self.batches.push(batch.len());
        assert!(batch.len() <= self.limits.batch as usize);
        let in_it: HashSet<u32> = batch.iter().map(|token| token.sequence).collect();
        let runs = batch.chunk_by(|a, b| a.sequence == b.sequence).count();
        assert_eq!(in_it.len(), runs, "a sequence's tokens stand together");
        let is_short = batch.len() / in_it.len() < self.limits.piece_min as usize;
        self.logits = vec![Vec::new(); batch.len()];
        for (index, token) in batch.iter().enumerate() {
            let sequence = self.sequences.entry(token.sequence).or_default();
            assert_eq!(sequence.len(), token.position as usize, "positions follow on");
            let changed = u32::from(self.faults.minds_pieces && is_short) * 1000;
            sequence.push(TokenId(token.token.0 + changed));
            if token.wants_logits {
                self.logits[index] = vec![0.0; VOCABULARY as usize];
                let is_nan = self.faults.nan_at.contains(&self.steps);
                self.logits[index][Self::next(sequence).0 as usize] = if is_nan { f32::NAN } else { 1.0 };
            }
        }
        let cells: usize = self.sequences.values().map(Vec::len).sum();
        assert!(cells <= self.limits.cells as usize, "{cells} cells used");
        let took =
            Duration::from_micros(self.faults.step_us + 10 * batch.len() as u64 * u64::from(self.faults.step_us > 0));
        if self.faults.fail_at.contains(&self.steps) { Err(BackendError::Failed(-1)) } else { Ok(took) }
    }

    fn logits(&self, index: usize) -> &[f32] {
        &self.logits[index]
    }

    fn clear(&mut self, sequence: u32) {
        self.sequences.remove(&sequence);
    }

    fn truncate(&mut self, sequence: u32, from: u32) -> bool {
        if self.faults.never_truncates {
            return false;
        }
        self.sequences.get_mut(&sequence).expect("the sequence is known").truncate(from as usize);
        true
    }

    fn copy(&mut self, from: u32, to: u32, length: u32) {
        assert!(self.limits.copy_min.is_some_and(|least| length >= least));
        let copied = self.sequences[&from][..length as usize].to_vec();
        let before = self.sequences.insert(to, copied);
        assert_eq!(before, None, "a copy goes to an empty sequence");
    }

    fn token_bytes(&self, token: TokenId) -> Vec<u8> {
        vec![b'A' + u8::try_from(token.0).expect("the vocabulary is small")]
    }

    fn is_end(&self, token: TokenId) -> bool {
        token == END
    }
}

fn config(chunk: u32) -> Config {
    Config { chunk_time: Duration::from_millis(1), chunk, speculate: true, queue: 8 }
}

fn engine_with(config: Config) -> Engine<Fake> {
    Engine::new(Fake::new(LIMITS, Faults::default()), config)
}

fn request(id: u64, prompt: &[u32], max_tokens: u32) -> Generate {
    Generate {
        id: RequestId(id),
        salt: id % 2,
        prompt: prompt.iter().copied().map(TokenId).collect(),
        max_tokens,
        sampling: SamplingParams { temperature: 0.0, ..SamplingParams::default() },
        stop: Vec::new(),
        top_logprobs: None,
    }
}

/// What the fake model answers to a prompt, computed without an engine.
fn expected(prompt: &[TokenId], max_tokens: u32) -> (Vec<TokenId>, FinishReason) {
    let mut tokens = prompt.to_vec();
    while tokens.len() < prompt.len() + max_tokens as usize {
        let next = Fake::next(&tokens);
        if next == END {
            return (tokens[prompt.len()..].to_vec(), FinishReason::Stop);
        }
        tokens.push(next);
    }
    (tokens[prompt.len()..].to_vec(), FinishReason::Length)
}

fn id_of(event: &Event) -> RequestId {
    match event {
        Event::Waiting { id, .. }
        | Event::Started { id, .. }
        | Event::Chunk { id, .. }
        | Event::Finished { id, .. }
        | Event::Failed { id, .. }
        | Event::Refused { id, .. } => *id,
    }
}

fn is_last(event: &Event) -> bool {
    matches!(event, Event::Finished { .. } | Event::Failed { .. } | Event::Refused { .. })
}

fn drain(engine: &mut Engine<Fake>, events: &mut Vec<Event>) {
    for _ in 0..10_000 {
        if !engine.has_work() {
            return;
        }
        engine.step(events);
        engine.check_invariants();
    }
    panic!("the engine starves a request");
}

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
fn a_cancelled_request_stops_before_the_next_step() {
    let mut engine = engine_with(config(8));
    let mut events = Vec::new();
    // A prompt whose answer is long enough to be cut.
    let start = (1..VOCABULARY).find(|first| expected(&[TokenId(*first)], 20).0.len() > 5).unwrap();
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
    let start = (1..VOCABULARY).find(|first| expected(&[TokenId(*first)], 30).0.len() > 20).unwrap();
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
fn a_failed_prompt_does_not_take_the_decoding_along() {
    let start = (1..VOCABULARY).find(|first| expected(&[TokenId(*first)], 20).0.len() == 20).unwrap();
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

#[test]
fn a_long_prompt_does_not_stop_the_others() {
    let mut engine = engine_with(config(4));
    let mut events = Vec::new();
    let start = (1..VOCABULARY).find(|first| expected(&[TokenId(*first)], 20).0.len() > 8).unwrap();
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
fn whoever_asks_a_lot_waits_behind_whoever_asks_a_little() {
    let mut engine = engine_with(config(16));
    let mut events = Vec::new();
    let start = (1..VOCABULARY).find(|first| expected(&[TokenId(*first)], 12).0.len() == 12).unwrap();
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
    let start = (1..VOCABULARY).find(|first| expected(&[TokenId(*first)], 30).0.len() == 30).unwrap();
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
    let start = (1..VOCABULARY).find(|first| expected(&[TokenId(*first)], 12).0.len() == 12).unwrap();
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
    let start = (1..VOCABULARY).find(|first| expected(&[TokenId(*first)], 60).0.len() == 60).unwrap();
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

#[test]
fn a_chunk_of_prompt_takes_the_time_it_may() {
    let faults = Faults { step_us: 1, ..Faults::default() };
    let limits = Limits { cells: 4096, context: 4096, batch: 512, ..LIMITS };
    let mut engine = Engine::new(Fake::new(limits, faults), config(16));
    let start = (1..VOCABULARY).find(|first| expected(&[TokenId(*first)], 90).0.len() == 90).unwrap();
    let mut events = Vec::new();
    engine.submit(request(1, &[start], 90), &mut events);
    engine.step(&mut events);
    engine.submit(request(2, &[3; 2000], 5), &mut events);
    (0..4).for_each(|_| engine.step(&mut events));
    let batches = engine.into_backend().batches;
    let pieces: Vec<usize> = batches.into_iter().filter(|length| *length > 15).collect();
    // 10 µs a token: the first piece is a guess, then 1 ms has room for 99.
    assert_eq!(pieces, [16, 99, 99, 99]);
}

#[test]
fn where_even_the_shortest_piece_takes_long_it_is_cut_further() {
    let pieces = |piece_min| {
        let faults = Faults { step_us: 1, ..Faults::default() };
        let limits = Limits { cells: 8192, context: 8192, batch: 1024, piece_min, ..LIMITS };
        let mut engine = Engine::new(Fake::new(limits, faults), config(1024));
        let start = (1..VOCABULARY).find(|first| expected(&[TokenId(*first)], 90).0.len() == 90).unwrap();
        let mut events = Vec::new();
        engine.submit(request(1, &[start], 90), &mut events);
        engine.step(&mut events);
        engine.submit(request(2, &[3; 4000], 5), &mut events);
        (0..3).for_each(|_| engine.step(&mut events));
        let batches = engine.into_backend().batches;
        batches.into_iter().filter(|length| *length > 15).collect::<Vec<_>>()
    };
    // 10 µs a token: a chunk of 1 ms has room for 99, and 2 ms are bearable.
    assert_eq!(pieces(64), [1024, 99, 99]);
    assert_eq!(pieces(150), [1024, 150, 150]);
    assert_eq!(pieces(800), [1024, 199, 199]);
}

#[derive(Debug, Clone)]
enum Action {
    Submit { prompt: Vec<u32>, max_tokens: u32 },
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
    (steps(), steps(), any::<bool>(), cost).prop_map(|(fail_at, nan_at, never_truncates, step_us)| Faults {
        fail_at,
        nan_at,
        never_truncates,
        step_us,
        minds_pieces: false,
    })
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

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        2 => (prompt(), 1u32..24)
            .prop_map(|(prompt, max_tokens)| Action::Submit { prompt, max_tokens }),
        1 => (0u64..60).prop_map(Action::Cancel),
        4 => Just(Action::Step),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn every_request_ends_once_and_answers_as_if_it_were_alone(
        actions in proptest::collection::vec(action(), 1..120),
        faults in faults(),
        limits in limits(),
        chunk in 1u32..20,
    ) {
        let limits = Limits { drafts: !faults.never_truncates, ..limits };
        let mut engine = Engine::new(Fake::new(limits, faults), Config { queue: 6, ..config(chunk) });
        let (mut events, mut requests) = (Vec::new(), HashMap::new());
        for action in actions {
            match action {
                Action::Submit { prompt, max_tokens } => {
                    let id = requests.len() as u64;
                    let request = request(id, &prompt, max_tokens);
                    requests.insert(id, request.clone());
                    engine.submit(request, &mut events);
                }
                Action::Cancel(id) => engine.cancel(RequestId(id), &mut events),
                Action::Step => engine.step(&mut events),
            }
            engine.check_invariants();
        }
        drain(&mut engine, &mut events);
        for (id, request) in requests {
            let own: Vec<&Event> = events.iter().filter(|event| id_of(event).0 == id).collect();
            prop_assert_eq!(own.iter().filter(|event| is_last(event)).count(), 1);
            prop_assert!(is_last(own.last().unwrap()));
            let mut tokens = Vec::new();
            for event in &own {
                if let Event::Chunk { chunk, .. } = event {
                    tokens.extend_from_slice(&chunk.tokens);
                    prop_assert_eq!(chunk.completion_tokens as usize, tokens.len());
                }
            }
            let (wanted, wanted_reason) = expected(&request.prompt, request.max_tokens);
            prop_assert!(wanted.starts_with(&tokens));
            if let Event::Finished { reason, usage, .. } = own.last().unwrap() {
                prop_assert_eq!(usage.completion_tokens as usize, tokens.len());
                if *reason != FinishReason::Cancelled {
                    prop_assert_eq!(*reason, wanted_reason);
                    prop_assert_eq!(tokens, wanted);
                    prop_assert_eq!(usage.prompt_tokens as usize, request.prompt.len());
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
