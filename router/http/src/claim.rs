//! Who may claim the box: whoever reads the one-time code on its console.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rand::seq::IndexedRandom;
use subtle::ConstantTimeEq;

/// Letters and digits that nobody mistakes for each other: 8 of them are 39 bits.
const ALPHABET: &[u8] = b"23456789ABCDEFGHJKMNPQRSTVWXYZ";
const CODE_CHARS: usize = 8;
/// Tries in one window, from all clients together. At this rate guessing takes 10,000 years.
const TRIES_MAX: usize = 10;
const TRIES_WINDOW: Duration = Duration::from_secs(60);

/// Checks the one-time code. Only the code's hash is kept.
#[derive(Debug)]
pub struct ClaimGate {
    hash: blake3::Hash,
    tries: Mutex<VecDeque<Instant>>,
}

/// Whether a code opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    Wrong,
    /// Too many tries; wait this long.
    Wait(Duration),
}

impl ClaimGate {
    /// A gate and the code that opens it, as `K7QF-3MTP`.
    #[must_use]
    pub fn new() -> (Self, String) {
        let mut random = rand::rng();
        let code: String =
            (0..CODE_CHARS).map(|_| char::from(*ALPHABET.choose(&mut random).expect("it is not empty"))).collect();
        let gate = Self { hash: blake3::hash(code.as_bytes()), tries: Mutex::default() };
        let (left, right) = code.split_at(CODE_CHARS / 2);
        (gate, format!("{left}-{right}"))
    }

    /// Tries a code, however it is written.
    pub(crate) fn try_code(&self, code: &str, now: Instant) -> Verdict {
        let mut tries = self.tries.lock().expect("no code panics while it holds the tries");
        while tries.front().is_some_and(|first| now.duration_since(*first) >= TRIES_WINDOW) {
            tries.pop_front();
        }
        if let Some(first) = tries.front().filter(|_| tries.len() >= TRIES_MAX) {
            return Verdict::Wait(TRIES_WINDOW - now.duration_since(*first));
        }
        tries.push_back(now);
        let plain: String = code.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
        let hash = blake3::hash(plain.to_ascii_uppercase().as_bytes());
        if bool::from(hash.as_bytes().ct_eq(self.hash.as_bytes())) { Verdict::Right } else { Verdict::Wrong }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_opens_however_it_is_written_and_guessing_is_slow() {
        let (gate, code) = ClaimGate::new();
        let now = Instant::now();
        assert_eq!(gate.try_code(&code.to_lowercase().replace('-', " "), now), Verdict::Right);
        for _ in 1..TRIES_MAX {
            assert_eq!(gate.try_code("AAAA-AAAA", now), Verdict::Wrong);
        }
        let later = now + Duration::from_secs(20);
        assert_eq!(gate.try_code(&code, later), Verdict::Wait(Duration::from_secs(40)));
        assert_eq!(gate.try_code(&code, now + TRIES_WINDOW), Verdict::Right);
    }
}
