//! A connection to either database, and its transactions.

use std::fmt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::postgres::{Postgres, Session};
use super::statement::{Row, Statement};
use super::{AnyParam, Result, params};
use crate::error::LedgerError;

/// The lock that a transaction which writes holds: one after the other, as in a file. The number is this program's own.
const WRITERS_LOCK: &str = "7022363710";
/// How long it is asked whether a transaction was committed whose answer was lost. Then it counts as not.
const ASKED_MAX: Duration = Duration::from_secs(30);
/// How often.
const ASKED_EVERY: Duration = Duration::from_millis(200);

/// A connection.
pub(crate) enum Connection {
    Sqlite(rusqlite::Connection),
    Postgres(Box<Session>),
}

impl Connection {
    /// To a file.
    pub(crate) fn file(path: &Path) -> Result<Self> {
        Ok(Self::Sqlite(rusqlite::Connection::open(path)?))
    }

    /// To a server.
    pub(crate) fn server(at: &Postgres) -> Result<Self> {
        Ok(Self::Postgres(Box::new(Session::open(at)?)))
    }

    /// Whether nothing more comes of it.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self, Self::Postgres(session) if session.is_lost())
    }

    /// Connects again where the connection was lost.
    pub(crate) fn restore(&mut self) -> Result<()> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(session) => session.restore(),
        }
    }

    /// A query that is kept ready for the next time.
    pub(crate) fn prepare_cached(&self, text: &str) -> Result<Statement<'_>> {
        Ok(match self {
            Self::Sqlite(connection) => Statement::Sqlite(connection.prepare_cached(text)?),
            Self::Postgres(session) => Statement::Postgres { session, text: text.to_owned() },
        })
    }

    /// Changes rows; how many.
    pub(crate) fn execute<P: AnyParam>(&self, text: &str, params: impl AsRef<[P]>) -> Result<usize> {
        self.prepare_cached(text)?.execute(params)
    }

    /// Reads one row.
    pub(crate) fn query_row<P: AnyParam, T>(
        &self,
        text: &str,
        params: impl AsRef<[P]>,
        map: impl FnOnce(Row<'_>) -> Result<T>,
    ) -> Result<T> {
        self.prepare_cached(text)?.query_row(params, map)
    }

    /// Does several things that answer nothing.
    pub(crate) fn batch(&self, text: &str) -> Result<()> {
        match self {
            Self::Sqlite(connection) => Ok(connection.execute_batch(text)?),
            Self::Postgres(session) => session.batch(text),
        }
    }

    /// Reads several things as of one moment.
    pub(crate) fn at_one_moment<T>(
        &self,
        work: impl FnOnce() -> std::result::Result<T, LedgerError>,
    ) -> std::result::Result<T, LedgerError> {
        self.batch(match self {
            Self::Sqlite(_) => "BEGIN",
            Self::Postgres(_) => "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        })?;
        let result = work();
        self.batch("ROLLBACK")?;
        result
    }

    /// Does all of some work, durably, or none of it. Nobody else writes meanwhile.
    pub(crate) fn write<T>(
        &mut self,
        work: impl FnOnce(&Self) -> std::result::Result<T, LedgerError>,
    ) -> std::result::Result<T, LedgerError> {
        let number = self.begin()?;
        match work(self) {
            Ok(done) => {
                self.commit(number)?;
                Ok(done)
            }
            Err(error) => {
                // A connection that is lost has rolled back.
                let _ = self.batch("ROLLBACK");
                Err(error)
            }
        }
    }

    /// The transaction's number, where its outcome can be asked for by it.
    fn begin(&self) -> Result<Option<String>> {
        match self {
            Self::Sqlite(connection) => {
                connection.execute_batch("BEGIN IMMEDIATE")?;
                Ok(None)
            }
            Self::Postgres(session) => {
                session.batch("BEGIN")?;
                let number = "SELECT CAST(pg_current_xact_id() AS TEXT) FROM pg_advisory_xact_lock(?1)";
                let lock: i64 = WRITERS_LOCK.parse().expect("it is a number");
                self.query_row(number, [lock], |row| row.get(0)).map(Some)
            }
        }
    }

    fn commit(&mut self, number: Option<String>) -> Result<()> {
        let Err(error) = self.batch("COMMIT") else { return Ok(()) };
        match number {
            None => {
                let _ = self.batch("ROLLBACK");
                Err(error)
            }
            // The answer may be what was lost, and not what was committed.
            Some(number) if error.is_away() && self.was_committed(&number) => Ok(()),
            Some(_) => Err(error),
        }
    }

    /// Asks the server when it is back.
    #[expect(clippy::disallowed_methods, reason = "the server is another's, and comes back when it does")]
    fn was_committed(&mut self, number: &str) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < ASKED_MAX {
            let asked = self.restore().and_then(|()| {
                let status = "SELECT pg_xact_status(CAST(CAST(?1 AS TEXT) AS xid8))";
                self.query_row(status, [number], |row| row.get::<Option<String>>(0))
            });
            match asked.as_ref().map(Option::as_deref) {
                Ok(Some("committed")) => return true,
                Ok(Some("aborted") | None) => return false,
                Ok(Some(_)) | Err(_) => thread::sleep(ASKED_EVERY),
            }
        }
        tracing::error!("the ledger's database did not come back to say whether transaction {number} was committed");
        false
    }

    /// The highest number that a row of a table ever had; 0 where it never had a row.
    pub(crate) fn highest_ever(&self, table: &str) -> Result<i64> {
        let query = match self {
            Self::Sqlite(_) => "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?1",
            Self::Postgres(_) => "SELECT coalesce(max(highest), 0) FROM highest_ever WHERE name = ?1",
        };
        self.query_row(query, [table], |row| row.get(0))
    }

    /// Has new rows of a table count on from the highest number that is in a column of it.
    pub(crate) fn count_on(&self, table: &str, column: &str) -> Result<()> {
        // A file does so by itself.
        let Self::Postgres(_) = self else { return Ok(()) };
        let sequence = "SELECT pg_get_serial_sequence(?1, ?2)";
        if self.query_row(sequence, [table, column], |row| row.get::<Option<String>>(0))?.is_some() {
            let highest = format!("SELECT setval(pg_get_serial_sequence(?1, ?2), max({column})) FROM {table}");
            self.query_row(&highest, [table, column], |_| Ok(()))?;
        }
        Ok(())
    }

    /// Has what is deleted from now on overwritten, or no longer. A server's files are its own matter.
    pub(crate) fn overwrite_deleted(&self, wanted: bool) -> Result<()> {
        match self {
            Self::Sqlite(connection) => Ok(connection.pragma_update(None, "secure_delete", wanted)?),
            Self::Postgres(_) => Ok(()),
        }
    }

    /// Checks the database itself; what is wrong with it.
    pub(crate) fn damage(&self) -> Result<Option<String>> {
        let Self::Sqlite(connection) = self else { return Ok(None) };
        let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        if found != "ok" {
            return Ok(Some(found));
        }
        let mut orphans = connection.prepare("PRAGMA foreign_key_check")?;
        let orphan = orphans.query_map([], |row| row.get::<_, String>(0))?.next().transpose()?;
        Ok(orphan.map(|table| format!("a row of {table} belongs to nothing")))
    }

    /// The file's own connection; there is none to a server.
    pub(crate) fn sqlite(&mut self) -> Option<&mut rusqlite::Connection> {
        if let Self::Sqlite(connection) = self { Some(connection) } else { None }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Connection")
    }
}

/// No values.
pub(crate) const NONE: &[&dyn AnyParam] = params![];
