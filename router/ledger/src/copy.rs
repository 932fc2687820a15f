//! A copy of the books as they stand at one moment, while they are written to.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use crate::audit::{self, AuditVerified};
use crate::error::LedgerError;
use crate::journal::{self, Verified};
use crate::ledger::{Ledger, Recovered};
use crate::leftover;
use crate::schema;

/// All pages at once: readers do not hold up the writer, and what is copied is of one moment.
const ALL_PAGES: i32 = -1;

impl Ledger {
    /// Copies the books to a file that is not there yet. What is open at that moment is settled in the copy as if the
    /// process had died then, so the copy needs no file of running requests beside it.
    ///
    /// # Errors
    /// When the ledger cannot be read, or the copy cannot be written.
    pub fn copy_to(&self, path: &Path) -> Result<Recovered, LedgerError> {
        let inflight = self.inflight()?;
        let mut copy = Connection::open(path)?;
        let open = self.read(|connection| {
            // Its first read fixes the moment for all that follows.
            let transaction = connection.unchecked_transaction()?;
            let open = leftover::find(&transaction, &inflight)?;
            copy_pages(&transaction, &mut copy)?;
            Ok(open)
        })?;
        // One file, without a log beside it.
        copy.pragma_update(None, "journal_mode", "DELETE")?;
        let transaction = copy.transaction()?;
        let recovered = leftover::settle_all(&transaction, &open, self.clock().seconds())?;
        transaction.commit()?;
        copy.close().map_err(|(_, error)| LedgerError::from(error))?;
        Ok(recovered)
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
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "DELETE")?;
    schema::migrate(&mut connection)?;
    let books = journal::verify(&connection)?;
    let audit = audit::verify(&connection)?;
    let users: i64 = connection.query_row("SELECT count(*) FROM users", [], |row| row.get(0))?;
    connection.close().map_err(|(_, error)| LedgerError::from(error))?;
    Ok(CheckedCopy { users: users.unsigned_abs(), books, audit })
}

/// Where something is locked, it is waited for as long as for any other lock.
fn copy_pages(from: &Connection, to: &mut Connection) -> Result<(), LedgerError> {
    match Backup::new(from, to)?.step(ALL_PAGES)? {
        StepResult::Done => Ok(()),
        _ => Err(LedgerError::Database(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
            None,
        ))),
    }
}
