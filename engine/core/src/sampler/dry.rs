//! DRY, "don't repeat yourself" (p-e-w, `text-generation-webui` pull request 5677), as llama.cpp does it.
//!
//! The last tokens are looked for further back; where the last `n` of them stand, the token that followed there
//! would make the repetition one longer, and loses `multiplier * base^(n - allowed_length)`. One search costs time
//! linear in the tokens looked at, whatever they are.

use std::collections::{HashMap, HashSet};

use super::breakers::Breakers;
use crate::request::{Dry, TokenId};

/// What was said so far, and what would repeat it.
#[derive(Debug)]
pub(super) struct Repeats {
    params: Dry,
    breakers: Breakers,
    /// Prompt and output, of the prompt only what may be looked at.
    tokens: Vec<TokenId>,
    /// Tokens since the last sequence breaker: no repetition is longer.
    unbroken: usize,
    /// Tokens of `tokens` that hold a whole sequence breaker. They are never penalised: every line ends alike.
    breaking: HashSet<TokenId>,
    /// How long the repetition is that each token would extend.
    extended: HashMap<TokenId, usize>,
    /// The working memory of one search.
    matches: Vec<usize>,
}

impl Repeats {
    /// `None` where the parameters ask for nothing. `bytes` gives the bytes of a token.
    pub(super) fn new(params: Dry, prompt: &[TokenId], bytes: impl Fn(TokenId) -> Vec<u8>) -> Option<Self> {
        if params.multiplier <= 0.0 || params.last_tokens == 0 {
            return None;
        }
        let from = prompt.len().saturating_sub(params.last_tokens as usize);
        let mut repeats = Self {
            breakers: Breakers::new(&params.sequence_breakers),
            params,
            tokens: Vec::new(),
            unbroken: 0,
            breaking: HashSet::new(),
            extended: HashMap::new(),
            matches: Vec::new(),
        };
        prompt[from..].iter().for_each(|token| repeats.push(*token, &bytes(*token)));
        Some(repeats)
    }

    pub(super) fn push(&mut self, token: TokenId, bytes: &[u8]) {
        self.tokens.push(token);
        if self.breakers.push(bytes) {
            self.unbroken = 0;
            if self.breakers.are_in(bytes) {
                self.breaking.insert(token);
            }
        } else {
            self.unbroken += 1;
        }
    }

    /// Finds the tokens that would extend a repetition; whether there are any.
    pub(super) fn find(&mut self) -> bool {
        self.extended.clear();
        let from = self.tokens.len().saturating_sub(self.params.last_tokens as usize);
        let recent = &self.tokens[from..];
        let allowed = self.params.allowed_length as usize;
        let longest = self.unbroken.min(recent.len());
        if recent.len() <= allowed || longest < allowed {
            return false;
        }
        matches_of_end(recent, &mut self.matches);
        for (back, length) in self.matches.iter().enumerate().skip(1) {
            let length = (*length).min(longest);
            let follower = recent[recent.len() - back];
            if length >= allowed && !self.breaking.contains(&follower) {
                let extended = self.extended.entry(follower).or_default();
                *extended = length.max(*extended);
            }
        }
        !self.extended.is_empty()
    }

    /// Makes what was found less likely.
    pub(super) fn apply(&self, logits: &mut [f32]) {
        for (token, length) in &self.extended {
            if let Some(logit) = logits.get_mut(token.0 as usize) {
                *logit -= self.penalty(*length);
            }
        }
    }

    /// Never infinite: it makes a token as unlikely as can be, and does not ban it.
    #[allow(clippy::cast_possible_truncation, reason = "it is bounded before")]
    fn penalty(&self, length: usize) -> f32 {
        let exponent = i32::try_from(length - self.params.allowed_length as usize).unwrap_or(i32::MAX);
        let penalty = f64::from(self.params.multiplier) * f64::from(self.params.base).powi(exponent);
        penalty.min(f64::from(f32::MAX)) as f32
    }
}

/// For each number of tokens `back`, how many of the last tokens also stand before the last `back` ones: the
/// Z-function of the reversed tokens (Gusfield, "Algorithms on Strings, Trees, and Sequences", 1997, section 1.3).
/// The first entry says nothing. Each comparison that holds moves `end` on, so there are at most twice as many
/// comparisons as tokens.
fn matches_of_end(tokens: &[TokenId], matches: &mut Vec<usize>) {
    let count = tokens.len();
    let reversed = |place: usize| tokens[count - 1 - place];
    matches.clear();
    matches.resize(count, 0);
    // Between `start` and `end` the reversed tokens are those at their beginning.
    let (mut start, mut end) = (0, 0);
    for back in 1..count {
        let mut length = if back < end { matches[back - start].min(end - back) } else { 0 };
        while back + length < count && reversed(length) == reversed(back + length) {
            length += 1;
        }
        matches[back] = length;
        if back + length > end {
            (start, end) = (back, back + length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn params(allowed_length: u32, last_tokens: u32) -> Dry {
        Dry { multiplier: 1.0, base: 2.0, allowed_length, last_tokens, sequence_breakers: vec!["\n".into()] }
    }

    /// Each character is a token, named by its place in the alphabet; a line break is token 31.
    fn repeats(params: Dry, text: &str) -> Repeats {
        let bytes = |token: TokenId| vec![if token.0 == 31 { b'\n' } else { b'a' + u8::try_from(token.0).unwrap() }];
        let tokens: Vec<TokenId> =
            text.bytes().map(|byte| TokenId(if byte == b'\n' { 31 } else { u32::from(byte - b'a') })).collect();
        // Half of it is a prompt.
        let (prompt, output) = tokens.split_at(tokens.len() / 2);
        let mut repeats = Repeats::new(params, prompt, bytes).unwrap();
        output.iter().for_each(|token| repeats.push(*token, &bytes(*token)));
        repeats
    }

    /// What each of the penalised tokens loses.
    fn penalties(params: Dry, text: &str) -> Vec<(char, f32)> {
        let mut repeats = repeats(params, text);
        let mut logits = [0.0; 32];
        if repeats.find() {
            repeats.apply(&mut logits);
        }
        let letter = |token: usize| if token == 31 { '\n' } else { char::from(b'a' + u8::try_from(token).unwrap()) };
        (0..32).filter(|token| logits[*token] != 0.0).map(|token| (letter(token), -logits[token])).collect()
    }

    #[test]
    fn a_token_pays_for_the_longest_repetition_that_it_extends() {
        // The last `abc` stands at the beginning too, where c followed; `bc` before y, and `c` before b.
        let text = "abccbcyabc";
        assert_eq!(penalties(params(1, u32::MAX), text), [('b', 1.0), ('c', 4.0), ('y', 2.0)]);
        assert_eq!(penalties(params(2, u32::MAX), text), [('c', 2.0), ('y', 1.0)]);
        assert_eq!(penalties(params(3, u32::MAX), text), [('c', 1.0)]);
        assert_eq!(penalties(params(4, u32::MAX), text), []);
        // Only `bcyabc` is looked at.
        assert_eq!(penalties(params(1, 6), text), [('y', 2.0)]);
    }

    #[test]
    fn a_repetition_may_overlap_itself() {
        assert_eq!(penalties(params(2, u32::MAX), "aaaaaa"), [('a', 8.0)]);
        assert_eq!(penalties(params(2, u32::MAX), "ababab"), [('a', 4.0)]);
    }

    #[test]
    fn no_repetition_reaches_across_a_breaker() {
        assert_eq!(penalties(params(1, u32::MAX), "xabcy\nxabc"), [('y', 8.0)]);
        assert_eq!(penalties(params(1, u32::MAX), "xabcyxa\nbc"), [('y', 2.0)]);
        assert_eq!(penalties(params(1, u32::MAX), "abc\nabc"), [], "a breaker itself is never penalised");
        assert_eq!(penalties(params(1, u32::MAX), "abcyabc\n"), []);
    }

    #[test]
    fn with_nothing_allowed_every_token_that_came_pays() {
        assert_eq!(penalties(params(0, u32::MAX), "abcd"), [('b', 1.0), ('c', 1.0), ('d', 1.0)]);
    }

    #[test]
    fn a_penalty_is_never_infinite() {
        let long = "a".repeat(2000);
        assert_eq!(penalties(Dry { base: 100.0, ..params(2, u32::MAX) }, &long), [('a', f32::MAX)]);
    }

    #[test]
    fn off_is_off() {
        let of = |params: Dry| Repeats::new(params, &[], |_| Vec::new()).is_some();
        assert!(of(params(2, 64)));
        assert!(!of(params(2, 0)));
        assert!(!of(Dry { multiplier: 0.0, ..params(2, 64) }));
    }

    /// For each token the longest repetition that it would extend, found by comparing everything with everything.
    fn naive(text: &[u8], allowed: usize, last: usize) -> HashMap<u8, usize> {
        let text = &text[text.len().saturating_sub(last)..];
        let unbroken = text.iter().rev().take_while(|byte| **byte != b'\n').count();
        let mut longest = HashMap::new();
        for (place, follower) in text.iter().enumerate().skip(1).filter(|(_, byte)| **byte != b'\n') {
            let same = text[..place].iter().rev().zip(text.iter().rev()).take_while(|(a, b)| a == b).count();
            let length = same.min(unbroken);
            if length >= allowed {
                longest.entry(*follower).and_modify(|known: &mut usize| *known = length.max(*known)).or_insert(length);
            }
        }
        if text.len() <= allowed { HashMap::new() } else { longest }
    }

    proptest! {
        #[test]
        fn the_search_finds_what_comparing_everything_finds(
            text in "[ab\\n]{1,60}|[a-d]{1,90}|(abcab){1,12}a", allowed in 0u32..5,
            last in prop_oneof![1u32..100, Just(u32::MAX)],
        ) {
            let mut repeats = repeats(params(allowed, last), &text);
            let found = repeats.find();
            let expected = naive(text.as_bytes(), allowed as usize, last as usize);
            prop_assert_eq!(found, !expected.is_empty());
            let seen = repeats.extended.iter();
            let seen: HashMap<u8, usize> =
                seen.map(|(token, length)| (b'a' + u8::try_from(token.0).unwrap(), *length)).collect();
            prop_assert_eq!(seen, expected);
        }
    }
}
