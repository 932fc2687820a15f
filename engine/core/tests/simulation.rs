//! Runs the engine over a fake backend: a seeded storm of arrivals, cancels and failures, with the
//! invariants checked after every step.

use std::collections::HashMap;

use allerac_engine_core::event::RefuseReason;
use allerac_engine_core::{
    Backend, BackendError, BatchToken, Config, Engine, Event, FinishReason, Generate, Limits, RequestId,
    SamplingParams, TokenId,
};
use proptest::prelude::*;

const VOCABULARY: u32 = 32;
const END: TokenId = TokenId(0);
const LIMITS: Limits = Limits { cells: 96, context: 64, sequences: 3, batch: 16, vocabulary: VOCABULARY };

/// A model whose next token is a hash of the whole sequence: any mistake in the KV changes the answer.
/// It checks that positions follow on and that the cells suffice.
struct Fake {
    sequences: HashMap<u32, Vec<TokenId>>,
    logits: Vec<Vec<f32>>,
    /// Fails the steps with these numbers.
    fail_at: Vec<usize>,
    /// Whether a part of a sequence can be removed.
    truncates: bool,
    steps: usize,
}

impl Fake {
    fn new(fail_at: Vec<usize>, truncates: bool) -> Self {
        Self { sequences: HashMap::new(), logits: Vec::new(), fail_at, truncates, steps: 0 }
    }

    /// The model: what follows these tokens.
    fn next(tokens: &[TokenId]) -> TokenId {
        let hash = tokens.iter().fold(7u32, |hash, token| hash.wrapping_mul(31).wrapping_add(token.0 + 1));
        TokenId((hash >> 3) % VOCABULARY)
    }
}

impl Backend for Fake {
    fn limits(&self) -> Limits {
        LIMITS
    }

    fn decode(&mut self, batch: &[BatchToken]) -> Result<(), BackendError> {
        self.steps += 1;
        assert!(batch.len() <= LIMITS.batch as usize);
        self.logits = vec![Vec::new(); batch.len()];
        for (index, token) in batch.iter().enumerate() {
            let sequence = self.sequences.entry(token.sequence).or_default();
            assert_eq!(sequence.len(), token.position as usize, "positions follow on");
            sequence.push(token.token);
            if token.wants_logits {
                self.logits[index] = vec![0.0; VOCABULARY as usize];
                self.logits[index][Self::next(sequence).0 as usize] = 1.0;
            }
        }
        let cells: usize = self.sequences.values().map(Vec::len).sum();
        assert!(cells <= LIMITS.cells as usize, "{cells} cells used");
        if self.fail_at.contains(&self.steps) { Err(BackendError::Failed(-1)) } else { Ok(()) }
    }

    fn logits(&self, index: usize) -> &[f32] {
        &self.logits[index]
    }

    fn clear(&mut self, sequence: u32) {
        self.sequences.remove(&sequence);
    }

    fn truncate(&mut self, sequence: u32, from: u32) -> bool {
        if self.truncates {
            self.sequences.get_mut(&sequence).expect("the sequence is known").truncate(from as usize);
        }
        self.truncates
    }

    fn token_bytes(&self, token: TokenId) -> Vec<u8> {
        vec![b'A' + u8::try_from(token.0).unwrap()]
    }

    fn is_end(&self, token: TokenId) -> bool {
        token == END
    }
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
        Event::Started { id, .. }
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
    let mut engine = Engine::new(Fake::new(vec![], true), Config { chunk: 4, queue: 1 });
    let mut events = Vec::new();
    engine.submit(request(1, &[5; 60], 5), &mut events);
    let reason = RefuseReason::TooLong { tokens: 65, context: 64 };
    assert_eq!(events, [Event::Refused { id: RequestId(1), reason }]);
}

#[test]
fn a_full_queue_refuses() {
    let mut engine = Engine::new(Fake::new(vec![], true), Config { chunk: 4, queue: 1 });
    let mut events = Vec::new();
    engine.submit(request(1, &[5], 5), &mut events);
    engine.submit(request(2, &[5], 5), &mut events);
    let reason = RefuseReason::QueueFull { waiting: 1 };
    assert_eq!(events, [Event::Refused { id: RequestId(2), reason }]);
}

#[test]
fn the_same_owner_gets_the_known_prefix_and_another_owner_does_not() {
    let mut engine = Engine::new(Fake::new(vec![], true), Config { chunk: 8, queue: 8 });
    let prompt = [9, 8, 7, 6, 5, 4];
    let cached = |engine: &mut Engine<Fake>, id| {
        let mut events = Vec::new();
        engine.submit(request(id, &prompt, 4), &mut events);
        drain(engine, &mut events);
        let Event::Started { cached_tokens, .. } = events[0] else { panic!("{events:?}") };
        cached_tokens
    };
    assert_eq!(cached(&mut engine, 2), 0);
    // All but the last token, which is computed again for its logits.
    assert_eq!(cached(&mut engine, 4), 5);
    assert_eq!(cached(&mut engine, 3), 0);
}

#[test]
fn a_cancelled_request_stops_before_the_next_step() {
    let mut engine = Engine::new(Fake::new(vec![], true), Config { chunk: 8, queue: 8 });
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

#[derive(Debug, Clone)]
enum Action {
    Submit { prompt: Vec<u32>, max_tokens: u32 },
    Cancel(u64),
    Step,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        2 => (proptest::collection::vec(1u32..4, 1..40), 1u32..24)
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
        fail_at in proptest::collection::vec(1usize..60, 0..2),
        truncates in any::<bool>(),
        chunk in 1u32..20,
    ) {
        let mut engine = Engine::new(Fake::new(fail_at, truncates), Config { chunk, queue: 6 });
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
}
