//! What the tokens of an answer are limited to.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::request::TokenId;

/// What an answer must be, as a caller describes it. Plain text: what it means is known where it is compiled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grammar {
    /// A JSON value that this JSON schema accepts.
    JsonSchema(String),
    /// Text that this regular expression matches from its beginning to its end.
    Regex(String),
    /// One of these strings.
    Choice(Vec<String>),
    /// Text that the rule `root` of this grammar in llama.cpp's notation derives.
    Gbnf(String),
    /// Text that the rule `start` of this grammar in llguidance's variant of Lark derives.
    Lark(String),
    /// Text in a model's own words for what is no text. Each word is the model's control token of that name or,
    /// where it has none, just text. The grammar is as [`Lark`](Self::Lark); it may refer to the rules `word_0` (the
    /// first word), `until_0` (text up to the first word, with it) and so on, `text`
    /// (any, without the words) and the terminal `TEXT` (some).
    Words {
        /// The grammar.
        lark: String,
        /// The words.
        words: Vec<String>,
    },
}

/// A compiled [`Grammar`] and how far one answer has come in it.
pub trait Constraint: fmt::Debug + Send {
    /// The tokens that may come next, never none. A token that ends a turn is among them exactly where the answer
    /// may end.
    ///
    /// # Errors
    /// [`ConstraintError`]; the answer cannot go on.
    fn allowed(&mut self) -> Result<&TokenMask, ConstraintError>;

    /// Goes on by a token that is allowed and ends no turn.
    ///
    /// # Errors
    /// [`ConstraintError`]; the answer cannot go on.
    fn accept(&mut self, token: TokenId) -> Result<(), ConstraintError>;

    /// Whether the answer is whole and nothing can follow.
    fn is_complete(&self) -> bool;

    /// What is likely to come next because the grammar leaves no other text: a guess, as text has several
    /// tokenisations.
    fn forced(&mut self) -> Vec<TokenId>;
}

/// An answer that cannot go on within its grammar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConstraintError(pub String);

/// A set of tokens of one vocabulary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenMask {
    /// A bit for each token, the lowest of a word first.
    words: Vec<u32>,
}

impl TokenMask {
    /// The set whose tokens have their bit set: token `t` is bit `t % 32` of word `t / 32`.
    #[must_use]
    pub fn from_words(words: Vec<u32>) -> Self {
        Self { words }
    }

    /// Whether a token is in the set. Tokens beyond the words are not.
    #[must_use]
    pub fn contains(&self, token: TokenId) -> bool {
        let word = self.words.get(token.0 as usize / 32).copied().unwrap_or(0);
        word >> (token.0 % 32) & 1 == 1
    }

    /// Whether no token is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The tokens in the set, in their order.
    pub fn iter(&self) -> impl Iterator<Item = TokenId> {
        let words = (0u32..).zip(&self.words).filter(|(_, word)| **word != 0);
        words.flat_map(|(index, word)| {
            (0..32).filter(move |bit| word >> bit & 1 == 1).map(move |bit| TokenId(index * 32 + bit))
        })
    }

    /// The tokens of this set that are also in another.
    #[must_use]
    pub fn intersection(mut self, other: &Self) -> Self {
        let others = other.words.iter().copied().chain(std::iter::repeat(0));
        self.words.iter_mut().zip(others).for_each(|(word, other)| *word &= other);
        self
    }

    /// The tokens that are in this set or another.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        self.words.resize(self.words.len().max(other.words.len()), 0);
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word |= other);
        self
    }

    /// Makes `logits` those of `from` where a token is in the set and minus infinity elsewhere.
    pub(crate) fn apply(&self, from: &[f32], logits: &mut Vec<f32>) {
        logits.clear();
        let words = self.words.iter().copied().chain(std::iter::repeat(0));
        for (block, word) in from.chunks(32).zip(words) {
            match word {
                0 => logits.resize(logits.len() + block.len(), f32::NEG_INFINITY),
                u32::MAX => logits.extend_from_slice(block),
                _ => logits.extend(block.iter().enumerate().map(|(bit, logit)| {
                    let is_in = word >> bit & 1 == 1;
                    if is_in { *logit } else { f32::NEG_INFINITY }
                })),
            }
        }
    }
}

impl FromIterator<TokenId> for TokenMask {
    fn from_iter<T: IntoIterator<Item = TokenId>>(tokens: T) -> Self {
        let mut words = Vec::new();
        for token in tokens {
            let index = token.0 as usize / 32;
            if index >= words.len() {
                words.resize(index + 1, 0);
            }
            words[index] |= 1 << (token.0 % 32);
        }
        Self { words }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_mask_leaves_the_logits_of_its_tokens_and_no_others(
            length in 1usize..200, tokens in proptest::collection::vec(0u32..250, 0..200),
        ) {
            let mask: TokenMask = tokens.iter().copied().map(TokenId).collect();
            let mut sorted: Vec<u32> = tokens.clone();
            sorted.sort_unstable();
            sorted.dedup();
            prop_assert_eq!(mask.iter().map(|token| token.0).collect::<Vec<_>>(), sorted);
            prop_assert_eq!(mask.is_empty(), tokens.is_empty());
            prop_assert_eq!(&mask.clone().intersection(&mask), &mask);
            prop_assert_eq!(&TokenMask::default().union(&mask), &mask);
            prop_assert_eq!(&mask.clone().union(&TokenMask::default()), &mask);
            let from: Vec<f32> = (0u16..).take(length).map(f32::from).collect();
            let mut masked = vec![f32::NAN; 7];
            mask.apply(&from, &mut masked);
            prop_assert_eq!(masked.len(), length);
            for ((token, logit), plain) in (0u32..).zip(masked).zip(from) {
                let is_in = tokens.contains(&token);
                prop_assert_eq!(mask.contains(TokenId(token)), is_in);
                prop_assert_eq!(logit, if is_in { plain } else { f32::NEG_INFINITY });
            }
        }
    }
}
