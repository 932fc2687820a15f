//! The code on the screen of the box: who reads it stands before the box.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rand::seq::IndexedRandom;
use subtle::ConstantTimeEq;

/// Letters and digits that nobody mistakes for each other: 8 of them are 39 bits.
const ALPHABET: &[u8] = b"23456789ABCDEFGHJKMNPQRSTVWXYZ";
const CODE_CHARS: usize = 8;
/// Tries in one window from one address: nobody's tries keep the owner out. Who has any number of addresses guesses as
/// fast as this page answers, some thousand times a second: that takes years.
const TRIES_MAX: usize = 10;
const TRIES_WINDOW: Duration = Duration::from_secs(60);
/// Tries that are remembered, from all addresses; beyond that, the oldest are forgotten early.
const REMEMBERED_MAX: usize = 16_384;

/// Checks the code.
#[derive(Debug)]
pub(super) struct Gate {
    code: String,
    tries: Mutex<VecDeque<(Instant, IpAddr)>>,
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

    /// Tries a code, however it is written, from an address.
    pub(super) fn check(&self, code: &str, peer: IpAddr, now: Instant) -> Verdict {
        let mut tries = self.tries.lock().expect("nothing panics while it holds the tries");
        while tries.front().is_some_and(|(first, _)| now.duration_since(*first) >= TRIES_WINDOW) {
            tries.pop_front();
        }
        if tries.iter().filter(|(_, tried)| *tried == peer).count() >= TRIES_MAX {
            return Verdict::Wait;
        }
        if tries.len() == REMEMBERED_MAX {
            tries.pop_front();
        }
        tries.push_back((now, peer));
        let plain: String = code.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
        let is_right = bool::from(plain.to_ascii_uppercase().as_bytes().ct_eq(self.code.as_bytes()));
        if is_right { Verdict::Right } else { Verdict::Wrong }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const PHONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 8));

    #[test]
    fn the_code_opens_however_it_is_written_and_guessing_is_slow() {
        let (gate, now) = (Gate::new(), Instant::now());
        assert_eq!(gate.check(&gate.shown().to_lowercase().replace('-', " "), PHONE, now), Verdict::Right);
        for _ in 1..TRIES_MAX {
            assert_eq!(gate.check("AAAA-AAAA", PHONE, now), Verdict::Wrong);
        }
        assert_eq!(gate.check(&gate.shown(), PHONE, now + Duration::from_secs(59)), Verdict::Wait);
        assert_eq!(gate.check(&gate.shown(), OTHER, now + Duration::from_secs(59)), Verdict::Right);
        assert_eq!(gate.check(&gate.shown(), PHONE, now + TRIES_WINDOW), Verdict::Right);
        assert_ne!(Gate::new().shown(), gate.shown());
    }
}
