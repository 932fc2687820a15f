//! What backups are called: by box and moment, so that a list is in order and a store can hold several boxes'.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const ENDING: &str = ".allerac-backup.age";
const MOMENT: &str = "%Y%m%dT%H%M%SZ";

/// The name of a backup.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// When it was made, to the second.
    pub made_at: Timestamp,
    /// Whose.
    pub of: String,
}

impl Name {
    /// Of a box, now.
    #[must_use]
    pub fn new(of: &str, now: Timestamp) -> Self {
        let made_at = Timestamp::from_second(now.as_second()).unwrap_or(now);
        Self { made_at, of: of.to_owned() }
    }

    /// Reads one; `None` where it is another file's.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (of, moment) = text.strip_suffix(ENDING)?.rsplit_once('-')?;
        let made_at = DateTime::strptime(MOMENT, moment).ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp();
        (!of.is_empty()).then(|| Self { made_at, of: of.to_owned() })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}{ENDING}", self.of, self.made_at.strftime(MOMENT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back() {
        let name = Name::new("my-box", "2026-11-21T21:30:00.9Z".parse().unwrap());
        assert_eq!(name.to_string(), "my-box-20261121T213000Z.allerac-backup.age");
        assert_eq!(Name::parse(&name.to_string()), Some(name));
        for other in [
            "",
            "x.age",
            "box.allerac-backup.age",
            "-20261121T213000Z.allerac-backup.age",
            "box-2026.allerac-backup.age",
        ] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }
}
