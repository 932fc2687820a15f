//! How often somebody may try to sign in. Names and addresses come from strangers, so that there is no end of them: each
//! is one of a fixed number of buckets, and nobody can know which.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Buckets; two that try at once share one with a chance of 1 in this.
const BUCKETS: usize = 4096;

/// A number of tries at once, and one more after each interval: the generic cell rate algorithm (ITU-T I.371).
#[derive(Debug)]
pub(crate) struct Throttle {
    every: Duration,
    burst: u32,
    secret: [u8; 32],
    /// When each bucket will be empty.
    empty_at: Mutex<Vec<Instant>>,
}

impl Throttle {
    pub(crate) fn new(burst: u32, every: Duration) -> Self {
        Self { every, burst, secret: rand::random(), empty_at: Mutex::new(vec![Instant::now(); BUCKETS]) }
    }

    /// Counts a try; how long to wait where there were too many.
    pub(crate) fn enter(&self, who: &str, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.empty_at.lock().expect("no code panics while it holds the buckets");
        let empty_at = &mut buckets[self.bucket(who)];
        let next = (*empty_at).max(now) + self.every;
        let most = now + self.every * self.burst;
        if next > most {
            return Err(next - most);
        }
        *empty_at = next;
        Ok(())
    }

    /// Takes a try back: it was no guess.
    pub(crate) fn forgive(&self, who: &str) {
        let mut buckets = self.empty_at.lock().expect("no code panics while it holds the buckets");
        let empty_at = &mut buckets[self.bucket(who)];
        *empty_at = empty_at.checked_sub(self.every).unwrap_or(*empty_at);
    }

    fn bucket(&self, who: &str) -> usize {
        let hash = blake3::keyed_hash(&self.secret, who.to_lowercase().as_bytes());
        let [low, high, ..] = *hash.as_bytes();
        usize::from(u16::from_le_bytes([low, high])) % BUCKETS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_an_interval() {
        let throttle = Throttle::new(3, Duration::from_secs(10));
        let now = Instant::now();
        for _ in 0..3 {
            assert_eq!(throttle.enter("anna", now), Ok(()));
        }
        assert_eq!(throttle.enter("ANNA", now), Err(Duration::from_secs(10)));
        assert_eq!(throttle.enter("anna", now + Duration::from_secs(4)), Err(Duration::from_secs(6)));
        assert_eq!(throttle.enter("anna", now + Duration::from_secs(10)), Ok(()));
        throttle.forgive("anna");
        assert_eq!(throttle.enter("anna", now + Duration::from_secs(10)), Ok(()));
        assert!(throttle.enter("anna", now + Duration::from_secs(10)).is_err());
        // Others are not held up, but for one in thousands.
        assert!((0..100).filter(|n| throttle.enter(&format!("other {n}"), now).is_err()).count() <= 2);
    }
}
