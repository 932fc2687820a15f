//! What a database says when it does not do what it is asked.

use tokio_postgres::error::SqlState;

/// Why a database did not do something.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// What `SQLite` says.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// What `PostgreSQL` says.
    #[error(transparent)]
    Postgres(#[from] tokio_postgres::Error),
    /// More is asked at once than it has connections for.
    #[error("too much is asked of it at once")]
    Crowded,
    /// A row was expected.
    #[error("no row was found")]
    NoRow,
    /// A column holds something else than was written there.
    #[error("column {column}: {reason}")]
    Column {
        /// Which, from 0.
        column: usize,
        /// What is wrong.
        reason: String,
    },
}

impl DatabaseError {
    /// There is no room for more.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            Self::Sqlite(error) => error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            Self::Postgres(error) => error.code() == Some(&SqlState::DISK_FULL),
            Self::Crowded | Self::NoRow | Self::Column { .. } => false,
        }
    }

    /// The file is none of a database, or not whole. A server of a database mends such things by itself, or its owner does.
    pub(crate) fn is_damaged(&self) -> bool {
        let Self::Sqlite(error) = self else { return false };
        let code = error.sqlite_error_code();
        matches!(code, Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase))
    }

    /// The server of the database is not there, or leaves.
    pub(crate) fn is_away(&self) -> bool {
        let Self::Postgres(error) = self else { return false };
        let leaves = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW];
        error.is_closed() || error.code().map_or_else(|| error.as_db_error().is_none(), |code| leaves.contains(code))
    }
}
