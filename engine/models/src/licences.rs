//! Licences that ask to be accepted, and who did: `models/licences.toml`.

use std::fs;
use std::io::ErrorKind;

use serde::{Deserialize, Serialize};

use crate::catalogue::Entry;
use crate::error::ModelsError;
use crate::record::{now_s, write_whole};
use crate::store::Store;

/// The version of the format.
const VERSION: u32 = 1;
/// Licences that ask nothing of whoever only uses a model: free software's and free content's.
const FREE: [&str; 13] = [
    "Apache-2.0",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MPL-2.0",
    "GPL-3.0",
    "AGPL-3.0",
    "LGPL-3.0",
    "Unlicense",
    "CC0-1.0",
    "CC-BY-4.0",
    "CC-BY-SA-4.0",
];

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Licences {
    version: u32,
    #[serde(default)]
    accepted: Vec<Accepted>,
}

/// A licence that somebody accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// For which model: its id, or its repository.
    pub model: String,
    /// The licence's name.
    pub licence: String,
    /// Who did, as the program that asked knows them.
    pub by: String,
    /// When, in seconds since 1970.
    pub at: i64,
}

impl Entry {
    /// Whether its licence asks to be accepted before it is fetched.
    #[must_use]
    pub fn asks_to_be_accepted(&self) -> bool {
        !FREE.iter().any(|free| free.eq_ignore_ascii_case(&self.licence))
    }

    /// What its licence is accepted for: all quantisations of a model have the same.
    fn licensed_as(&self) -> &str {
        self.repository().unwrap_or(&self.id)
    }
}

impl Accepted {
    /// Whether it is for a model under the licence that it has now.
    #[must_use]
    pub fn is_of(&self, entry: &Entry) -> bool {
        self.model == entry.licensed_as() && self.licence == entry.licence
    }
}

impl Store {
    /// The licences that were accepted.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn accepted(&self) -> Result<Vec<Accepted>, ModelsError> {
        let path = self.root().join("licences.toml");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(ModelsError::file("read", &path)(error)),
        };
        let licences: Licences = toml::from_str(&text)
            .map_err(|error| ModelsError::Record { path: path.clone(), reason: error.to_string() })?;
        Ok(licences.accepted)
    }

    /// Notes that somebody accepted the licence of a model.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn accept(&self, entry: &Entry, by: &str) -> Result<(), ModelsError> {
        if self.has_accepted(entry)? {
            return Ok(());
        }
        fs::create_dir_all(self.root()).map_err(ModelsError::file("create", self.root()))?;
        let mut accepted = self.accepted()?;
        let (model, licence) = (entry.licensed_as().to_owned(), entry.licence.clone());
        accepted.push(Accepted { model, licence, by: by.to_owned(), at: now_s() });
        let text = toml::to_string(&Licences { version: VERSION, accepted });
        let text = text.map_err(|error| ModelsError::Catalogue(error.to_string()))?;
        write_whole(&self.root().join("licences.toml"), text)
    }

    /// Whether its licence asks for nothing, or was accepted.
    ///
    /// # Errors
    /// As [`accepted`](Self::accepted).
    pub fn has_accepted(&self, entry: &Entry) -> Result<bool, ModelsError> {
        Ok(!entry.asks_to_be_accepted() || self.accepted()?.iter().any(|one| one.is_of(entry)))
    }

    /// Refuses a model whose licence nobody has accepted.
    pub(crate) fn check_licence(&self, entry: &Entry) -> Result<(), ModelsError> {
        if self.has_accepted(entry)? {
            return Ok(());
        }
        let page = || entry.repository().map(|repository| self.downloads().hub.page(repository));
        Err(ModelsError::Licence {
            model: entry.name.clone(),
            licence: entry.licence.clone(),
            url: entry.licence_url.clone().or_else(page),
        })
    }
}
