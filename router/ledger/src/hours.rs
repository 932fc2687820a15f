//! When somebody may use the box: hours of days of the week, by the owner's clock on the wall.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Weekday;
use jiff::{ToSpan, Zoned};

/// Windows of one person or key.
const WINDOWS_MAX: usize = 32;
const DAY_MINUTES: u16 = 24 * 60;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const EVERY_DAY: u8 = 0b111_1111;

/// Hours of the week; without any it is always.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hours(Vec<Window>);

/// A part of some days. One that ends before it begins ends on the next day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    /// Monday is the lowest bit.
    days: u8,
    /// Minutes since midnight.
    from: u16,
    to: u16,
}

/// Text that tells no hours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` are no hours; write them like `mon-fri 07:00-20:00; sat,sun 09:00-21:30`")]
pub struct NoHours(String);

impl Hours {
    /// Whether they are always.
    #[must_use]
    pub fn is_always(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this moment is in them.
    #[must_use]
    pub fn contain(&self, now: &Zoned) -> bool {
        let (day, minute) = (day_bit(now.weekday()), minute_of_day(now));
        let yesterday = if day == 1 { 1 << 6 } else { day >> 1 };
        self.is_always()
            || self.0.iter().any(|window| {
                let Window { days, from, to } = *window;
                if from < to {
                    days & day != 0 && (from..to).contains(&minute)
                } else {
                    (days & day != 0 && minute >= from) || (days & yesterday != 0 && minute < to)
                }
            })
    }

    /// When they begin next, in seconds since 1970.
    #[must_use]
    pub fn begin_after(&self, now: &Zoned) -> Option<i64> {
        let begins = (0..=7_i64).filter_map(|days| now.date().checked_add(days.days()).ok()).flat_map(|date| {
            let today = day_bit(date.weekday());
            let windows = self.0.iter().filter(move |window| window.days & today != 0);
            windows.filter_map(move |window| {
                let [hour, minute] = [window.from / 60, window.from % 60].map(|part| i8::try_from(part).unwrap_or(0));
                date.at(hour, minute, 0, 0).to_zoned(now.time_zone().clone()).ok()
            })
        });
        begins.filter(|begin| begin > now).map(|begin| begin.timestamp().as_second()).min()
    }
}

fn day_bit(day: Weekday) -> u8 {
    1 << day.to_monday_zero_offset()
}

fn minute_of_day(now: &Zoned) -> u16 {
    u16::try_from(i32::from(now.hour()) * 60 + i32::from(now.minute())).unwrap_or(0)
}

impl FromStr for Hours {
    type Err = NoHours;

    fn from_str(text: &str) -> Result<Self, NoHours> {
        let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
        let windows: Option<Vec<Window>> = parts.map(window).collect();
        let no_hours = || NoHours(text.chars().filter(|c| !c.is_control()).take(100).collect());
        let windows = windows.filter(|windows| windows.len() <= WINDOWS_MAX).ok_or_else(no_hours)?;
        if windows.is_empty() && !text.trim().is_empty() { Err(no_hours()) } else { Ok(Self(windows)) }
    }
}

fn window(text: &str) -> Option<Window> {
    let (days, times) = match text.split_once(char::is_whitespace) {
        Some((days, times)) => (days_of(days)?, times.trim()),
        None => (EVERY_DAY, text),
    };
    let (from, to) = times.split_once('-')?;
    let (from, to) = (minutes(from)?, minutes(to)?);
    // What begins where it ends would be nothing or all day; nobody can tell.
    (from != to && from < DAY_MINUTES).then_some(Window { days, from, to })
}

fn days_of(text: &str) -> Option<u8> {
    let place = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name));
    let mut bits = 0;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (place(first)?, place(last)?);
        // From Friday to Monday goes over the end of the week.
        let length = (last + 7 - first) % 7;
        bits = (0..=length).fold(bits, |bits, step| bits | 1 << ((first + step) % 7));
    }
    Some(bits)
}

fn minutes(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| text.len() == 2 && !text.starts_with('+'));
    let (hour, minute) = (number(hour)?, number(minute)?);
    let total = hour * 60 + minute;
    (minute < 60 && total <= DAY_MINUTES).then_some(total)
}

impl fmt::Display for Hours {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Window { days, from, to }) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str("; ")?;
            }
            if *days != EVERY_DAY {
                let names = DAYS.iter().enumerate().filter(|(day, _)| days & (1 << day) != 0).map(|(_, name)| *name);
                write!(formatter, "{} ", names.collect::<Vec<_>>().join(","))?;
            }
            write!(formatter, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Zoned {
        text.parse().unwrap()
    }

    #[test]
    fn hours_are_those_of_the_wall_also_over_midnight_and_summer_time() {
        let hours: Hours = "mon-fri 07:00-20:00; sat,sun 09:00-21:30; fri-sat 22:00-01:00".parse().unwrap();
        // 2026-11-20 is a Friday.
        for (moment, inside) in [
            ("2026-11-20T07:00[Europe/Vienna]", true),
            ("2026-11-20T06:59[Europe/Vienna]", false),
            ("2026-11-20T20:00[Europe/Vienna]", false),
            ("2026-11-20T22:00[Europe/Vienna]", true),
            ("2026-11-21T00:59[Europe/Vienna]", true),
            ("2026-11-21T01:00[Europe/Vienna]", false),
            ("2026-11-22T00:30[Europe/Vienna]", true),
            ("2026-11-23T00:30[Europe/Vienna]", false),
        ] {
            assert_eq!(hours.contain(&at(moment)), inside, "{moment}");
        }
        // Summer time begins on 2026-03-29: 07:00 on the wall is an hour earlier by the sun.
        let seven: Hours = "07:00-08:00".parse().unwrap();
        let begins = |moment: &str| seven.begin_after(&at(moment)).unwrap();
        assert_eq!(
            begins("2026-03-28T12:00[Europe/Vienna]"),
            at("2026-03-29T07:00[Europe/Vienna]").timestamp().as_second()
        );
        assert_eq!(begins("2026-03-27T12:00[Europe/Vienna]") + 23 * 3600, begins("2026-03-28T12:00[Europe/Vienna]"));
        assert!(Hours::default().contain(&at("2026-11-20T03:00[UTC]")));
    }

    #[test]
    fn they_begin_next_on_the_right_day() {
        let hours: Hours = "mon 07:00-20:00".parse().unwrap();
        let next = hours.begin_after(&at("2026-11-23T07:00[UTC]")).unwrap();
        assert_eq!(next, at("2026-11-30T07:00[UTC]").timestamp().as_second());
        assert_eq!(Hours::default().begin_after(&at("2026-11-23T07:00[UTC]")), None);
    }

    #[test]
    fn text_that_is_none_is_refused_and_others_survive() {
        for bad in [";", "7-8", "07:00", "07:00-07:00", "24:00-08:00", "07:60-08:00", "25:00-26:00", "xyz 07:00-08:00"]
        {
            assert!(bad.parse::<Hours>().is_err(), "{bad}");
        }
        assert!(
            ["+7:00-08:00", "mon- 07:00-08:00", &"07:00-08:00;".repeat(33)].iter().all(|t| t.parse::<Hours>().is_err())
        );
        for (text, told) in
            [("", ""), ("sun-mon 22:00-06:00", "mon,sun 22:00-06:00"), ("MON-sun 00:00-24:00", "00:00-24:00")]
        {
            let hours: Hours = text.parse().unwrap();
            assert_eq!((hours.to_string().as_str(), told.parse()), (told, Ok(hours)));
        }
    }
}
