//! Which version of the system runs, which others are there, and what became of them.

use std::fmt;
use std::fs;
use std::path::Path;

use allerac_steward::entries::{self, Entry};
use serde::Serialize;

use super::LAST_ERROR;
use crate::failure::{Exit, Failure};

/// Where this system begins.
const ROOT: &str = "/";

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct State {
    /// That runs.
    pub(super) version: String,
    /// What its owner should know of updates; nothing when all is as ever.
    notice: Option<String>,
    /// What the box can go back to.
    previous: Option<String>,
    entries: Vec<Entry>,
}

impl State {
    pub(super) fn look(run: &Path) -> Result<Self, Failure> {
        let version = allerac_steward::running(Path::new(ROOT)).ok_or_else(|| {
            Failure::new(Exit::NotFound, "this system was not made from Allerac's image")
                .hint("update it in the way that it was installed")
        })?;
        let error = fs::read_to_string(run.join(LAST_ERROR)).ok();
        Ok(Self::new(version, entries::all(Path::new(ROOT)), error.as_deref()))
    }

    fn new(version: String, entries: Vec<Entry>, last_error: Option<&str>) -> Self {
        let previous = entries::before(&version, &entries).map(|entry| entry.version.clone());
        let state = Self { version, notice: None, previous, entries };
        let version = &state.version;
        let notice = if let Some(failed) = state.others().find(|entry| entry.tries_left == Some(0)) {
            Some(format!("version {} did not work on this box; version {version} runs again", failed.version))
        } else if state.is_on_trial() {
            Some(format!("version {version} is new here and being tried"))
        } else if let Some(waiting) = state.waiting() {
            Some(format!("version {waiting} is installed; it starts with the next boot"))
        } else {
            last_error.map(str::to_owned)
        };
        Self { notice, ..state }
    }

    /// Whether what runs has not proven itself yet.
    pub(super) fn is_on_trial(&self) -> bool {
        self.entries.iter().any(|entry| entry.version == self.version && entry.tries_left.is_some())
    }

    /// The version that starts with the next boot, where that is another one.
    pub(super) fn waiting(&self) -> Option<&str> {
        self.others().find(|entry| entry.tries_left.is_some_and(|left| left > 0)).map(|entry| entry.version.as_str())
    }

    pub(super) fn has(&self, version: &str) -> bool {
        self.entries.iter().any(|entry| entry.version == version)
    }

    fn others(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.version != self.version)
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "version {} runs", self.version)?;
        match &self.notice {
            Some(notice) => write!(formatter, "\n{notice}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(version: &str, tries_left: Option<u32>) -> Entry {
        Entry::named(version, tries_left)
    }

    #[test]
    fn what_became_of_an_update_is_said() {
        for (entries, error, notice) in [
            (vec![entry("1", None)], None, None),
            (vec![entry("0", None), entry("1", None)], None, None),
            (
                vec![entry("1", None), entry("2", Some(3))],
                None,
                Some("version 2 is installed; it starts with the next boot"),
            ),
            (vec![entry("0", None), entry("1", Some(2))], None, Some("version 1 is new here and being tried")),
            (
                vec![entry("1", None), entry("2", Some(0))],
                Some("x"),
                Some("version 2 did not work on this box; version 1 runs again"),
            ),
            (vec![entry("1", None)], Some("the update did not come"), Some("the update did not come")),
        ] {
            assert_eq!(State::new("1".into(), entries.clone(), error).notice.as_deref(), notice, "{entries:?}");
        }
    }

    #[test]
    fn what_can_be_gone_back_to_is_what_proved_itself() {
        let previous = |entries| State::new("2".into(), entries, None).previous;
        assert_eq!(previous(vec![entry("1", None), entry("2", None)]).as_deref(), Some("1"));
        assert_eq!(previous(vec![entry("1", Some(0)), entry("2", None)]), None);
        assert_eq!(State::new("1".into(), Vec::new(), None).to_string(), "version 1 runs");
    }
}
