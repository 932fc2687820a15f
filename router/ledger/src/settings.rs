//! What the box remembers of its settings, for all processes that have the ledger open.

use std::path::Path;

use jiff::tz::TimeZone;
use serde_json::json;

use crate::audit::{self, Act};
use crate::error::LedgerError;
use crate::ledger::{self, Ledger, Place};
use crate::schema;
use crate::sql::{Connection, OptionalExtension, Postgres};

const TIME_ZONE: &str = "time_zone";

pub(crate) fn get(connection: &Connection, name: &str) -> Result<Option<String>, LedgerError> {
    let mut statement = connection.prepare_cached("SELECT value FROM settings WHERE name = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}

pub(crate) fn set(connection: &Connection, name: &str, value: &str) -> Result<(), LedgerError> {
    connection.execute(
        "INSERT INTO settings (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        [name, value],
    )?;
    Ok(())
}

/// The time zone that the box was last told to count days and months in; `None` where it never was, where there is no
/// ledger yet, and where this machine does not know the zone.
#[must_use]
pub fn time_zone(directory: &Path, database: Option<&Postgres>) -> Option<TimeZone> {
    let place =
        database.map_or_else(|| Place::File(ledger::database(directory)), |server| Place::Server(server.clone()));
    let connection = schema::open_reader(&place).ok()?;
    TimeZone::get(&get(&connection, TIME_ZONE).ok()??).ok()
}

/// What became of the last scheduled backup, as JSON.
const LAST_BACKUP: &str = "last_backup";

impl Ledger {
    /// What [`keep_backup_outcome`](Self::keep_backup_outcome) was last told.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn backup_outcome(&self) -> Result<Option<String>, LedgerError> {
        self.read(|connection| get(connection, LAST_BACKUP))
    }

    /// Remembers what became of a backup, in the words of whoever makes them.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn keep_backup_outcome(&self, outcome: String) -> Result<(), LedgerError> {
        self.writer.call(move |connection| set(connection, LAST_BACKUP, &outcome)).await
    }

    /// Remembers the time zone of this handle, so that commands beside the server count the same days and months.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn keep_time_zone(&self) -> Result<(), LedgerError> {
        let Some(name) = self.zone().iana_name().map(str::to_owned) else { return Ok(()) };
        let (actor, at) = (self.actor(), self.now().seconds);
        let kept = self.writer.call(move |connection| {
            let before = get(connection, TIME_ZONE)?;
            if before.as_ref() == Some(&name) {
                return Ok(());
            }
            set(connection, TIME_ZONE, &name)?;
            let detail = json!({"before": before});
            audit::note(connection, Act { at, actor: &actor, action: "time_zone.change", subject: &name, detail })
        });
        kept.await
    }
}
