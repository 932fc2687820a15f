//! A copy of the books as they stand at one moment, while they are written to.

use std::path::Path;

use rusqlite::backup::{Backup, StepResult};

use crate::audit::{self, AuditVerified};
use crate::error::LedgerError;
use crate::journal::{self, Verified};
use crate::ledger::{Ledger, Place, Recovered};
use crate::leftover;
use crate::schema;
use crate::sql::{Connection, NONE, Postgres, Value};

/// All pages at once: readers do not hold up the writer, and what is copied is of one moment.
const ALL_PAGES: i32 = -1;

impl Ledger {
    /// Copies the books to a file that is not there yet. What is open at that moment is settled in the copy as if the
    /// process had died then, so the copy needs no file of running requests beside it. What other servers have open is
    /// released in it: what they counted is theirs to know.
    ///
    /// # Errors
    /// When the ledger cannot be read, or the copy cannot be written.
    pub fn copy_to(&self, path: &Path) -> Result<Recovered, LedgerError> {
        let (inflight, replica) = (self.inflight()?, self.replica());
        let mut copy = match self.place() {
            Place::File(_) => Connection::file(path)?,
            Place::Server(_) => schema::open_writer(&Place::File(path.to_owned()))?,
        };
        let open = self.read(|connection| {
            // Its first read fixes the moment for all that follows.
            connection.at_one_moment(|| {
                let open = leftover::find(connection, replica, &inflight)?;
                match (connection, &mut copy) {
                    (Connection::Sqlite(connection), Connection::Sqlite(copy)) => copy_pages(connection, copy)?,
                    (_, copy) => copy.write(|copy| copy_rows(connection, copy))?,
                }
                Ok(open)
            })
        })?;
        // One file, without a log beside it.
        one_file(&copy)?;
        let now = self.clock().seconds();
        let recovered = copy.write(|copy| {
            let mut recovered = leftover::settle_all(copy, &open, now)?;
            recovered.released += leftover::release_all(copy, now)?;
            Ok(recovered)
        })?;
        close(copy)?;
        Ok(recovered)
    }

    /// Copies books that nobody uses just now to a server's database that has none yet: the last step before they are
    /// used there.
    ///
    /// # Errors
    /// [`LedgerError::Conflict`] where there are books already, or requests are open here; and when the ledger cannot be
    /// read, or the copy cannot be written.
    pub fn copy_to_server(&self, server: &Postgres) -> Result<(), LedgerError> {
        let mut copy = schema::open_writer(&Place::Server(server.clone()))?;
        self.read(|connection| {
            connection.at_one_moment(|| {
                let count = |connection: &Connection, table: &str| -> Result<i64, LedgerError> {
                    Ok(connection.query_row(&format!("SELECT count(*) FROM {table}"), NONE, |row| row.get(0))?)
                };
                if count(connection, "reservations")? > 0 {
                    let reason = "requests are open; start the server once and stop it".to_owned();
                    return Err(LedgerError::Conflict { code: "requests_open", reason });
                }
                copy.write(|copy| {
                    if count(copy, "users")? > 0 || count(copy, "audit")? > 0 {
                        let reason = "there are books in that database already".to_owned();
                        return Err(LedgerError::Conflict { code: "books_there", reason });
                    }
                    copy_rows(connection, copy)
                })
            })
        })
    }
}

/// What a copy holds, all of it checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedCopy {
    /// Users.
    pub users: u64,
    /// The books.
    pub books: Verified,
    /// The audit log.
    pub audit: AuditVerified,
}

/// Brings a copy to the shape that is known here, and checks it as a running box's ledger is. Nothing is left beside it.
///
/// # Errors
/// [`LedgerError::Newer`], [`LedgerError::Damaged`], [`LedgerError::Tampered`], and when it cannot be read.
pub fn check_copy(path: &Path) -> Result<CheckedCopy, LedgerError> {
    let mut connection = Connection::file(path)?;
    one_file(&connection)?;
    if let Some(connection) = connection.sqlite() {
        schema::migrate(connection)?;
    }
    let books = journal::verify(&connection)?;
    let audit = audit::verify(&connection)?;
    let users: i64 = connection.query_row("SELECT count(*) FROM users", NONE, |row| row.get(0))?;
    close(connection)?;
    Ok(CheckedCopy { users: users.unsigned_abs(), books, audit })
}

fn one_file(connection: &Connection) -> Result<(), LedgerError> {
    if let Connection::Sqlite(connection) = connection {
        connection.pragma_update(None, "journal_mode", "DELETE")?;
    }
    Ok(())
}

fn close(connection: Connection) -> Result<(), LedgerError> {
    match connection {
        Connection::Sqlite(connection) => connection.close().map_err(|(_, error)| LedgerError::from(error)),
        Connection::Postgres(_) => Ok(()),
    }
}

/// Where something is locked, it is waited for as long as for any other lock.
fn copy_pages(from: &rusqlite::Connection, to: &mut rusqlite::Connection) -> Result<(), LedgerError> {
    match Backup::new(from, to)?.step(ALL_PAGES)? {
        StepResult::Done => Ok(()),
        _ => Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None).into()),
    }
}

/// Copies all rows of all tables into empty books of the same shape, which may be in the other kind of database.
fn copy_rows(from: &Connection, to: &Connection) -> Result<(), LedgerError> {
    // The plans that come with new books.
    to.batch("DELETE FROM plans")?;
    for table in schema::tables()? {
        let columns = schema::columns(&table)?;
        let (names, places) = (columns.join(", "), vec!["?"; columns.len()].join(", "));
        let mut insert = to.prepare_cached(&format!("INSERT INTO {table} ({names}) VALUES ({places})"))?;
        let mut select = from.prepare_cached(&format!("SELECT {names} FROM {table} ORDER BY {}", columns[0]))?;
        let mut rows = select.query(NONE)?;
        while let Some(row) = rows.next()? {
            let values = (0..columns.len()).map(|column| row.get(column)).collect::<Result<Vec<Value>, _>>()?;
            insert.execute(&values)?;
        }
        to.count_on(&table, &columns[0])?;
    }
    Ok(())
}
