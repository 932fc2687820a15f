//! The lock file of what came from hubs, `models/pins.toml`: which commit a revision was at when it was first fetched, and
//! the lengths and digests of its files. From then on the same files are fetched, whatever becomes of the revision.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::ModelsError;
use crate::record::write_whole;

/// The version of the format.
const VERSION: u32 = 1;

/// All pins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pins {
    version: u32,
    #[serde(rename = "pin", default)]
    pins: Vec<Pin>,
}

/// A revision of a repository, as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pin {
    pub(crate) repository: String,
    pub(crate) revision: String,
    pub(crate) commit: String,
    #[serde(rename = "file", default)]
    pub(crate) files: Vec<KnownFile>,
}

/// A file whose content is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KnownFile {
    /// Its path at the source.
    pub(crate) name: String,
    pub(crate) size_bytes: u64,
    pub(crate) sha256: String,
}

impl Pins {
    /// Reads the pins; there are none where the file is missing.
    pub(crate) fn read(path: &Path) -> Result<Self, ModelsError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Self { version: VERSION, pins: Vec::new() });
            }
            Err(error) => return Err(ModelsError::file("read", path)(error)),
        };
        let damaged = |reason: String| ModelsError::Record { path: path.to_owned(), reason };
        let pins: Self = toml::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        if pins.version == VERSION {
            Ok(pins)
        } else {
            Err(damaged(format!("version {} is not {VERSION}", pins.version)))
        }
    }

    /// What is pinned of a revision.
    pub(crate) fn get(&self, repository: &str, revision: &str) -> Option<&Pin> {
        self.pins.iter().find(|pin| pin.repository == repository && pin.revision == revision)
    }

    /// Adds files to the pin of a revision. What was pinned at another commit is replaced.
    pub(crate) fn add(path: &Path, pin: &Pin) -> Result<(), ModelsError> {
        Self::change(path, |pins| {
            let same = |other: &Pin| other.repository == pin.repository && other.revision == pin.revision;
            match pins.iter_mut().find(|other| same(other) && other.commit == pin.commit) {
                Some(there) => {
                    there.files.retain(|file| pin.files.iter().all(|new| new.name != file.name));
                    there.files.extend(pin.files.iter().cloned());
                }
                None => {
                    pins.retain(|other| !same(other));
                    pins.push(pin.clone());
                }
            }
        })
    }

    /// Forgets a revision, so that the next fetch takes what is there then.
    pub(crate) fn forget(path: &Path, repository: &str, revision: &str) -> Result<(), ModelsError> {
        Self::change(path, |pins| pins.retain(|pin| pin.repository != repository || pin.revision != revision))
    }

    /// One process at a time changes the file, so that none loses what another wrote.
    fn change(path: &Path, change: impl FnOnce(&mut Vec<Pin>)) -> Result<(), ModelsError> {
        let guard = path.with_extension("lock");
        let lock = File::create(&guard).map_err(ModelsError::file("create", &guard))?;
        lock.lock().map_err(ModelsError::file("lock", &guard))?;
        let mut pins = Self::read(path)?;
        change(&mut pins.pins);
        let text = toml::to_string(&pins).map_err(|error| ModelsError::Catalogue(error.to_string()))?;
        write_whole(path, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_fetched_first_stays_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pins.toml");
        let file = |name: &str, size_bytes| KnownFile { name: name.into(), size_bytes, sha256: "00".repeat(32) };
        let pin = |commit: &str, files| Pin {
            repository: "a/b".into(),
            revision: "main".into(),
            commit: commit.into(),
            files,
        };
        assert_eq!(Pins::read(&path).unwrap().get("a/b", "main"), None);
        Pins::add(&path, &pin("1", vec![file("x", 1)])).unwrap();
        Pins::add(&path, &pin("1", vec![file("y", 2)])).unwrap();
        assert_eq!(Pins::read(&path).unwrap().get("a/b", "main"), Some(&pin("1", vec![file("x", 1), file("y", 2)])));
        assert_eq!(Pins::read(&path).unwrap().get("a/b", "v2"), None);
        Pins::add(&path, &pin("2", vec![file("x", 3)])).unwrap();
        assert_eq!(Pins::read(&path).unwrap().get("a/b", "main"), Some(&pin("2", vec![file("x", 3)])));
        Pins::forget(&path, "a/b", "main").unwrap();
        assert_eq!(Pins::read(&path).unwrap().get("a/b", "main"), None);
        for bad in ["version = 2", "version = 1\nnonsense = 1", "\u{0}"] {
            fs::write(&path, bad).unwrap();
            assert!(matches!(Pins::read(&path), Err(ModelsError::Record { .. })), "{bad}");
        }
    }
}
