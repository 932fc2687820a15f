//! What can go wrong with what is kept.

use std::path::PathBuf;

/// An operation that the store could not do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is full.
    #[error("the disk is full; free some space in the data directory")]
    DiskFull,
    /// The person keeps as much as they may.
    #[error("you keep {kept} of {allowed} bytes; delete files that you no longer need")]
    NoRoom {
        /// Bytes kept.
        kept: u64,
        /// Bytes that they may keep.
        allowed: u64,
    },
    /// The person keeps as many as they may.
    #[error("you keep {allowed} of these, and may not keep more; delete those that you no longer need")]
    TooMany {
        /// How many they may keep.
        allowed: u64,
    },
    /// The file cannot be made or written.
    #[error("cannot write to {path}; check that the directory exists and belongs to this user")]
    NotWritable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The thread has ended.
    #[error("the store is closed")]
    Closed,
    /// Anything else that `SQLite` says.
    #[error("the store's database failed")]
    Database(#[source] rusqlite::Error),
    /// The file itself is damaged.
    #[error("the file of what people keep is damaged: {0}")]
    Damaged(String),
    /// The file has a shape that this program does not know.
    #[error(
        "a newer version of allerac wrote what people keep; update allerac, or take it back by `allerac downgrade`"
    )]
    Newer,
    /// The same, and it does not say how it is taken back.
    #[error(
        "a newer version of allerac wrote what people keep and left no way back; update allerac, or restore a backup"
    )]
    NoWayBack,
    /// The schema could not be brought up to date.
    #[error("the store's schema cannot be migrated")]
    Migration(#[source] rusqlite_migration::Error),
}

impl From<rusqlite_migration::Error> for StoreError {
    fn from(error: rusqlite_migration::Error) -> Self {
        use rusqlite_migration::{Error, MigrationDefinitionError};
        match error {
            Error::MigrationDefinition(MigrationDefinitionError::DatabaseTooFarAhead) => Self::Newer,
            Error::MigrationDefinition(MigrationDefinitionError::DownNotDefined { .. }) => Self::NoWayBack,
            Error::RusqliteError { err, .. } => Self::from(err),
            other => Self::Migration(other),
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::DiskFull,
            _ => Self::Database(error),
        }
    }
}
