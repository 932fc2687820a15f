//! The repetition penalty over the last tokens of prompt and output.

use std::collections::{HashMap, VecDeque};

use crate::request::{Repetition, TokenId};

/// The tokens that came lately.
#[derive(Debug)]
pub(super) struct Recent {
    params: Repetition,
    /// In order, at most `params.last_tokens`.
    tokens: VecDeque<TokenId>,
    /// How often each of them is among `tokens`.
    counts: HashMap<TokenId, u32>,
}

impl Recent {
    /// `None` where the parameters ask for nothing.
    pub(super) fn new(params: Repetition, prompt: &[TokenId]) -> Option<Self> {
        #[allow(clippy::float_cmp, reason = "exactly 1 is off")]
        let is_off = params.penalty == 1.0 || params.last_tokens == 0;
        let from = prompt.len().saturating_sub(params.last_tokens as usize);
        (!is_off).then(|| {
            let mut recent = Self { params, tokens: VecDeque::new(), counts: HashMap::new() };
            prompt[from..].iter().for_each(|token| recent.push(*token));
            recent
        })
    }

    pub(super) fn push(&mut self, token: TokenId) {
        self.tokens.push_back(token);
        *self.counts.entry(token).or_default() += 1;
        if self.tokens.len() > self.params.last_tokens as usize {
            let oldest = self.tokens.pop_front().expect("one was just added");
            let count = self.counts.get_mut(&oldest).expect("every token here is counted");
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&oldest);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    pub(super) fn apply(&self, logits: &mut [f32]) {
        for token in self.counts.keys() {
            if let Some(logit) = logits.get_mut(token.0 as usize) {
                *logit = if *logit > 0.0 { *logit / self.params.penalty } else { *logit * self.params.penalty };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens(ids: &[u32]) -> Vec<TokenId> {
        ids.iter().copied().map(TokenId).collect()
    }

    #[test]
    fn what_came_lately_is_divided_or_multiplied_once() {
        let params = Repetition { penalty: 2.0, last_tokens: 3 };
        let mut recent = Recent::new(params, &tokens(&[0, 1, 2, 2])).unwrap();
        let mut logits = [4.0f32, 4.0, -4.0, 4.0, f32::NEG_INFINITY];
        recent.apply(&mut logits);
        assert_eq!(logits, [4.0, 2.0, -8.0, 4.0, f32::NEG_INFINITY]);
        // 2 2 4 are the last three now.
        recent.push(TokenId(4));
        recent.apply(&mut logits);
        assert_eq!(logits, [4.0, 2.0, -16.0, 4.0, f32::NEG_INFINITY]);
    }

    #[test]
    fn off_is_off() {
        assert!(Recent::new(Repetition { penalty: 1.0, last_tokens: 64 }, &tokens(&[1])).is_none());
        assert!(Recent::new(Repetition { penalty: 1.3, last_tokens: 0 }, &tokens(&[1])).is_none());
    }

    proptest! {
        #[test]
        fn the_window_is_the_last_tokens_of_prompt_and_output(
            prompt in proptest::collection::vec(0u32..9, 0..40), output in proptest::collection::vec(0u32..9, 0..40),
            last_tokens in prop_oneof![1u32..50, Just(u32::MAX)],
        ) {
            let mut recent = Recent::new(Repetition { penalty: 2.0, last_tokens }, &tokens(&prompt)).unwrap();
            output.iter().for_each(|token| recent.push(TokenId(*token)));
            let mut logits = [1.0f32; 9];
            recent.apply(&mut logits);
            let all: Vec<u32> = prompt.into_iter().chain(output).collect();
            let window = &all[all.len().saturating_sub(last_tokens as usize)..];
            for (token, logit) in (0..).zip(logits) {
                prop_assert_eq!(logit < 1.0, window.contains(&token));
            }
        }
    }
}
