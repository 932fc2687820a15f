//! A smaller model that guesses for the fake one, well or badly.

use std::collections::HashMap;
use std::time::Duration;

use allerac_engine_core::{DRAFT_BACKLOG_MAX, Draft, TokenId};

use crate::fake::{Fake, VOCABULARY};

/// A smaller model and its costs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Drafting {
    /// Every so many guessed tokens one is wrong; with 1 all are.
    pub(crate) wrong_every: Option<u64>,
    /// What a guessed token costs.
    pub(crate) token_us: u64,
    /// What a token costs that it catches up with.
    pub(crate) catch_up_us: u64,
    /// The most tokens that it guesses at once.
    pub(crate) most: u32,
    /// The sequences that it follows are the first ones.
    pub(crate) lanes: u32,
    /// The first calls cost ten times as much.
    pub(crate) slow_calls: u64,
    /// The tokens of each sequence that are computed.
    pub(crate) known: HashMap<u32, Vec<TokenId>>,
    /// Sequences that it caught up with since the last step.
    pub(crate) caught_up: u32,
    pub(crate) calls: u64,
    pub(crate) guessed: u64,
}

impl Drafting {
    /// One that is always right.
    pub(crate) fn right(token_us: u64) -> Self {
        Self { token_us, catch_up_us: token_us / 10, most: 15, lanes: 9, ..Self::default() }
    }

    /// How many of the first tokens are computed; never the last, whose logits are to come.
    pub(crate) fn common(&self, sequence: u32, tokens: &[TokenId]) -> usize {
        let known = self.known.get(&sequence).map_or(&[][..], Vec::as_slice);
        let common = known.iter().zip(tokens).take_while(|(here, there)| here == there).count();
        common.min(tokens.len() - 1)
    }

    pub(crate) fn draft(&mut self, sequence: u32, tokens: &[TokenId], length: u32, room: u32) -> Draft {
        assert!(length > 0 && room > 0);
        self.calls += 1;
        let common = self.common(sequence, tokens);
        let known = self.known.entry(sequence).or_default();
        known.truncate(common);
        let backlog = tokens.len() - common;
        let slow = if self.calls <= self.slow_calls { 10 } else { 1 };
        if backlog > DRAFT_BACKLOG_MAX as usize {
            self.caught_up += 1;
            assert_eq!(self.caught_up, 1, "others wait for one sequence at most");
            let piece = (room as usize).min(backlog - 1);
            known.extend_from_slice(&tokens[common..common + piece]);
            let took = Duration::from_micros(slow * self.catch_up_us * piece as u64);
            return Draft { tokens: Vec::new(), computed: u32::try_from(piece).unwrap(), took };
        }
        known.extend_from_slice(&tokens[common..]);
        let mut guesses = Vec::new();
        for _ in 0..length.min(self.most) {
            self.guessed += 1;
            let next = Fake::next(known);
            let is_wrong = self.wrong_every.is_some_and(|every| self.guessed.is_multiple_of(every));
            let guess = if is_wrong { TokenId((next.0 + 1) % VOCABULARY) } else { next };
            guesses.push(guess);
            known.push(guess);
        }
        let took = Duration::from_micros(slow * self.token_us * guesses.len() as u64);
        Draft { tokens: guesses, computed: u32::try_from(backlog).unwrap(), took }
    }
}
