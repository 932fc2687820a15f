//! What servers that share the books note for each other: little, for minutes, and nothing that is not missed when it is
//! lost.

use std::time::Duration;

use crate::error::LedgerError;
use crate::ledger::{Ledger, Place};
use crate::sql::{Connection, NONE, OptionalExtension};

/// The time by the database's clock: the same for all servers.
const NOW: &str = "SELECT CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT)";

impl Ledger {
    /// The name of this server among those that share the books; `None` where it has them for itself.
    #[must_use]
    pub fn shared_as(&self) -> Option<&str> {
        matches!(self.place(), Place::Server(_)).then(|| self.replica())
    }

    /// Changes notes while nobody else does. `change` is told the time since 1970 and what stands under each name, and
    /// leaves there what is to stand; it may be called again from the begin.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn change_notes(
        &self,
        names: Vec<String>,
        mut change: impl FnMut(Duration, &mut [Option<String>]) + Send + 'static,
    ) -> Result<(), LedgerError> {
        let changed = self.writer.call(move |connection| {
            let (now, mut notes) = find(connection, &names)?;
            let before = notes.clone();
            change(now, &mut notes);
            for ((name, note), before) in names.iter().zip(&notes).zip(&before).filter(|((_, now), then)| now != then) {
                match note {
                    Some(content) => {
                        let put = "INSERT INTO notes (name, content) VALUES (?1, ?2)
                             ON CONFLICT (name) DO UPDATE SET content = excluded.content";
                        connection.execute(put, [name, content])?;
                    }
                    None if before.is_some() => {
                        connection.execute("DELETE FROM notes WHERE name = ?1", [name])?;
                    }
                    None => {}
                }
            }
            Ok(())
        });
        changed.await
    }

    /// The time since 1970, and what stands under these names.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub fn notes(&self, names: &[String]) -> Result<(Duration, Vec<Option<String>>), LedgerError> {
        self.read(|connection| find(connection, names))
    }
}

fn find(connection: &Connection, names: &[String]) -> Result<(Duration, Vec<Option<String>>), LedgerError> {
    let now: i64 = connection.query_row(NOW, NONE, |row| row.get(0))?;
    let mut statement = connection.prepare_cached("SELECT content FROM notes WHERE name = ?1")?;
    let notes = names.iter().map(|name| statement.query_row([name], |row| row.get(0)).optional());
    Ok((Duration::from_millis(now.unsigned_abs()), notes.collect::<Result<_, _>>()?))
}
