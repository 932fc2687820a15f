//! What changes the models that are here, besides fetching: to forget one, to give it another name, and to remove the
//! files that none needs any more.
//!
//! A model is gone when its record is. Its files may be in use by an engine, or wanted by a download that has not
//! written its record yet: so files go apart from records, and never while a model is being fetched.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::catalogue::Catalogue;
use crate::error::ModelsError;
use crate::record::Record;
use crate::store::{Installed, Store};

/// The longest name that a model is given, in characters.
const NAME_CHARS_MAX: usize = 128;

impl Store {
    /// When a model was last installed or removed; `None` where none ever was.
    #[must_use]
    pub fn changed(&self) -> Option<SystemTime> {
        fs::metadata(self.root().join("installed")).and_then(|metadata| metadata.modified()).ok()
    }

    /// Removes a model and leaves its files, for [`sweep`](Self::sweep). `false` where it was not installed.
    ///
    /// # Errors
    /// When the record cannot be removed.
    pub fn forget(&self, id: &str) -> Result<bool, ModelsError> {
        if self.get(id)?.is_none() {
            return Ok(false);
        }
        let record = self.record_path(id);
        fs::remove_file(&record).map_err(ModelsError::file("remove", &record))?;
        Ok(true)
    }

    /// Removes a model, and its files when no other model uses them. Removing what is not there is no error.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn remove(&self, id: &str) -> Result<(), ModelsError> {
        if self.forget(id)? {
            self.sweep(&HashSet::new())?;
        }
        Ok(())
    }

    /// Removes the files that belong to no model and are not `in_use`. `false` where a model is being fetched: then
    /// nothing was removed, and it is for later.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn sweep(&self, in_use: &HashSet<PathBuf>) -> Result<bool, ModelsError> {
        let blobs = self.root().join("blobs");
        if !blobs.exists() {
            return Ok(true);
        }
        let path = self.lock_path();
        let lock = File::create(&path).map_err(ModelsError::file("create", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(source)) => return Err(ModelsError::file("lock", &path)(source)),
        }
        let wanted = self.wanted()?;
        for entry in fs::read_dir(&blobs).map_err(ModelsError::file("read", &blobs))? {
            let path = entry.map_err(ModelsError::file("read", &blobs))?.path();
            if !wanted.contains(&path) && !in_use.contains(&path) {
                fs::remove_file(&path).map_err(ModelsError::file("remove", &path))?;
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let sha256 = name.trim_start_matches("sha256-");
                let _ = fs::remove_file(self.blocks_path(sha256));
                let _ = fs::remove_dir_all(self.split_path(sha256));
            }
        }
        Ok(true)
    }

    /// Removes what downloads left that nobody is at: parts of files, and lists of blocks of files that are gone. How much
    /// that was. What is removed is fetched anew when it is wanted.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn collect(&self) -> Result<Swept, ModelsError> {
        let mut swept = Swept::default();
        let partial = self.root().join("partial");
        for path in files_in(&partial)? {
            let stem = path.file_name().and_then(|name| name.to_str()?.split('.').next()).unwrap_or_default();
            let guard = partial.join(format!("{stem}.lock"));
            // Who fetches holds it; the guard itself stays, or two could hold one of the same name.
            let lock = File::create(&guard).map_err(ModelsError::file("create", &guard))?;
            if path != guard && lock.try_lock().is_ok() {
                swept.remove(&path)?;
            }
        }
        for path in files_in(&self.root().join("blocks"))? {
            let sha256 = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !self.blob_path(sha256).exists() {
                swept.remove(&path)?;
            }
        }
        Ok(swept)
    }

    /// The files that records name, also records of models that are not whole: somebody may mend them.
    fn wanted(&self) -> Result<HashSet<PathBuf>, ModelsError> {
        let directory = self.root().join("installed");
        let mut wanted = HashSet::new();
        for entry in fs::read_dir(&directory).map_err(ModelsError::file("read", &directory))? {
            let path = entry.map_err(ModelsError::file("read", &directory))?.path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            // Of a record that cannot be read nobody knows what it needs: then nothing goes.
            let record = Record::read(&path).map_err(|reason| ModelsError::Record { path: path.clone(), reason })?;
            wanted.insert(self.blob_path(&record.sha256));
            wanted.extend(record.parts.iter().map(|part| self.blob_path(&part.sha256)));
        }
        Ok(wanted)
    }

    /// Gives a model another name as well. What had that name as a copy is replaced.
    ///
    /// # Errors
    /// [`ModelsError::NotInstalled`], [`ModelsError::Name`] for what is no name, [`ModelsError::Taken`] for that of
    /// another model.
    pub fn copy(&self, from: &str, to: &str) -> Result<Installed, ModelsError> {
        check_name(to)?;
        if self.get(from)?.is_none() {
            return Err(ModelsError::NotInstalled(from.to_owned()));
        }
        let target = self.record_path(to);
        let is_original = || Record::read(&target).is_ok_and(|record| record.model.is_none());
        if from == to || Catalogue::builtin().get(to).is_some() || (target.exists() && is_original()) {
            return Err(ModelsError::Taken(to.to_owned()));
        }
        let source = self.record_path(from);
        let record = Record::read(&source).map_err(|reason| ModelsError::Record { path: source, reason })?;
        record.copied(from).write(&target)?;
        self.get(to)?.ok_or_else(|| ModelsError::NotInstalled(from.to_owned()))
    }

    /// Keeps files from being swept while a download has not written its record.
    pub(crate) fn keep_files(&self) -> Result<File, ModelsError> {
        let path = self.lock_path();
        let file = File::create(&path).map_err(ModelsError::file("create", &path))?;
        // A sweep takes milliseconds.
        file.lock_shared().map_err(ModelsError::file("lock", &path))?;
        Ok(file)
    }

    fn lock_path(&self) -> PathBuf {
        self.root().join("lock")
    }
}

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Files.
    pub files: u64,
    /// What they took on the disk.
    pub bytes: u64,
}

impl Swept {
    fn remove(&mut self, path: &Path) -> Result<(), ModelsError> {
        let took = fs::metadata(path).map_or(0, |metadata| metadata.blocks().saturating_mul(512));
        fs::remove_file(path).map_err(ModelsError::file("remove", path))?;
        (self.files, self.bytes) = (self.files + 1, self.bytes + took);
        Ok(())
    }
}

fn files_in(folder: &Path) -> Result<Vec<PathBuf>, ModelsError> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).map_err(ModelsError::file("read", folder))?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(ModelsError::file("read", folder))).collect()
}

/// A name becomes that of a file, and part of addresses.
pub(crate) fn check_name(name: &str) -> Result<(), ModelsError> {
    let fits = |character: char| character.is_ascii_alphanumeric() || ".-_:".contains(character);
    let begins = name.starts_with(|first: char| first.is_ascii_alphanumeric());
    if begins && name.len() <= NAME_CHARS_MAX && name.chars().all(fits) && Path::new(name).file_name().is_some() {
        Ok(())
    } else {
        Err(ModelsError::Name(name.chars().take(NAME_CHARS_MAX).collect()))
    }
}
