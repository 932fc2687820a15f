//! The database's shape, as migrations in order, and how it is opened.

use std::fs::{self, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use allerac_schema::Migration;
use rusqlite::Connection;

use crate::error::StoreError;

/// How long it is waited for another process, a backup say.
const BUSY_WAIT: Duration = Duration::from_secs(10);

/// The shape that this program knows: one more with each migration.
pub(crate) const VERSION: i64 = MIGRATIONS.len() as i64;

const MIGRATIONS: &[Migration] = &[Migration {
    up: "CREATE TABLE objects (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        owner INTEGER NOT NULL,
        id TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER,
        open INTEGER NOT NULL,
        -- What it takes, its pieces included.
        bytes INTEGER NOT NULL,
        -- Sealed.
        head BLOB NOT NULL,
        tail BLOB,
        UNIQUE (kind, owner, id)
    ) STRICT;
    CREATE INDEX objects_by_size ON objects (owner, kind, seq, bytes);
    CREATE INDEX objects_by_end ON objects (expires_at) WHERE expires_at IS NOT NULL;
    CREATE INDEX objects_open ON objects (kind) WHERE open;
    CREATE TABLE pieces (
        id INTEGER PRIMARY KEY,
        object INTEGER NOT NULL REFERENCES objects (seq) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        mark INTEGER NOT NULL,
        -- Sealed.
        data BLOB NOT NULL,
        UNIQUE (object, number)
    ) STRICT;",
    down: "DROP TABLE pieces; DROP TABLE objects;",
}];

/// Opens the database and brings its schema up to date. One that is damaged is put aside: what it kept is lost, and the
/// box serves on.
pub(crate) fn open(path: &Path) -> Result<Connection, StoreError> {
    make_private(path).map_err(|source| StoreError::NotWritable { path: path.to_owned(), source })?;
    match connect(path) {
        Err(StoreError::Database(error)) if is_damaged(&error) => {
            let aside = path.with_extension("damaged");
            tracing::error!("{} is damaged and is kept as {}", path.display(), aside.display());
            fs::rename(path, &aside).map_err(|source| StoreError::NotWritable { path: aside, source })?;
            make_private(path).map_err(|source| StoreError::NotWritable { path: path.to_owned(), source })?;
            connect(path)
        }
        opened => opened,
    }
}

fn is_damaged(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase))
}

/// Opens the database and brings its schema up to date.
pub(crate) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let mut connection = open_as_it_is(path)?;
    allerac_schema::to_latest(&mut connection, MIGRATIONS)?;
    Ok(connection)
}

/// Takes a file that a newer version shaped back to what is known here; says how many changes were taken back.
pub(crate) fn downgrade(path: &Path) -> Result<usize, StoreError> {
    Ok(allerac_schema::to_known(&mut open_as_it_is(path)?, MIGRATIONS)?)
}

fn open_as_it_is(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_WAIT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // What is lost with the power is what was not yet synced; the file stays whole.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // What is deleted is overwritten.
    connection.pragma_update(None, "secure_delete", true)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// Makes the file where it is missing, and readable by its owner alone.
fn make_private(path: &Path) -> std::io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::set_permissions(path, Permissions::from_mode(0o600))
        }
        made => made.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_goes_up_and_down() {
        let mut connection = Connection::open_in_memory().unwrap();
        let migrations = allerac_schema::known(MIGRATIONS);
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
