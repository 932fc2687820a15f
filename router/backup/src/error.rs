//! What can go wrong with a backup.

use std::path::PathBuf;

use allerac_ledger::LedgerError;
use allerac_objects::StoreError;

/// A backup that was not made, not read or not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file or folder cannot be read or written.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// To do what.
        what: &'static str,
        /// With which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not an age file.
    #[error("{0} is no backup; they are made by `allerac backup create`")]
    NotABackup(PathBuf),
    /// The passphrase or the identity does not open it.
    #[error("the backup does not open with this {0}; give the one that it was made with")]
    WrongKey(&'static str),
    /// It wants a passphrase and got an identity, or the other way round.
    #[error("the backup was made {0}")]
    OtherKey(&'static str),
    /// It is not whole.
    #[error("the backup is damaged: {0}; use another one")]
    Damaged(String),
    /// A newer program made it.
    #[error("the backup was made by a newer version ({0}); update allerac first")]
    Newer(String),
    /// An older program made it, and what it wrote is no longer known.
    #[error(
        "the backup has the format {0}, which is no longer read; restore it with the version that made it, then update"
    )]
    Older(u32),
    /// The data directory has something in it.
    #[error("{0} has data already; choose an empty --data-dir, or put the backup in its place with --replace")]
    HasData(PathBuf),
    /// A restore was begun and is not finished, or another backup is being made.
    #[error("another backup or restore is at work in {0}; wait until it has ended")]
    Busy(PathBuf),
    /// The folder is where it should not be.
    #[error("{0} is on the same disk as the data directory; is the other disk there? (`other_disk` in [backup])")]
    SameDisk(PathBuf),
    /// An S3 store refuses.
    #[error("the store {place} refused to {what}: {why}; check [backup.s3] and what its key may do")]
    Refused {
        /// Which.
        place: String,
        /// To do what.
        what: &'static str,
        /// Its status and words.
        why: String,
    },
    /// An S3 store is not there.
    #[error("cannot reach the store {place}: {why}; check [backup.s3] and the network")]
    Unreachable {
        /// Which.
        place: String,
        /// Why.
        why: String,
    },
    /// The setting cannot be.
    #[error("{0}")]
    Setting(String),
    /// No backup of this name there.
    #[error("there is no backup {name} in {place}; see `allerac backup list`")]
    Unknown {
        /// Which.
        name: String,
        /// Where.
        place: String,
    },
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// What people keep.
    #[error(transparent)]
    Objects(#[from] StoreError),
}

impl BackupError {
    /// An error with a file; to be given to `map_err`.
    pub(crate) fn io(what: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}
