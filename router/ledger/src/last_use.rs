//! When keys and sessions were used last: noted in memory, and written down once a minute for all of them.

use std::collections::HashMap;

use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::sql::{Connection, params};

/// How often it is written down, in seconds. A request never waits for it.
const WRITTEN_EVERY_S: i64 = 60;

/// What was used since the last time that was written down. Bounded by the keys and sessions that open.
#[derive(Debug, Default)]
pub(crate) struct LastUse {
    seen: Seen,
    written_at: i64,
}

/// When each was used, in seconds since 1970.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    keys: HashMap<i64, i64>,
    sessions: HashMap<i64, i64>,
}

impl LastUse {
    /// Takes all of it, to be written.
    pub(crate) fn take(&mut self) -> Seen {
        std::mem::take(&mut self.seen)
    }
}

impl Ledger {
    /// Notes that a key was used, in a session or by itself.
    pub(crate) fn note_use(&self, key: i64, session: Option<i64>) {
        let now = self.clock().seconds();
        let due = {
            let mut last = self.last_use();
            last.seen.keys.insert(key, now);
            if let Some(session) = session {
                last.seen.sessions.insert(session, now);
            }
            // Also when the clock was set back.
            let is_due = now.abs_diff(last.written_at) >= WRITTEN_EVERY_S.unsigned_abs();
            if is_due {
                last.written_at = now;
            }
            is_due.then(|| last.take())
        };
        if let Some(seen) = due {
            self.writer.offer(move |connection| write(connection, &seen));
        }
    }
}

pub(crate) fn write(connection: &Connection, seen: &Seen) -> Result<(), LedgerError> {
    for (table, all) in [("keys", &seen.keys), ("sessions", &seen.sessions)] {
        let mut statement = connection.prepare_cached(&format!("UPDATE {table} SET used_at = ?2 WHERE id = ?1"))?;
        for (id, at) in all {
            statement.execute(params![id, at])?;
        }
    }
    Ok(())
}
