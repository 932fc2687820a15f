//! Where backups go: a folder (a USB stick, a share), or an S3-compatible store.

mod folder;
mod s3;

use std::path::{Path, PathBuf};

pub use s3::S3Config;

use crate::error::BackupError;
use crate::name::Name;
use folder::Folder;
use s3::S3;

/// A place for backups.
#[derive(Debug, Clone)]
pub struct Target(Place);

#[derive(Debug, Clone)]
enum Place {
    Folder(Folder),
    S3(Box<S3>),
}

/// A backup in a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub name: Name,
    /// Its size.
    pub bytes: u64,
}

impl Target {
    /// A folder. With `other_disk` only while it is on another file system than the data directory: where a stick is not
    /// plugged in, its folder is one of the box's own disk.
    #[must_use]
    pub fn folder(path: PathBuf, other_disk: bool) -> Self {
        Self(Place::Folder(Folder { path, other_disk }))
    }

    /// An S3-compatible store.
    ///
    /// # Errors
    /// [`BackupError::Setting`] where it cannot be one.
    pub fn s3(config: S3Config) -> Result<Self, BackupError> {
        S3::new(config).map(|s3| Self(Place::S3(Box::new(s3))))
    }

    /// What it is, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.0 {
            Place::Folder(folder) => folder.path.display().to_string(),
            Place::S3(s3) => s3.describe(),
        }
    }

    /// The file to make a backup in, before it is [kept](Self::keep).
    ///
    /// # Errors
    /// When the folder is not there, or is on the same disk.
    pub fn stage(&self, data_dir: &Path, name: &Name) -> Result<PathBuf, BackupError> {
        match &self.0 {
            Place::Folder(folder) => folder.stage(data_dir, name),
            // Beside the data: it is removed when it has been sent.
            Place::S3(_) => folder::fresh(data_dir.join(".backup-upload.partial")),
        }
    }

    /// Keeps what was made there under its name. It is there whole, or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn keep(&self, staged: &Path, name: &Name) -> Result<(), BackupError> {
        match &self.0 {
            Place::Folder(folder) => folder.keep(staged, name),
            Place::S3(s3) => {
                let sent = s3.send(staged, name).await;
                let _ = std::fs::remove_file(staged);
                sent
            }
        }
    }

    /// The backups of all boxes, oldest first.
    ///
    /// # Errors
    /// When the place cannot be read.
    pub async fn list(&self) -> Result<Vec<Stored>, BackupError> {
        let mut stored = match &self.0 {
            Place::Folder(folder) => folder.list()?,
            Place::S3(s3) => s3.list().await?,
        };
        stored.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(stored)
    }

    /// Deletes one.
    ///
    /// # Errors
    /// When it cannot be deleted.
    pub async fn delete(&self, name: &Name) -> Result<(), BackupError> {
        match &self.0 {
            Place::Folder(folder) => folder.delete(name),
            Place::S3(s3) => s3.delete(name).await,
        }
    }

    /// A file to read one from: where it lies, or in `work`, where it is brought.
    ///
    /// # Errors
    /// [`BackupError::Unknown`], and when it cannot be brought.
    pub async fn bring(&self, name: &Name, work: &Path) -> Result<PathBuf, BackupError> {
        match &self.0 {
            Place::Folder(folder) => folder.find(name),
            Place::S3(s3) => s3.bring(name, work).await,
        }
    }
}
