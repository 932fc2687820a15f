//! Answers that are limited to a grammar.

use std::collections::HashMap;

use allerac_engine_core::{
    Config, Constraint, ConstraintError, Engine, Event, Failure, FinishReason, Job, RequestId, SamplingParams, TokenId,
    TokenMask,
};
use proptest::prelude::*;

use crate::fake::{END, Fake, Faults, LIMITS, VOCABULARY, config, drain, id_of, request};

/// A grammar made of numbers: what may come depends on everything that came.
#[derive(Debug, Clone)]
struct Rule {
    seed: u32,
    /// The answer is whole after so many tokens.
    whole_at: usize,
    /// It cannot go on after so many.
    breaks_at: usize,
}

impl Rule {
    fn allowed(&self, produced: &[TokenId]) -> Vec<TokenId> {
        let hash = produced.iter().fold(self.seed, |hash, token| hash.wrapping_mul(33).wrapping_add(token.0));
        let few = (0..VOCABULARY).filter(|token| (hash >> (token % 16)).wrapping_mul(token + 7) % 5 == 0);
        let mut allowed: Vec<TokenId> = few.map(TokenId).collect();
        if allowed.is_empty() {
            allowed.push(TokenId(hash % VOCABULARY));
        }
        allowed
    }

    /// What the fake model answers greedily within this grammar, computed without an engine.
    fn expected(&self, prompt: &[TokenId], max_tokens: u32) -> (Vec<TokenId>, Option<FinishReason>) {
        let mut tokens = prompt.to_vec();
        loop {
            let produced = tokens[prompt.len()..].to_vec();
            if produced.len() == self.whole_at && !produced.is_empty() {
                return (produced, Some(FinishReason::Stop));
            }
            if produced.len() == max_tokens as usize {
                return (produced, Some(FinishReason::Length));
            }
            if produced.len() == self.breaks_at {
                return (produced, None);
            }
            let (likely, allowed) = (Fake::next(&tokens), self.allowed(&produced));
            let next = if allowed.contains(&likely) { likely } else { allowed[0] };
            if next == END {
                return (produced, Some(FinishReason::Stop));
            }
            tokens.push(next);
        }
    }
}

/// A place in an answer. It panics when it is told of a token that is not allowed.
#[derive(Debug)]
struct Place {
    rule: Rule,
    produced: Vec<TokenId>,
    mask: TokenMask,
}

impl Constraint for Place {
    fn allowed(&mut self) -> Result<&TokenMask, ConstraintError> {
        if self.produced.len() == self.rule.breaks_at {
            return Err(ConstraintError("it breaks here".into()));
        }
        self.mask = self.rule.allowed(&self.produced).into_iter().collect();
        Ok(&self.mask)
    }

    fn accept(&mut self, token: TokenId) -> Result<(), ConstraintError> {
        assert!(self.rule.allowed(&self.produced).contains(&token), "an unconstrained token");
        self.produced.push(token);
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.produced.len() == self.rule.whole_at
    }

    /// Mostly right, and at times nonsense.
    fn forced(&mut self) -> Vec<TokenId> {
        let mut ahead = self.produced.clone();
        let length = ahead.len() % 5;
        for place in 0..length {
            let allowed = self.rule.allowed(&ahead);
            ahead.push(if place == 3 { TokenId(31) } else { allowed[0] });
        }
        ahead.split_off(self.produced.len())
    }
}

fn job(id: u64, prompt: &[u32], max_tokens: u32, rule: &Rule) -> Job {
    let place = Place { rule: rule.clone(), produced: Vec::new(), mask: TokenMask::default() };
    Job { request: request(id, prompt, max_tokens), constraint: Some(Box::new(place)) }
}

/// Tokens and end of a request, and how it failed.
fn outcome(events: &[Event], id: u64) -> (Vec<TokenId>, Option<FinishReason>, Option<Failure>) {
    let (mut tokens, mut reason, mut failed) = (Vec::new(), None, None);
    for event in events.iter().filter(|event| id_of(event).0 == id) {
        match event {
            Event::Chunk { chunk, .. } => tokens.extend_from_slice(&chunk.tokens),
            Event::Finished { reason: ended, .. } => reason = Some(*ended),
            Event::Failed { failure, .. } => failed = Some(failure.clone()),
            _ => {}
        }
    }
    (tokens, reason, failed)
}

fn rule() -> impl Strategy<Value = Rule> {
    (any::<u32>(), prop_oneof![Just(usize::MAX), 1usize..20], prop_oneof![4 => Just(usize::MAX), 1 => 0usize..20])
        .prop_map(|(seed, whole_at, breaks_at)| Rule { seed, whole_at, breaks_at })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_answer_leaves_its_grammar_whatever_is_guessed(
        rules in proptest::collection::vec((rule(), proptest::collection::vec(1u32..9, 1..12), 1u32..24), 1..7),
        speculate in any::<bool>(),
        step_us in prop_oneof![Just(0), 1u64..2000],
    ) {
        let faults = Faults { step_us, ..Faults::default() };
        let mut engine = Engine::new(Fake::new(LIMITS, faults), Config { speculate, ..config(8) });
        let (mut events, mut wanted) = (Vec::new(), HashMap::new());
        for (id, (rule, prompt, max_tokens)) in (0u64..).zip(&rules) {
            let tokens: Vec<TokenId> = prompt.iter().copied().map(TokenId).collect();
            wanted.insert(id, rule.expected(&tokens, *max_tokens));
            engine.submit(job(id, prompt, *max_tokens, rule), &mut events);
        }
        drain(&mut engine, &mut events);
        for (id, (tokens, reason)) in wanted {
            let failure = reason.is_none().then(|| Failure::Constraint("it breaks here".into()));
            prop_assert_eq!(outcome(&events, id), (tokens, reason, failure));
        }
    }

    #[test]
    fn filters_and_temperature_stay_within_the_grammar(
        rule in rule(), seed in any::<u64>(), top_k in 0u32..4, top_p in 0.1f32..1.0, min_p in 0.0f32..0.5,
    ) {
        let mut engine = Engine::new(Fake::new(LIMITS, Faults::default()), config(8));
        let mut events = Vec::new();
        let mut job = job(1, &[3, 4], 20, &rule);
        job.request.sampling = SamplingParams {
            temperature: 1.5, top_k, top_p, min_p, seed, presence_penalty: 1.0, frequency_penalty: 0.5,
            logit_bias: vec![(TokenId(5), 4.0)], ..SamplingParams::default()
        };
        job.request.top_logprobs = Some(2);
        engine.submit(job, &mut events);
        drain(&mut engine, &mut events);
        let (tokens, reason, failure) = outcome(&events, 1);
        prop_assert_eq!(reason.is_none(), failure.is_some());
        let logprobs = events.iter().map(|event| match event {
            Event::Chunk { chunk, .. } => chunk.logprobs.len(),
            _ => 0,
        });
        prop_assert_eq!(logprobs.sum::<usize>(), tokens.len());
    }
}

#[test]
fn a_whole_answer_ends_with_stop_even_at_its_last_token() {
    let rule = Rule { seed: 5, whole_at: 4, breaks_at: usize::MAX };
    let without_end = (0..).map(|seed| Rule { seed, ..rule.clone() });
    let rule = without_end.into_iter().find(|rule| rule.expected(&[TokenId(3)], 4).0.len() == 4).unwrap();
    let mut engine = Engine::new(Fake::new(LIMITS, Faults::default()), config(8));
    let mut events = Vec::new();
    engine.submit(job(1, &[3], 4, &rule), &mut events);
    engine.submit(job(2, &[3], 3, &rule), &mut events);
    drain(&mut engine, &mut events);
    assert_eq!(outcome(&events, 1).1, Some(FinishReason::Stop));
    assert_eq!(outcome(&events, 2).1, Some(FinishReason::Length));
}

#[test]
fn a_constrained_request_can_be_cancelled_in_the_queue_and_at_work() {
    let rule = Rule { seed: 5, whole_at: usize::MAX, breaks_at: usize::MAX };
    let mut engine = Engine::new(Fake::new(LIMITS, Faults::default()), config(8));
    let mut events = Vec::new();
    engine.submit(job(1, &[3], 20, &rule), &mut events);
    engine.cancel(RequestId(1), &mut events);
    engine.submit(job(2, &[3], 20, &rule), &mut events);
    engine.step(&mut events);
    engine.cancel(RequestId(2), &mut events);
    drain(&mut engine, &mut events);
    assert_eq!(outcome(&events, 1).1, Some(FinishReason::Cancelled));
    let ended = outcome(&events, 2).1;
    assert!(matches!(ended, Some(FinishReason::Cancelled | FinishReason::Stop)), "{ended:?}");
}
