//! The code on the screen of the box: who reads it stands before the box.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rand::seq::IndexedRandom;
use subtle::ConstantTimeEq;

/// Letters and digits that nobody mistakes for each other: 8 of them are 39 bits.
const ALPHABET: &[u8] = b"23456789ABCDEFGHJKMNPQRSTVWXYZ";
const CODE_CHARS: usize = 8;
/// Tries in one window, from all browsers together. At this rate guessing takes 10,000 years.
const TRIES_MAX: usize = 10;
const TRIES_WINDOW: Duration = Duration::from_secs(60);

/// Checks the code.
#[derive(Debug)]
pub(super) struct Gate {
    code: String,
    tries: Mutex<VecDeque<Instant>>,
}

/// Whether a code opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    Wrong,
    /// Too many tries.
    Wait,
}

impl Gate {
    pub(super) fn new() -> Self {
        let mut random = rand::rng();
        let letter = || char::from(*ALPHABET.choose(&mut random).expect("it is not empty"));
        Self { code: std::iter::repeat_with(letter).take(CODE_CHARS).collect(), tries: Mutex::default() }
    }

    /// The code as people read it, `K7QF-3MTP`.
    pub(super) fn shown(&self) -> String {
        let (left, right) = self.code.split_at(CODE_CHARS / 2);
        format!("{left}-{right}")
    }

    /// Tries a code, however it is written.
    pub(super) fn check(&self, code: &str, now: Instant) -> Verdict {
        let mut tries = self.tries.lock().expect("nothing panics while it holds the tries");
        while tries.front().is_some_and(|first| now.duration_since(*first) >= TRIES_WINDOW) {
            tries.pop_front();
        }
        if tries.len() >= TRIES_MAX {
            return Verdict::Wait;
        }
        tries.push_back(now);
        let plain: String = code.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
        let is_right = bool::from(plain.to_ascii_uppercase().as_bytes().ct_eq(self.code.as_bytes()));
        if is_right { Verdict::Right } else { Verdict::Wrong }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_opens_however_it_is_written_and_guessing_is_slow() {
        let (gate, now) = (Gate::new(), Instant::now());
        assert_eq!(gate.check(&gate.shown().to_lowercase().replace('-', " "), now), Verdict::Right);
        for _ in 1..TRIES_MAX {
            assert_eq!(gate.check("AAAA-AAAA", now), Verdict::Wrong);
        }
        assert_eq!(gate.check(&gate.shown(), now + Duration::from_secs(59)), Verdict::Wait);
        assert_eq!(gate.check(&gate.shown(), now + TRIES_WINDOW), Verdict::Right);
        assert_ne!(Gate::new().shown(), gate.shown());
    }
}
