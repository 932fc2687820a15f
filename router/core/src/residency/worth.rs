//! What a model in memory is worth: what loading it again would cost, times how likely it is to be wanted.

use std::time::Duration;

use super::terms::Moment;

/// After so long a use counts half: what a household asked in the morning says little about its evening.
const HALF_LIFE: Duration = Duration::from_secs(60 * 60);
/// How fast models load where none was loaded yet, in bytes a second: a slow NVMe disk.
const BYTES_A_SECOND: f64 = 500e6;
/// How much the last load says about the next: disks and caches change slowly.
const LAST_LOAD_SHARE: f64 = 0.5;

/// How much a model was used, the last uses counting most.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Heat {
    uses: f64,
    at: Moment,
}

impl Heat {
    /// Uses that count now.
    pub(crate) fn now(self, now: Moment) -> f64 {
        let halvings = now.saturating_sub(self.at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        self.uses * (-halvings).exp2()
    }

    /// One use more.
    pub(crate) fn used(&mut self, now: Moment) {
        *self = Self { uses: self.now(now) + 1.0, at: now };
    }
}

/// How fast models were loaded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LoadSpeed {
    bytes_a_second: f64,
    is_measured: bool,
}

impl Default for LoadSpeed {
    fn default() -> Self {
        Self { bytes_a_second: BYTES_A_SECOND, is_measured: false }
    }
}

impl LoadSpeed {
    /// A model of so many bytes took so long.
    pub(crate) fn note(&mut self, bytes: u64, took: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "no file has 2^52 bytes")]
        let speed = bytes as f64 / took.as_secs_f64().max(1e-3);
        let share = if self.is_measured { LAST_LOAD_SHARE } else { 1.0 };
        self.bytes_a_second += (speed - self.bytes_a_second) * share;
        self.is_measured = true;
    }

    /// How long a model of so many bytes is likely to take.
    pub(crate) fn time(self, bytes: u64) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "no file has 2^52 bytes")]
        let seconds = bytes as f64 / self.bytes_a_second.max(1.0);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_counts_half_after_an_hour() {
        let hour = |hours: u64| Duration::from_secs(3600 * hours);
        let mut heat = Heat::default();
        heat.used(hour(1));
        heat.used(hour(2));
        assert!((heat.now(hour(2)) - 1.5).abs() < 1e-9);
        assert!((heat.now(hour(4)) - 0.375).abs() < 1e-9);
        // A clock does not run backwards, and if it did nothing would explode.
        assert!((heat.now(hour(0)) - 1.5).abs() < 1e-9);
    }

    #[test]
    fn speed_follows_what_was_measured() {
        let mut speed = LoadSpeed::default();
        assert_eq!(speed.time(1_000_000_000), Duration::from_secs(2));
        speed.note(100, Duration::from_secs(1));
        assert_eq!(speed.time(200), Duration::from_secs(2));
        speed.note(300, Duration::from_secs(1));
        assert_eq!(speed.time(200), Duration::from_secs(1));
        speed.note(0, Duration::ZERO);
        assert_eq!(speed.time(100), Duration::from_secs(1));
    }
}
