//! One answer's place in its grammar.

use std::fmt;
use std::time::Duration;

use allerac_engine_core::{Constraint, ConstraintError, TokenId, TokenMask};
use llguidance::Matcher;
use rustix::time::{ClockId, clock_gettime};

use crate::error::{NOTHING_FOLLOWS, without_dumps};
use crate::vocabulary::Vocabulary;

/// Tokens of forced text that are guessed at once; longer guesses are never computed together.
const FORCED_MAX: usize = 15;
/// CPU time that an answer may spend in its grammar beyond what each of its tokens adds. Ordinary grammars take
/// microseconds a token; one that is ambiguous enough takes seconds, which everybody else would wait for.
const TIME_AT_ONCE: Duration = Duration::from_millis(300);
/// CPU time that each token adds.
const TIME_PER_TOKEN: Duration = Duration::from_millis(5);

/// A [`Constraint`] by llguidance.
pub(crate) struct Position {
    matcher: Matcher,
    vocabulary: Vocabulary,
    /// The tokens that stand for text, and the control tokens that the grammar names.
    usable: TokenMask,
    /// These and the ones that end a turn.
    usable_or_end: TokenMask,
    /// What may come next, once it is known for this place.
    mask: Option<TokenMask>,
    /// Whether the matcher can go back, which looking ahead needs.
    looks_ahead: bool,
    /// CPU time left.
    time: Duration,
}

impl Position {
    /// At the beginning of the grammar that this matcher was made for.
    pub(crate) fn new(matcher: Matcher, vocabulary: Vocabulary, named: &TokenMask, looks_ahead: bool) -> Self {
        let (usable, usable_or_end) =
            (vocabulary.text.clone().union(named), vocabulary.text_or_end.clone().union(named));
        Self { matcher, vocabulary, usable, usable_or_end, mask: None, looks_ahead, time: TIME_AT_ONCE }
    }

    /// Whether a token ends a turn.
    pub(crate) fn ends(&self, token: TokenId) -> bool {
        self.vocabulary.ends.contains(&token)
    }

    /// Does something with the matcher, and fails once that took too long in all.
    fn spend<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, ConstraintError>) -> Result<T, ConstraintError> {
        let begun = cpu_time();
        let result = work(self);
        let spent = cpu_time().saturating_sub(begun);
        let left = self.time.checked_sub(spent);
        self.time = left.unwrap_or_default();
        if left.is_none() {
            return Err(ConstraintError("the grammar is too ambiguous to be followed in time".to_owned()));
        }
        result
    }

    /// What may come next here: tokens that stand for text, control tokens that a grammar of words names, and those
    /// that end a turn where the text may end. A client's grammar in Lark can name any token by its number.
    fn compute(&mut self) -> Result<TokenMask, ConstraintError> {
        let mask = self.matcher.compute_mask().map_err(|error| failed(&error))?;
        let accepts = self.matcher.is_accepting().map_err(|error| failed(&error))?;
        let usable = if accepts { &self.usable_or_end } else { &self.usable };
        let mask = TokenMask::from_words(mask.as_slice().to_vec()).intersection(usable);
        if mask.is_empty() { Err(ConstraintError(NOTHING_FOLLOWS.to_owned())) } else { Ok(mask) }
    }

    /// The longest of the allowed tokens, where all others are beginnings of it: whatever is chosen, its text
    /// comes next.
    fn only_text(&self, mask: &TokenMask) -> Option<TokenId> {
        let mut longest = None;
        for token in mask.iter() {
            let one = self.vocabulary.piece(token);
            let other = longest.map_or(&[][..], |longest| self.vocabulary.piece(longest));
            // An end of a turn or a control token is no text.
            if self.ends(token) || one.is_empty() || !(one.starts_with(other) || other.starts_with(one)) {
                return None;
            }
            longest = longest.filter(|_| other.len() >= one.len()).or(Some(token));
        }
        longest
    }

    /// The text that the grammar forces, and in how many tokens it was found; the matcher stands behind them.
    fn forced_text(&mut self) -> (Vec<u8>, usize) {
        let (mut text, mut tokens) = (Vec::new(), 0);
        while tokens < FORCED_MAX && !self.matcher.is_stopped() {
            let Ok(mask) = self.compute() else { break };
            let only = self.only_text(&mask);
            if tokens == 0 {
                self.mask = Some(mask);
            }
            let Some(token) = only else { break };
            if self.matcher.consume_token(token.0).is_err() {
                break;
            }
            text.extend_from_slice(self.vocabulary.piece(token));
            tokens += 1;
        }
        (text, tokens)
    }
}

impl Constraint for Position {
    fn allowed(&mut self) -> Result<&TokenMask, ConstraintError> {
        if self.mask.is_none() {
            self.mask = Some(self.spend(Self::compute)?);
        }
        Ok(self.mask.as_ref().expect("it was computed above"))
    }

    fn accept(&mut self, token: TokenId) -> Result<(), ConstraintError> {
        self.mask = None;
        self.time = (self.time + TIME_PER_TOKEN).min(TIME_AT_ONCE);
        self.spend(|position| position.matcher.consume_token(token.0).map_err(|error| failed(&error)))
    }

    fn is_complete(&self) -> bool {
        self.matcher.is_stopped() && self.matcher.stop_reason().is_ok()
    }

    fn forced(&mut self) -> Vec<TokenId> {
        if !self.looks_ahead {
            return Vec::new();
        }
        let text = self.spend(|position| {
            let (text, tokens) = position.forced_text();
            position.matcher.rollback(tokens).map_err(|error| failed(&error))?;
            Ok(text)
        });
        // What went wrong here goes wrong again where the next token is chosen, and is told there.
        let text = text.unwrap_or_default();
        let text = text.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        if text.is_empty() { Vec::new() } else { (self.vocabulary.tokenise)(text) }
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Position").field("stop_reason", &self.matcher.stop_reason()).finish_non_exhaustive()
    }
}

/// What this thread has computed so far.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("a thread's time is not negative")
}

fn failed(error: &impl ToString) -> ConstraintError {
    ConstraintError(without_dumps(&error.to_string()))
}
