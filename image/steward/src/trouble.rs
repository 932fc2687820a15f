//! Why the server does not run, from what the system knows of it.

use serde::{Deserialize, Serialize};

/// Below this nothing can be written that matters, in bytes.
const FREE_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// The server's exit code for what is wrong with the data directory (`allerac --help` lists them).
const EXIT_STORAGE: i32 = 5;

/// What the system knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The server runs.
    pub is_running: bool,
    /// With what it ended; nothing where a signal ended it.
    pub exit: Option<i32>,
    /// Room on the disk with what the box remembers; nothing where that cannot be found out.
    pub free_bytes: Option<u64>,
    /// That disk takes no more writes: its file system found itself damaged.
    pub is_read_only: bool,
    /// What the server said last, a line each.
    pub said: Vec<String>,
}

/// What is wrong, as far as it shows from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Nothing: it runs.
    None,
    /// No room is left.
    DiskFull,
    /// The disk takes no writes.
    NotWritable,
    /// A file that the box keeps its books or answers in.
    Damaged,
    /// It was ended by a signal, by the kernel or itself.
    Crashed,
    /// It says by itself why it does not start.
    Refused,
}

/// Why the server does not run, and what there is to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// What is wrong.
    pub cause: Cause,
    /// What the server said last.
    pub said: Vec<String>,
    /// The version of the image that runs; empty where it is none.
    pub version: String,
    /// A version to go back to.
    pub previous: Option<String>,
}

impl Cause {
    /// What these facts come to; the first that explains the others.
    #[must_use]
    pub fn of(facts: &Facts) -> Self {
        if facts.is_running {
            Self::None
        } else if facts.free_bytes.is_some_and(|free| free < FREE_BYTES_MIN) {
            Self::DiskFull
        } else if facts.is_read_only {
            Self::NotWritable
        } else if facts.said.iter().any(|line| line.starts_with("error: ") && line.contains("damaged")) {
            Self::Damaged
        } else {
            match facts.exit {
                Some(EXIT_STORAGE) => Self::NotWritable,
                Some(_) => Self::Refused,
                None => Self::Crashed,
            }
        }
    }

    /// What is wrong and what helps, for people. It says nothing that only the owner may know.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::None => "The server runs again. Reload this page.",
            Self::DiskFull => {
                "The disk of this box is full, so nothing can be noted any more. Start again; if that does not help, \
                 forget everything, or ask for help with the log."
            }
            Self::NotWritable => {
                "What this box remembers cannot be written. The disk may be failing, or was switched off while it was \
                 written. Switch the box off and on. If this page comes back, save the log and replace the disk."
            }
            Self::Damaged => {
                "A file in which this box keeps its books is damaged. Save the log. Then forget everything, and restore \
                 your last backup; or go back to the version before, if this began with an update."
            }
            Self::Crashed => {
                "The server of this box crashed several times. Start again. If this page comes back, save the log, and \
                 go back to the version before if there is one."
            }
            Self::Refused => {
                "The server of this box does not start; the log says why. If this began with an update, go back to the \
                 version before."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_explains_the_rest_is_the_cause() {
        let ended = Facts { exit: Some(1), free_bytes: Some(1 << 30), ..Facts::default() };
        let said = |line: &str| vec!["Starting allerac".to_owned(), line.to_owned()];
        let damaged = said("error: the ledger is damaged: file is not a database");
        for (facts, cause) in [
            (Facts { is_running: true, ..ended.clone() }, Cause::None),
            (ended.clone(), Cause::Refused),
            (Facts { exit: None, ..ended.clone() }, Cause::Crashed),
            (Facts { exit: Some(5), ..ended.clone() }, Cause::NotWritable),
            (Facts { is_read_only: true, exit: None, ..ended.clone() }, Cause::NotWritable),
            (Facts { said: damaged.clone(), ..ended.clone() }, Cause::Damaged),
            (Facts { said: damaged, free_bytes: Some(0), ..ended.clone() }, Cause::DiskFull),
            (Facts { free_bytes: None, ..ended.clone() }, Cause::Refused),
            // What somebody wrote elsewhere in a log is no diagnosis.
            (Facts { said: said("a model is damaged"), ..ended }, Cause::Refused),
        ] {
            assert_eq!(Cause::of(&facts), cause, "{facts:?}");
        }
    }
}
