//! What changes the models that are here, besides fetching: to forget one, to give it another name, and to remove the
//! files that none needs any more.
//!
//! A model is gone when its record is. Its files may be in use by an engine, or wanted by a download that has not
//! written its record yet: so files go apart from records, and never while a model is being fetched.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
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
            }
        }
        Ok(true)
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

/// A name becomes that of a file, and part of addresses.
fn check_name(name: &str) -> Result<(), ModelsError> {
    let fits = |character: char| character.is_ascii_alphanumeric() || ".-_:".contains(character);
    let begins = name.starts_with(|first: char| first.is_ascii_alphanumeric());
    if begins && name.len() <= NAME_CHARS_MAX && name.chars().all(fits) && Path::new(name).file_name().is_some() {
        Ok(())
    } else {
        Err(ModelsError::Name(name.chars().take(NAME_CHARS_MAX).collect()))
    }
}
