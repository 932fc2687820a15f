//! Calendar days and months in the owner's time zone.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

/// A moment and the calendar day and month it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Seconds since 1970.
    pub(crate) seconds: i64,
    /// `2026-11-21`.
    pub(crate) day: String,
    /// `2026-11`.
    pub(crate) month: String,
    /// When the month began, in seconds since 1970.
    pub(crate) month_begins: i64,
    /// When the next month begins, in seconds since 1970.
    pub(crate) month_ends: i64,
    /// The month before.
    pub(crate) last_month: String,
}

impl Moment {
    pub(crate) fn at(timestamp: Timestamp, zone: &TimeZone) -> Self {
        let zoned: Zoned = timestamp.to_zoned(zone.clone());
        let first = zoned.date().first_of_month();
        let begin = |day: jiff::civil::Date| day.to_zoned(zone.clone()).map(|zoned| zoned.timestamp().as_second());
        Self {
            seconds: timestamp.as_second(),
            day: zoned.strftime("%Y-%m-%d").to_string(),
            month: zoned.strftime("%Y-%m").to_string(),
            month_begins: begin(first).unwrap_or(i64::MIN),
            month_ends: begin(first.saturating_add(1.month())).unwrap_or(i64::MAX),
            last_month: first.saturating_sub(1.month()).strftime("%Y-%m").to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_month_is_the_owners_and_survives_summer_time() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        // 23:30 UTC on 31 March is 01:30 on 1 April in Berlin, where summer time began two days before.
        let moment = Moment::at("2026-03-31T23:30:00Z".parse().unwrap(), &berlin);
        assert_eq!((moment.day.as_str(), moment.month.as_str()), ("2026-04-01", "2026-04"));
        let ends: Timestamp = "2026-04-30T22:00:00Z".parse().unwrap();
        assert_eq!(moment.month_ends, ends.as_second());
        let utc = Moment::at("2026-12-31T23:59:59Z".parse().unwrap(), &TimeZone::UTC);
        assert_eq!((moment.last_month.as_str(), utc.last_month.as_str()), ("2026-03", "2026-11"));
        let december: Timestamp = "2026-12-01T00:00:00Z".parse().unwrap();
        assert_eq!(utc.month_begins, december.as_second());
        let new_year: Timestamp = "2027-01-01T00:00:00Z".parse().unwrap();
        assert_eq!((utc.month.as_str(), utc.month_ends), ("2026-12", new_year.as_second()));
    }
}
