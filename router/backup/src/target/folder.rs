//! A folder.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Stored;
use crate::error::BackupError;
use crate::name::Name;

#[derive(Debug, Clone)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    pub(super) other_disk: bool,
}

impl Folder {
    pub(super) fn stage(&self, data_dir: &Path, name: &Name) -> Result<PathBuf, BackupError> {
        let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).map_err(BackupError::io("use", path));
        if device(&self.path)? == device(data_dir)? && self.other_disk {
            return Err(BackupError::SameDisk(self.path.clone()));
        }
        fresh(self.path.join(format!(".{name}.partial")))
    }

    pub(super) fn keep(&self, staged: &Path, name: &Name) -> Result<(), BackupError> {
        let path = self.path.join(name.to_string());
        fs::rename(staged, &path).map_err(BackupError::io("write", &path))?;
        File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(BackupError::io("write", &path))
    }

    pub(super) fn list(&self) -> Result<Vec<Stored>, BackupError> {
        let failed = || BackupError::io("read", &self.path);
        let mut stored = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let Some(name) = entry.file_name().to_str().and_then(Name::parse) else { continue };
            stored.push(Stored { name, bytes: entry.metadata().map_err(failed())?.len() });
        }
        Ok(stored)
    }

    pub(super) fn delete(&self, name: &Name) -> Result<(), BackupError> {
        let path = self.path.join(name.to_string());
        fs::remove_file(&path).map_err(BackupError::io("remove", &path))
    }

    pub(super) fn find(&self, name: &Name) -> Result<PathBuf, BackupError> {
        let path = self.path.join(name.to_string());
        if path.exists() {
            return Ok(path);
        }
        Err(BackupError::Unknown { name: name.to_string(), place: self.path.display().to_string() })
    }
}

/// A path where nothing is: what an earlier run left goes.
pub(super) fn fresh(path: PathBuf) -> Result<PathBuf, BackupError> {
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BackupError::io("remove", &path)(error)),
        _ => Ok(path),
    }
}
