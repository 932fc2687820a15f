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
const HITS_ASSUMED: [f64; 5] = [0.5, 0.95, 0.9, 0.9, 0.9];
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
    /// What the client expects.
    Predicted,
}

/// Where the last tokens stood before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where what followed then begins: in the prediction where that is the kind, and else in the tokens so far.
    from: usize,
    pub(crate) kind: Kind,
}

/// The guesses for one sequence, and how good they were.
#[derive(Debug)]
pub(crate) struct Drafter {
    /// The tokens so far.
    said: Runs,
    /// What the client expects, after the end of the prompt.
    expected: Vec<TokenId>,
    expected_runs: Runs,
    /// How likely a token of a guess is right, for each kind.
    hits: [f64; 5],
    /// Of which kind the last guess is.
    pub(crate) kind: Kind,
    /// Whether a model is at work on guesses for this sequence.
    pub(crate) has_model: bool,
    /// Tokens of the prediction that were right, and that were not.
    pub(crate) predicted: (u32, u32),
}

/// Where runs of tokens stand.
#[derive(Debug, Default)]
struct Runs {
    /// Where the token after each run of `AGREE` stands, the last time that the run came.
    follows: HashMap<[TokenId; AGREE], usize>,
    /// Tokens that were looked at: no run that ends at or after this place is known.
    seen: usize,
}

impl Runs {
    /// Learns the runs of `tokens`, but for one that ends with them.
    fn learn(&mut self, tokens: &[TokenId]) {
        for end in self.seen.max(AGREE)..tokens.len() {
            self.follows.insert(run(&tokens[end - AGREE..end]), end);
        }
        self.seen = tokens.len();
    }

    /// Where what follows the last tokens of `said` stands in `tokens`, and how many before it agree.
    fn find(&self, said: &[TokenId], tokens: &[TokenId]) -> Option<(usize, usize)> {
        let last = said.len().checked_sub(AGREE)?;
        let from = *self.follows.get(&run(&said[last..]))?;
        let backwards = tokens[..from].iter().rev().zip(said.iter().rev());
        Some((from, backwards.take(AGREE_COPY).take_while(|(then, now)| then == now).count()))
    }
}

impl Drafter {
    /// Guesses for the answer to `prompt`, of which `prediction` is expected.
    pub(crate) fn new(prompt: &[TokenId], prediction: &[TokenId]) -> Self {
        let mut expected = Vec::new();
        if !prediction.is_empty() {
            // So that the end of the prompt is followed by what is expected.
            expected.extend_from_slice(&prompt[prompt.len().saturating_sub(AGREE_COPY)..]);
            expected.extend_from_slice(prediction);
        }
        let mut expected_runs = Runs::default();
        expected_runs.learn(&expected);
        let (said, kind) = (Runs::default(), Kind::Lookup);
        Self { said, expected, expected_runs, hits: HITS_ASSUMED, kind, has_model: false, predicted: (0, 0) }
    }

    /// The probability that a token of a guess is right, as far as is known.
    pub(crate) fn hit(&self, kind: Kind) -> f64 {
        self.hits[kind as usize]
    }

    /// Where `tokens` ended like this before: in what is expected, or in themselves where more of them agree.
    pub(crate) fn find(&mut self, tokens: &[TokenId]) -> Option<Found> {
        self.said.learn(tokens);
        let said = self.said.find(tokens, tokens);
        let expected = self.expected_runs.find(tokens, &self.expected);
        let agree = |found: Option<(usize, usize)>| found.map_or(0, |(_, agree)| agree);
        if let Some((from, _)) = expected.filter(|(_, agree_expected)| *agree_expected >= agree(said)) {
            return Some(Found { from, kind: Kind::Predicted });
        }
        let (from, agree) = said?;
        Some(Found { from, kind: if agree == AGREE_COPY { Kind::Copy } else { Kind::Lookup } })
    }

    /// The guess of `length` tokens from there on. What is not there yet repeats what is; what is expected ends.
    pub(crate) fn guess(&self, tokens: &[TokenId], found: Found, length: u32) -> Vec<TokenId> {
        let length = length as usize;
        match found.kind {
            Kind::Predicted => self.expected[found.from..].iter().copied().take(length).collect(),
            _ => tokens[found.from..].iter().copied().cycle().take(length).collect(),
        }
    }

    /// Learns how many tokens of the last guess were right.
    pub(crate) fn note(&mut self, right: u32, length: u32) {
        if self.kind == Kind::Predicted {
            self.predicted.0 += right;
            self.predicted.1 += length - right;
        }
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
        let mut drafter = Drafter::new(&[], &[]);
        let mut tokens = ids(&[1, 2, 3, 4, 5, 9, 1, 2]);
        assert_eq!(drafter.find(&tokens), None);
        tokens.push(TokenId(3));
        assert_eq!(drafter.find(&tokens), Some(Found { from: 3, kind: Kind::Lookup }));
        let from = |from| Found { from, kind: Kind::Lookup };
        assert_eq!(drafter.guess(&tokens, from(3), 4), ids(&[4, 5, 9, 1]));
        tokens.extend(ids(&[7, 8, 1, 2, 3]));
        assert_eq!(drafter.find(&tokens), Some(Found { from: 9, kind: Kind::Lookup }));
        assert_eq!(drafter.find(&tokens), Some(Found { from: 9, kind: Kind::Lookup }));
        assert_eq!(drafter.guess(&tokens, from(9), 7), ids(&[7, 8, 1, 2, 3, 7, 8]));
        assert_eq!(Drafter::new(&[], &[]).find(&ids(&[1, 2])), None);
    }

    #[test]
    fn what_is_expected_is_guessed_from_the_first_token_on() {
        let prompt = ids(&[1, 2, 3, 4]);
        let mut drafter = Drafter::new(&prompt, &ids(&[50, 51, 52, 53, 54]));
        let found = drafter.find(&prompt).unwrap();
        assert_eq!(found.kind, Kind::Predicted);
        assert_eq!(drafter.guess(&prompt, found, 7), ids(&[50, 51, 52, 53, 54]));
        drafter.kind = Kind::Predicted;
        drafter.note(2, 5);
        assert_eq!(drafter.predicted, (2, 3));
        // The answer goes its own way, and comes back.
        let mut tokens = prompt;
        tokens.extend(ids(&[50, 51, 90, 91]));
        assert_eq!(drafter.find(&tokens), None);
        tokens.extend(ids(&[51, 52, 53]));
        let found = drafter.find(&tokens).unwrap();
        assert_eq!(drafter.guess(&tokens, found, 3), ids(&[54]));
    }

    #[test]
    fn a_run_is_not_its_own_continuation() {
        let mut drafter = Drafter::new(&[], &[]);
        assert_eq!(drafter.find(&ids(&[5, 5, 5])), None);
        assert_eq!(drafter.find(&ids(&[5, 5, 5, 5])), Some(Found { from: 3, kind: Kind::Lookup }));
    }

    #[test]
    fn what_agrees_for_long_is_trusted_more() {
        let mut drafter = Drafter::new(&[], &[]);
        let mut tokens: Vec<TokenId> = (0..20).map(TokenId).collect();
        tokens.extend(ids(&[90, 1, 2, 3]));
        assert_eq!(drafter.find(&tokens), Some(Found { from: 4, kind: Kind::Lookup }));
        assert!(drafter.hit(Kind::Lookup) < 0.6);
        tokens.extend(ids(&[4, 5, 6, 7, 8]));
        assert_eq!(drafter.find(&tokens), Some(Found { from: 9, kind: Kind::Copy }));
        assert!(drafter.hit(Kind::Copy) > 0.9);
    }

    #[test]
    fn the_hit_rate_follows_what_was_right_and_is_forgiving() {
        for (kind, forgiven) in [(Kind::Lookup, 0.45), (Kind::Copy, 0.85), (Kind::Model, 0.8)] {
            let mut drafter = Drafter::new(&[], &[]);
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
