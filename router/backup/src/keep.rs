//! Which backups are kept: the last ones, and of days, weeks and months before the last of each.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use crate::name::Name;

/// How many of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// The last ones, whenever they were made.
    pub last: u32,
    /// The last of a day, for so many days that have one.
    pub daily: u32,
    /// The last of a week.
    pub weekly: u32,
    /// The last of a month.
    pub monthly: u32,
}

impl Keep {
    /// Those that go, of all that one box has. The newest never goes.
    #[must_use]
    pub fn outdated(&self, names: &[Name], zone: &TimeZone) -> Vec<Name> {
        let mut newest_first: Vec<&Name> = names.iter().collect();
        newest_first.sort_by_key(|name| std::cmp::Reverse(name.made_at));
        let mut kept: BTreeSet<&Name> = newest_first.iter().take(self.last.max(1) as usize).copied().collect();
        let spans: [(u32, &str); 3] = [(self.daily, "%Y-%m-%d"), (self.weekly, "%G-%V"), (self.monthly, "%Y-%m")];
        for (count, format) in spans {
            let mut seen = BTreeSet::new();
            for name in &newest_first {
                if seen.len() >= count as usize {
                    break;
                }
                // The first one met is the last of its span.
                if seen.insert(name.made_at.to_zoned(zone.clone()).strftime(format).to_string()) {
                    kept.insert(name);
                }
            }
        }
        newest_first.into_iter().filter(|name| !kept.contains(name)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(moment: &str) -> Name {
        Name::new("box", moment.parse().unwrap())
    }

    fn left(keep: Keep, names: &[Name], zone: &TimeZone) -> Vec<String> {
        let outdated = keep.outdated(names, zone);
        let left = names.iter().filter(|name| !outdated.contains(name));
        left.map(|name| name.made_at.to_string()).collect()
    }

    #[test]
    fn the_last_and_those_of_days_weeks_and_months_stay() {
        // Every twelve hours over seventy days.
        let first: jiff::Timestamp = "2026-09-01T06:00:00Z".parse().unwrap();
        let hours = |count: i64| Name::new("box", first + jiff::SignedDuration::from_hours(12 * count));
        let names: Vec<Name> = (0..140).map(hours).collect();
        let keep = Keep { last: 3, daily: 3, weekly: 2, monthly: 3 };
        let expected = [
            "2026-09-30T18:00:00Z",
            "2026-10-31T18:00:00Z",
            "2026-11-07T18:00:00Z",
            "2026-11-08T18:00:00Z",
            "2026-11-09T06:00:00Z",
            "2026-11-09T18:00:00Z",
        ];
        let left_over = left(keep, &names, &TimeZone::UTC);
        assert_eq!(left_over, expected);
        // Nothing more goes the second time.
        let again: Vec<Name> = left_over.iter().map(|moment| name(moment)).collect();
        assert_eq!(keep.outdated(&again, &TimeZone::UTC), []);
    }

    #[test]
    fn days_are_the_owners_and_the_newest_always_stays() {
        let names = [name("2026-03-31T21:30:00Z"), name("2026-03-31T22:30:00Z")];
        let keep = Keep { last: 0, daily: 2, weekly: 0, monthly: 0 };
        assert_eq!(left(keep, &names, &TimeZone::UTC).len(), 1);
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        assert_eq!(left(keep, &names, &berlin).len(), 2, "there they are of two days");
        let nothing = Keep { last: 0, daily: 0, weekly: 0, monthly: 0 };
        assert_eq!(left(nothing, &names, &berlin), ["2026-03-31T22:30:00Z"]);
        assert_eq!(nothing.outdated(&[], &berlin), []);
    }
}
