//! Pieces of objects: the content of files, and the answers of batches. Each has a number and a mark.

use std::fs;

use rusqlite::{Connection, OptionalExtension, params};

use crate::error::StoreError;
use crate::object::{Kind, about, kept, signed};
use crate::store::Store;

/// Bytes of a piece of a file, but for the last.
pub const PIECE_BYTES: usize = 256 * 1024;

/// A piece of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its place among the others.
    pub number: u32,
    /// A word of whoever wrote it, read back with the number.
    pub mark: bool,
    /// What it says.
    pub data: Vec<u8>,
}

/// Room that what people keep leaves on the disk, in bytes: without any, the ledger takes no request. Of a small disk, a
/// sixteenth.
const SPARE_BYTES: u64 = 64 * 1024 * 1024;

fn leaves_too_little(connection: &Connection, bytes: u64) -> Result<bool, StoreError> {
    let Some(file) = connection.path() else { return Ok(false) };
    // Where it cannot be found out, writing will tell.
    let Ok(disk) = rustix::fs::statvfs(file) else { return Ok(false) };
    let spare = SPARE_BYTES.min(disk.f_blocks.saturating_mul(disk.f_frsize) / 16);
    // What is in the log needs its room in the file once more.
    let log = fs::metadata(format!("{file}-wal")).map_or(0, |log| log.len());
    let reusable: u64 = connection.query_row(
        "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size",
        [],
        |row| row.get(0).map(i64::unsigned_abs),
    )?;
    let room = disk.f_bavail.saturating_mul(disk.f_frsize).saturating_add(reusable);
    Ok(room < spare.saturating_add(log).saturating_add(bytes))
}

impl Store {
    /// Adds a piece to an object, in place of the one of the same number; whether the object is there. The person may
    /// then keep `bytes_max` in all.
    ///
    /// # Errors
    /// [`StoreError::NoRoom`], and when it cannot be written.
    pub async fn put_piece(
        &self,
        (kind, owner): (Kind, u64),
        id: &str,
        piece: Piece,
        bytes_max: Option<u64>,
    ) -> Result<bool, StoreError> {
        let Piece { number, mark, data } = piece;
        let id = id.to_owned();
        self.call(move |connection, seal| {
            let Some(object) = seq(connection, kind, owner, &id)? else { return Ok(false) };
            let data = seal.seal(&about(kind, owner, &id, &number.to_string()), &data);
            let before: Option<i64> = connection
                .prepare_cached("SELECT length(data) FROM pieces WHERE object = ?1 AND number = ?2")?
                .query_row(params![object, number], |row| row.get(0))
                .optional()?;
            let (kept, before) = (kept(connection, owner)?, before.unwrap_or(0));
            if let Some(allowed) = bytes_max
                && kept.saturating_sub(before.unsigned_abs()).saturating_add(data.len() as u64) > allowed
            {
                return Err(StoreError::NoRoom { kept, allowed });
            }
            if leaves_too_little(connection, data.len() as u64)? {
                return Err(StoreError::DiskFull);
            }
            connection
                .prepare_cached("INSERT OR REPLACE INTO pieces (object, number, mark, data) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![object, number, mark, data])?;
            connection
                .prepare_cached("UPDATE objects SET bytes = bytes + ?2 WHERE seq = ?1")?
                .execute(params![object, signed(data.len() as u64) - before])?;
            Ok(true)
        })
        .await
    }

    /// One piece; `None` where it is not there or does not open.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn piece(&self, kind: Kind, owner: u64, id: &str, number: u32) -> Result<Option<Vec<u8>>, StoreError> {
        let id = id.to_owned();
        self.call(move |connection, seal| {
            let Some(object) = seq(connection, kind, owner, &id)? else { return Ok(None) };
            let data: Option<Vec<u8>> = connection
                .prepare_cached("SELECT data FROM pieces WHERE object = ?1 AND number = ?2")?
                .query_row(params![object, number], |row| row.get(0))
                .optional()?;
            Ok(data.and_then(|data| seal.open(&about(kind, owner, &id, &number.to_string()), &data)))
        })
        .await
    }

    /// The numbers and marks of all pieces of an object, in order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn pieces(&self, kind: Kind, owner: u64, id: &str) -> Result<Vec<(u32, bool)>, StoreError> {
        let id = id.to_owned();
        self.call(move |connection, _| {
            let Some(object) = seq(connection, kind, owner, &id)? else { return Ok(Vec::new()) };
            let mut statement =
                connection.prepare_cached("SELECT number, mark FROM pieces WHERE object = ?1 ORDER BY number")?;
            let rows = statement.query_map([object], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Deletes all pieces of an object.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn delete_pieces(&self, kind: Kind, owner: u64, id: &str) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.call(move |connection, _| {
            let Some(object) = seq(connection, kind, owner, &id)? else { return Ok(()) };
            connection.prepare_cached("DELETE FROM pieces WHERE object = ?1")?.execute([object])?;
            connection
                .prepare_cached("UPDATE objects SET bytes = length(head) + coalesce(length(tail), 0) WHERE seq = ?1")?
                .execute([object])?;
            Ok(())
        })
        .await
    }
}

fn seq(connection: &Connection, kind: Kind, owner: u64, id: &str) -> Result<Option<i64>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT seq FROM objects WHERE kind = ?1 AND owner = ?2 AND id = ?3")?;
    Ok(statement.query_row(params![kind.as_str(), signed(owner), id], |row| row.get(0)).optional()?)
}
