//! The files of installed models, by content.
//!
//! `models/blobs/sha256-HEX` are the files, `models/blocks/HEX` the digests of their blocks, `models/installed/ID.toml` say
//! which model each is, `models/split/HEX/` are links to the files of a model in several, and `models/orders/` says
//! what is to be fetched, and `models/partial/` holds what is still being fetched. `models/pins.toml` says what came from hubs,
//! `models/licences.toml` which licences were accepted. Whoever fetches holds `models/lock` together with others who do;
//! whoever removes files holds it alone.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::catalogue::ModelKind;
use crate::digest;
use crate::downloads::Downloads;
use crate::error::ModelsError;
use crate::record::{Origin, PartRecord, Record};
use crate::split;

/// An installed model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The name that clients use.
    pub id: String,
    /// The id in the catalogue: another one only where the model was given another name.
    pub model: String,
    /// What it is for.
    pub kind: ModelKind,
    /// Its file, or that of its weights; of a model to chat with that is in several files, the first of them.
    pub path: PathBuf,
    /// By which path its engine loads it: `path`, or a link whose name tells how many files follow.
    pub load_path: PathBuf,
    /// All files together, in bytes.
    pub size_bytes: u64,
    /// The digest of the file at `path`.
    pub sha256: String,
    /// Its other files.
    pub parts: Vec<Part>,
    /// Parameters.
    pub parameters: u64,
    /// When it was installed, in seconds since 1970.
    pub installed_at: i64,
    /// Where it came from, where that was a hub and the catalogue does not say it.
    pub origin: Option<Origin>,
    /// Its licence, where the catalogue does not say it.
    pub licence: Option<String>,
    /// The id of the model that it is an adapter of; `None` for models.
    pub base: Option<String>,
}

/// One of the other files of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name in the model.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its digest.
    pub sha256: String,
}

/// The models of one data directory. Nothing is made before something is installed.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    downloads: Downloads,
}

impl Installed {
    /// Where all files are, that of the weights first.
    #[must_use]
    pub fn paths(&self) -> Vec<&Path> {
        self.files().map(|(path, _)| path).collect()
    }

    /// All files, that of the weights first, each with its digest.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &str)> {
        let parts = self.parts.iter().map(|part| (part.path.as_path(), part.sha256.as_str()));
        std::iter::once((self.path.as_path(), self.sha256.as_str())).chain(parts)
    }
}

impl Store {
    /// The store of a data directory.
    #[must_use]
    pub fn open(data_dir: &Path) -> Self {
        Self { root: data_dir.join("models"), downloads: Downloads::default() }
    }

    /// The same store, which fetches like this.
    #[must_use]
    pub fn with(self, downloads: Downloads) -> Self {
        Self { downloads, ..self }
    }

    /// All installed models, by id. A record that cannot be read, or whose file is gone, is left out with
    /// a warning.
    ///
    /// # Errors
    /// When the directory is there but cannot be read.
    pub fn list(&self) -> Result<Vec<Installed>, ModelsError> {
        let directory = self.root.join("installed");
        if !directory.exists() {
            return Ok(Vec::new());
        }
        let entries = fs::read_dir(&directory).map_err(ModelsError::file("read", &directory))?;
        let mut models = Vec::new();
        for entry in entries {
            let path = entry.map_err(ModelsError::file("read", &directory))?.path();
            match self.read(&path) {
                Ok(model) => models.extend(model),
                Err(reason) => tracing::warn!("{} is left out: {reason}", path.display()),
            }
        }
        models.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(models)
    }

    /// An installed model by its id.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub fn get(&self, id: &str) -> Result<Option<Installed>, ModelsError> {
        Ok(self.list()?.into_iter().find(|model| model.id == id))
    }

    /// Reads all of a model's files and compares their digests.
    ///
    /// # Errors
    /// [`ModelsError::WrongDigest`] when the file is damaged; nothing is removed.
    pub fn verify(&self, model: &Installed) -> Result<(), ModelsError> {
        for (path, sha256) in model.files() {
            let found = digest::of_file(path).map_err(ModelsError::file("read", path))?;
            if found != sha256 {
                return Err(ModelsError::Damaged { path: path.to_owned(), id: model.id.clone() });
            }
        }
        Ok(())
    }

    fn read(&self, path: &Path) -> Result<Option<Installed>, String> {
        if path.extension().is_none_or(|extension| extension != "toml") {
            return Ok(None);
        }
        let record = Record::read(path)?;
        let id = path.file_stem().and_then(|stem| stem.to_str()).ok_or("its name is no id")?;
        let blob = self.blob_path(&record.sha256);
        let length = |path: &Path| match fs::metadata(path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) => Err(format!("{}: {error}", path.display())),
        };
        let mut size_bytes = length(&blob)?;
        let mut parts = Vec::new();
        for PartRecord { name, sha256 } in record.parts {
            let path = self.blob_path(&sha256);
            size_bytes += length(&path)?;
            parts.push(Part { name, path, sha256 });
        }
        let is_part = |part: &Part| split::PartName::parse(&part.name).is_some();
        let is_split = record.kind == ModelKind::Chat && !parts.is_empty() && parts.iter().all(is_part);
        let load_path = if is_split { self.lay_out(&record.sha256, &blob, &parts)? } else { blob.clone() };
        Ok(Some(Installed {
            id: id.to_owned(),
            model: record.model.unwrap_or_else(|| id.to_owned()),
            kind: record.kind,
            path: blob,
            load_path,
            size_bytes,
            sha256: record.sha256,
            parts,
            parameters: record.parameters,
            installed_at: record.installed_at,
            origin: record.origin,
            licence: record.licence,
            base: record.base,
        }))
    }

    /// Links the files of a model under names by which llama.cpp finds them all, where they are not yet.
    fn lay_out(&self, sha256: &str, first: &Path, parts: &[Part]) -> Result<PathBuf, String> {
        let folder = self.split_path(sha256);
        let links = split::laid_out(&folder, parts.len() + 1);
        let files = std::iter::once(first).chain(parts.iter().map(|part| part.path.as_path()));
        for (link, file) in links.iter().zip(files) {
            let name = file.file_name().unwrap_or_default();
            let target = Path::new("../../blobs").join(name);
            if fs::read_link(link).is_ok_and(|there| there == target) {
                continue;
            }
            // Others may do the same meanwhile, and an engine look: the name is never without a file.
            let made = fs::create_dir_all(&folder).and_then(|()| {
                let new = tempfile::Builder::new().prefix(".new-").make_in(&folder, |path| symlink(&target, path))?;
                new.into_temp_path().persist(link).map_err(|error| error.error)
            });
            made.map_err(|error| format!("{}: {error}", link.display()))?;
        }
        links.into_iter().next().ok_or_else(|| "it has no files".to_owned())
    }

    /// Where the files of a model lie under names that llama.cpp knows, by the digest of the first.
    pub(crate) fn split_path(&self, sha256: &str) -> PathBuf {
        self.root.join("split").join(sha256)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn blob_path(&self, sha256: &str) -> PathBuf {
        self.root.join("blobs").join(format!("sha256-{sha256}"))
    }

    pub(crate) fn downloads(&self) -> &Downloads {
        &self.downloads
    }

    /// Where the digests of a file's blocks are.
    pub(crate) fn blocks_path(&self, sha256: &str) -> PathBuf {
        self.root.join("blocks").join(sha256)
    }

    /// Where a file is kept while it is fetched.
    pub(crate) fn part_path(&self, sha256: &str) -> PathBuf {
        self.root.join("partial").join(format!("{sha256}.part"))
    }

    pub(crate) fn record_path(&self, id: &str) -> PathBuf {
        self.root.join("installed").join(format!("{id}.toml"))
    }
}
