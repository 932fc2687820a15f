//! What is written of an installed model: one small file, which is there whole or not at all.

use std::fs::{self, File};
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::catalogue::{Entry, ModelKind};
use crate::error::ModelsError;
use crate::hub::pins::KnownFile;

/// The version of [`Record`].
const VERSION: u32 = 1;

/// A model as it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    version: u32,
    #[serde(default, skip_serializing_if = "is_chat")]
    pub(crate) kind: ModelKind,
    pub(crate) sha256: String,
    pub(crate) parameters: u64,
    pub(crate) installed_at: i64,
    /// The id in the catalogue, of a model that has another one here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
    /// Of a model that no catalogue has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) licence: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) origin: Option<Origin>,
    /// The id of the model that it is an adapter of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) parts: Vec<PartRecord>,
}

/// Where the weights came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// `USER/NAME` at a hub.
    pub repository: String,
    /// The commit.
    pub revision: String,
    /// The path of the file.
    pub file: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartRecord {
    pub(crate) name: String,
    pub(crate) sha256: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's own signature")]
fn is_chat(kind: &ModelKind) -> bool {
    *kind == ModelKind::Chat
}

impl Record {
    /// Of a model that is installed now, whose files are these, that of the weights first.
    pub(crate) fn of(entry: &Entry, files: &[KnownFile]) -> Self {
        Self { base: entry.base.clone(), ..Self::own(entry.kind, files, entry.parameters) }
    }

    /// Of a model of these files that is installed now, and nothing else is known of.
    pub(crate) fn own(kind: ModelKind, files: &[KnownFile], parameters: u64) -> Self {
        let part =
            |KnownFile { name, sha256, .. }: &KnownFile| PartRecord { name: name.clone(), sha256: sha256.clone() };
        Self {
            version: VERSION,
            kind,
            sha256: files[0].sha256.clone(),
            parameters,
            installed_at: now_s(),
            model: None,
            origin: None,
            licence: None,
            base: None,
            parts: files[1..].iter().map(part).collect(),
        }
    }

    /// The same model by another name, from now on.
    pub(crate) fn copied(self, id: &str) -> Self {
        let model = self.model.clone().unwrap_or_else(|| id.to_owned());
        Self { model: Some(model), installed_at: now_s(), ..self }
    }

    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
        toml::from_str(&text).map_err(|error| error.to_string())
    }

    /// Writes it whole or not at all, also where the power fails.
    pub(crate) fn write(&self, path: &Path) -> Result<(), ModelsError> {
        write_whole(path, &toml::to_string(self).map_err(|error| ModelsError::Catalogue(error.to_string()))?)
    }
}

/// Writes a file whole or not at all, also where the power fails.
pub(crate) fn write_whole(path: &Path, content: impl AsRef<[u8]>) -> Result<(), ModelsError> {
    let unfinished = path.with_extension("new");
    fs::write(&unfinished, content).map_err(ModelsError::file("write", &unfinished))?;
    let synced = File::open(&unfinished).and_then(|file| file.sync_all());
    synced.map_err(ModelsError::file("write", &unfinished))?;
    fs::rename(&unfinished, path).map_err(ModelsError::file("create", path))?;
    path.parent().map_or(Ok(()), sync_directory)
}

pub(crate) fn now_s() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(now).unwrap_or(i64::MAX)
}

/// Makes a rename survive a power cut.
pub(crate) fn sync_directory(path: &Path) -> Result<(), ModelsError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(ModelsError::file("sync", path))
}
