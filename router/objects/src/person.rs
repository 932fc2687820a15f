//! All that one person keeps: to be handed to them, or to be deleted.

use rusqlite::params;

use crate::error::StoreError;
use crate::object::{Kind, signed};
use crate::store::Store;

/// An object of somebody's, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub id: String,
    /// Seconds since 1970.
    pub created_at: i64,
}

impl Store {
    /// The names of all that somebody keeps, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn all_of(&self, owner: u64) -> Result<Vec<Named>, StoreError> {
        self.call(move |connection, _| {
            let mut statement =
                connection.prepare("SELECT kind, id, created_at FROM objects WHERE owner = ?1 ORDER BY seq")?;
            let rows =
                statement.query_map([signed(owner)], |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?)))?;
            let mut all = Vec::new();
            for row in rows {
                let (kind, id, created_at) = row?;
                all.extend(Kind::from_text(&kind).map(|kind| Named { kind, id, created_at }));
            }
            Ok(all)
        })
        .await
    }

    /// Deletes all that somebody keeps; how many objects there were. What was deleted is overwritten in the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn delete_all(&self, owner: u64) -> Result<u64, StoreError> {
        self.call(move |connection, _| {
            let deleted = connection.execute("DELETE FROM objects WHERE owner = ?1", params![signed(owner)])?;
            Ok(deleted as u64)
        })
        .await
    }
}
