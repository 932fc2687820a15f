//! How fast files are fetched, and when.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use tokio::time::Instant;

/// A line that was idle for long may not be flooded afterwards: at most so much is made up for.
const CREDIT_MAX: Duration = Duration::from_millis(250);
/// How much the last measurement counts in a rate, per second that it took.
const RATE_HALF_LIFE_S: f64 = 3.0;
/// A rate needs something to be measured over.
const RATE_AFTER: Duration = Duration::from_millis(300);

/// The hours of a day in which files are fetched, like `23:00-07:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    from: Time,
    until: Time,
}

/// Text that names no hours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` are no hours of the day; write them like 23:00-07:00")]
pub struct InvalidHours(String);

impl FromStr for Hours {
    type Err = InvalidHours;

    fn from_str(text: &str) -> Result<Self, InvalidHours> {
        let time = |text: &str| {
            let (hour, minute) = text.trim().split_once(':')?;
            let number = |text: &str| text.parse::<i8>().ok().filter(|_| text.len() == 2);
            Time::new(number(hour)?, number(minute)?, 0, 0).ok()
        };
        let both = text.split_once('-').and_then(|(from, until)| Some((time(from)?, time(until)?)));
        let (from, until) = both.filter(|(from, until)| from != until).ok_or_else(|| InvalidHours(text.to_owned()))?;
        Ok(Self { from, until })
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.from.strftime("%H:%M"), self.until.strftime("%H:%M"))
    }
}

impl Hours {
    /// How long it is until they begin; zero within them.
    #[must_use]
    pub fn begin_in(&self, now: &Zoned) -> Duration {
        let time = now.time();
        let within = if self.from < self.until {
            self.from <= time && time < self.until
        } else {
            time >= self.from || time < self.until
        };
        if within {
            return Duration::ZERO;
        }
        let today = now.with().time(self.from).build().ok();
        let next =
            today.filter(|begin| begin > now).or_else(|| now.tomorrow().ok()?.with().time(self.from).build().ok());
        next.and_then(|begin| Duration::try_from(begin.timestamp() - now.timestamp()).ok()).unwrap_or_default()
    }
}

/// The pace of all downloads together. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    bytes_per_second: Option<NonZeroU64>,
    hours: Option<(Hours, TimeZone)>,
    /// When the line is free again.
    free_at: Arc<Mutex<Option<Instant>>>,
}

impl Pace {
    /// At most so fast, and only within these hours of a time zone.
    #[must_use]
    pub fn new(bytes_per_second: Option<NonZeroU64>, hours: Option<(Hours, TimeZone)>) -> Self {
        Self { bytes_per_second, hours, free_at: Arc::default() }
    }

    /// The same, at any hour.
    #[must_use]
    pub fn now(&self) -> Self {
        Self { hours: None, ..self.clone() }
    }

    /// How long it is until something may be fetched.
    #[must_use]
    pub fn begins_in(&self) -> Duration {
        self.hours
            .as_ref()
            .map_or(Duration::ZERO, |(hours, zone)| hours.begin_in(&Timestamp::now().to_zoned(zone.clone())))
    }

    /// Waits until so many bytes, which have come, fit into the bandwidth.
    pub(crate) async fn spend(&self, bytes: u64) {
        let Some(rate) = self.bytes_per_second else { return };
        let cost = Duration::from_secs_f64(bytes as f64 / rate.get() as f64);
        let until = {
            let mut free_at = self.free_at.lock().expect("no code panics while it holds the pace");
            let now = Instant::now();
            let earliest = now.checked_sub(CREDIT_MAX).unwrap_or(now);
            let until = free_at.map_or(earliest, |at| at.max(earliest)) + cost;
            *free_at = Some(until);
            until
        };
        tokio::time::sleep_until(until).await;
    }
}

/// Measures how fast something goes, without what was there before it began.
#[derive(Debug)]
pub(crate) struct Meter {
    at: Instant,
    done: u64,
    rate: Option<f64>,
}

impl Meter {
    pub(crate) fn new(done: u64, now: Instant) -> Self {
        Self { at: now, done, rate: None }
    }

    /// Bytes a second, once that is known.
    pub(crate) fn at(&mut self, done: u64, now: Instant) -> Option<u64> {
        let elapsed = now - self.at;
        if elapsed >= RATE_AFTER {
            let seconds = elapsed.as_secs_f64();
            let latest = done.saturating_sub(self.done) as f64 / seconds;
            let weight = 1.0 - 0.5_f64.powf(seconds / RATE_HALF_LIFE_S);
            self.rate = Some(self.rate.map_or(latest, |rate| rate + (latest - rate) * weight));
            (self.at, self.done) = (now, done);
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is positive and finite")]
        self.rate.map(|rate| rate as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Zoned {
        text.parse().unwrap()
    }

    #[test]
    fn hours_may_go_over_midnight_and_over_changes_of_the_clock() {
        let night: Hours = "23:00-07:00".parse().unwrap();
        assert_eq!(night.to_string(), "23:00-07:00");
        let minutes = |text| night.begin_in(&at(text)).as_secs() / 60;
        assert_eq!(minutes("2026-11-21T23:00[Europe/Vienna]"), 0);
        assert_eq!(minutes("2026-11-21T06:59[Europe/Vienna]"), 0);
        assert_eq!(minutes("2026-11-21T07:00[Europe/Vienna]"), 16 * 60);
        assert_eq!(minutes("2026-11-21T22:59[Europe/Vienna]"), 1);
        let early: Hours = "04:00-06:00".parse().unwrap();
        // The night in which the clock goes forward has an hour less.
        let spring = at("2026-03-28T12:00[Europe/Vienna]");
        assert_eq!(early.begin_in(&spring), Duration::from_secs(15 * 3600));
        for bad in ["", "23-7", "23:00", "24:00-07:00", "7:00-8:00", "08:00-08:00", "08:00-09:60"] {
            assert_eq!(bad.parse::<Hours>(), Err(InvalidHours(bad.to_owned())), "{bad}");
        }
    }

    #[tokio::test]
    async fn all_who_fetch_share_one_line() {
        let pace = Pace::new(NonZeroU64::new(4_000_000), None);
        let begun = Instant::now();
        let one = |pace: Pace| async move {
            for _ in 0..20 {
                pace.spend(100_000).await;
            }
        };
        tokio::join!(one(pace.clone()), one(pace.clone()));
        // 4 MB at 4 MB/s, less what was credited.
        assert!(begun.elapsed() >= Duration::from_millis(750), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_rate_follows_what_comes_and_forgets_what_was_there() {
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        let mut meter = Meter::new(900, begun);
        assert_eq!(meter.at(900, begun), None);
        assert_eq!(meter.at(1900, after(1)), Some(1000));
        // Three seconds of nothing weigh half.
        assert_eq!(meter.at(1900, after(4)), Some(500));
    }
}
