//! The database's shape, as migrations in order, and how its connections are opened.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{M, Migrations};

use crate::error::LedgerError;

/// How long a connection waits for another process that writes.
const BUSY_WAIT: Duration = Duration::from_secs(10);

/// Pages of the log (32 MiB) after which a commit also moves it into the database, which takes as long as tens of
/// commits.
const CHECKPOINT_PAGES: u32 = 8192;

const MIGRATIONS: &[M<'static>] = &[M::up(
    "CREATE TABLE users (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE COLLATE NOCASE,
        role TEXT NOT NULL,
        plan TEXT NOT NULL,
        salt INTEGER NOT NULL,
        created_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE keys (
        id INTEGER PRIMARY KEY,
        public_id TEXT NOT NULL UNIQUE,
        hash BLOB NOT NULL,
        user_id INTEGER NOT NULL REFERENCES users (id),
        label TEXT NOT NULL,
        plan TEXT,
        upstreams TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        revoked_at INTEGER
    ) STRICT;
    -- One row an account and month. An account is 'user:ID', or 'key:ID' for a key with a plan of its own.
    CREATE TABLE balances (
        account TEXT NOT NULL,
        month TEXT NOT NULL,
        used INTEGER NOT NULL DEFAULT 0 CHECK (used >= 0),
        reserved INTEGER NOT NULL DEFAULT 0 CHECK (reserved >= 0),
        PRIMARY KEY (account, month)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE reservations (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        request_id TEXT NOT NULL UNIQUE,
        key_id INTEGER NOT NULL REFERENCES keys (id),
        user_id INTEGER NOT NULL REFERENCES users (id),
        key_account INTEGER NOT NULL,
        model TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        served_by TEXT NOT NULL,
        tokens INTEGER NOT NULL,
        slot INTEGER NOT NULL,
        day TEXT NOT NULL,
        month TEXT NOT NULL,
        created_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE usage (
        id INTEGER PRIMARY KEY,
        request_id TEXT NOT NULL UNIQUE,
        key_id INTEGER NOT NULL REFERENCES keys (id),
        user_id INTEGER NOT NULL REFERENCES users (id),
        key_account INTEGER NOT NULL,
        model TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        served_by TEXT NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        day TEXT NOT NULL,
        month TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        settled_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX usage_by_day ON usage (day, key_id, model);",
)
.down("DROP TABLE usage; DROP TABLE reservations; DROP TABLE balances; DROP TABLE keys; DROP TABLE users;")];

/// Opens the database for writing and brings its schema up to date.
pub(crate) fn open_writer(path: &Path) -> Result<Connection, LedgerError> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_WAIT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // FULL syncs the log at every commit: what was promised survives a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.set_prepared_statement_cache_capacity(32);
    Migrations::from_slice(MIGRATIONS).to_latest(&mut connection).map_err(LedgerError::Migration)?;
    Ok(connection)
}

/// Opens the database for reading.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, LedgerError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_WAIT)?;
    connection.set_prepared_statement_cache_capacity(16);
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_goes_up_and_down() {
        let mut connection = Connection::open_in_memory().unwrap();
        let migrations = Migrations::from_slice(MIGRATIONS);
        migrations.validate().unwrap();
        migrations.to_latest(&mut connection).unwrap();
        migrations.to_version(&mut connection, 0).unwrap();
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'", [], |row| row.get(0))
            .unwrap();
        assert_eq!(tables, 0);
        migrations.to_latest(&mut connection).unwrap();
    }
}
