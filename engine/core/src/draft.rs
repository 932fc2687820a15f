//! Guesses what comes next from what came before: where the last tokens stood earlier, in the prompt or in
//! the answer, the same tokens may follow again ("prompt lookup decoding", Saxena 2023). How good such guesses were,
//! and those of a smaller model ("speculative decoding", Leviathan et al. 2023).

use std::collections::HashMap;

use crate::request::TokenId;

/// Tokens that must agree before a guess is made.
const AGREE: usize = 3;
/// Tokens that agree where a text is being copied, and not by chance.
const AGREE_COPY: usize = 8;
/// How likely a token of a guess is right before any was made, for each kind. That of a model is taken to be good
/// enough to be tried.
const HITS_ASSUMED: [f64; 4] = [0.5, 0.95, 0.9, 0.9];
/// How many guesses ago still count.
const MEMORY: f64 = 24.0;
/// How fast disappointment fades while no guess is made, at each token that could have been guessed.
const FADE: f64 = 0.01;

/// What a guess was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Few tokens that agree.
    Lookup,
    /// Many tokens that agree.
    Copy,
    /// A smaller model.
    Model,
    /// A grammar that leaves no other text.
    Forced,
}

/// The guesses for one sequence, and how good they were.
#[derive(Debug)]
pub(crate) struct Drafter {
    /// Where the token after each run of `AGREE` stands, the last time that the run came.
    follows: HashMap<[TokenId; AGREE], usize>,
    /// Tokens that were looked at: no run that ends at or after this place is known.
    seen: usize,
    /// How likely a token of a guess is right, for each kind.
    hits: [f64; 4],
    /// Of which kind the last guess is.
    pub(crate) kind: Kind,
    /// Whether a model is at work on guesses for this sequence.
    pub(crate) has_model: bool,
}

impl Drafter {
    pub(crate) fn new() -> Self {
        Self { follows: HashMap::new(), seen: 0, hits: HITS_ASSUMED, kind: Kind::Lookup, has_model: false }
    }

    /// The probability that a token of a guess is right, as far as is known.
    pub(crate) fn hit(&self, kind: Kind) -> f64 {
        self.hits[kind as usize]
    }

    /// Where the continuation of `tokens` stands in them, if they ended like this before.
    pub(crate) fn find(&mut self, tokens: &[TokenId]) -> Option<(usize, Kind)> {
        let last = tokens.len().checked_sub(AGREE)?;
        for end in self.seen.max(AGREE)..tokens.len() {
            self.follows.insert(run(&tokens[end - AGREE..end]), end);
        }
        self.seen = tokens.len();
        let from = *self.follows.get(&run(&tokens[last..]))?;
        let backwards = tokens[..from].iter().rev().zip(tokens.iter().rev());
        let agree = backwards.take(AGREE_COPY).take_while(|(then, now)| then == now).count();
        Some((from, if agree == AGREE_COPY { Kind::Copy } else { Kind::Lookup }))
    }

    /// The guess of `length` tokens from this place on. What is not there yet repeats what is.
    pub(crate) fn guess(tokens: &[TokenId], from: usize, length: u32) -> Vec<TokenId> {
        tokens[from..].iter().copied().cycle().take(length as usize).collect()
    }

    /// Learns how many tokens of the last guess were right.
    pub(crate) fn note(&mut self, right: u32, length: u32) {
        let tried = right + u32::from(right < length);
        let weight = (f64::from(tried) / MEMORY).min(1.0);
        let hit = &mut self.hits[self.kind as usize];
        *hit += weight * (f64::from(right) / f64::from(tried) - *hit);
    }

    /// Learns nothing, as no guess of this kind was made; old ones fade.
    pub(crate) fn skip(&mut self, kind: Kind) {
        let hit = &mut self.hits[kind as usize];
        *hit += FADE * (HITS_ASSUMED[kind as usize] - *hit);
    }
}

fn run(tokens: &[TokenId]) -> [TokenId; AGREE] {
    tokens.try_into().expect("a run is as long as it is")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: &[u32]) -> Vec<TokenId> {
        numbers.iter().copied().map(TokenId).collect()
    }

    #[test]
    fn what_followed_last_time_is_guessed() {
        let mut drafter = Drafter::new();
        let mut tokens = ids(&[1, 2, 3, 4, 5, 9, 1, 2]);
        assert_eq!(drafter.find(&tokens), None);
        tokens.push(TokenId(3));
        assert_eq!(drafter.find(&tokens), Some((3, Kind::Lookup)));
        assert_eq!(Drafter::guess(&tokens, 3, 4), ids(&[4, 5, 9, 1]));
        tokens.extend(ids(&[7, 8, 1, 2, 3]));
        assert_eq!(drafter.find(&tokens), Some((9, Kind::Lookup)));
        assert_eq!(drafter.find(&tokens), Some((9, Kind::Lookup)));
        assert_eq!(Drafter::guess(&tokens, 9, 7), ids(&[7, 8, 1, 2, 3, 7, 8]));
        assert_eq!(Drafter::new().find(&ids(&[1, 2])), None);
    }

    #[test]
    fn a_run_is_not_its_own_continuation() {
        let mut drafter = Drafter::new();
        assert_eq!(drafter.find(&ids(&[5, 5, 5])), None);
        assert_eq!(drafter.find(&ids(&[5, 5, 5, 5])), Some((3, Kind::Lookup)));
    }

    #[test]
    fn what_agrees_for_long_is_trusted_more() {
        let mut drafter = Drafter::new();
        let mut tokens: Vec<TokenId> = (0..20).map(TokenId).collect();
        tokens.extend(ids(&[90, 1, 2, 3]));
        assert_eq!(drafter.find(&tokens), Some((4, Kind::Lookup)));
        assert!(drafter.hit(Kind::Lookup) < 0.6);
        tokens.extend(ids(&[4, 5, 6, 7, 8]));
        assert_eq!(drafter.find(&tokens), Some((9, Kind::Copy)));
        assert!(drafter.hit(Kind::Copy) > 0.9);
    }

    #[test]
    fn the_hit_rate_follows_what_was_right_and_is_forgiving() {
        for (kind, forgiven) in [(Kind::Lookup, 0.45), (Kind::Copy, 0.85), (Kind::Model, 0.8)] {
            let mut drafter = Drafter::new();
            drafter.kind = kind;
            for _ in 0..20 {
                drafter.note(7, 7);
            }
            assert!(drafter.hit(kind) > 0.95);
            for _ in 0..100 {
                drafter.note(0, 3);
            }
            assert!(drafter.hit(kind) < 0.05);
            for _ in 0..300 {
                drafter.skip(kind);
            }
            assert!(drafter.hit(kind) > forgiven);
        }
    }
}
