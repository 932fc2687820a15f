//! A copy of everything that is kept, as it stands at one moment, and whether such a copy is whole.

use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use crate::error::StoreError;
use crate::object::{Kind, about};
use crate::schema;
use crate::seal::Seal;

/// All pages at once: readers do not hold up the writer, and what is copied is of one moment.
const ALL_PAGES: i32 = -1;

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Objects.
    pub objects: u64,
    /// Of these, those of which something does not open: damaged, or sealed by another box.
    pub unreadable: u64,
}

/// Copies the store of a data directory to a file that is not there yet; whether there is one.
///
/// # Errors
/// When it cannot be read, or the copy cannot be written.
pub fn copy(directory: &Path, to: &Path) -> Result<bool, StoreError> {
    let path = directory.join("objects.db");
    if !path.exists() {
        return Ok(false);
    }
    let from = schema::connect(&path)?;
    let mut copy = Connection::open(to)?;
    copy_pages(&from, &mut copy)?;
    // One file, without a log beside it.
    copy.pragma_update(None, "journal_mode", "DELETE")?;
    copy.close().map_err(|(_, error)| StoreError::from(error))?;
    Ok(true)
}

/// Where something is locked, it is waited for as long as for any other lock.
fn copy_pages(from: &Connection, to: &mut Connection) -> Result<(), StoreError> {
    match Backup::new(from, to)?.step(ALL_PAGES)? {
        StepResult::Done => Ok(()),
        _ => Err(StoreError::Database(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
            None,
        ))),
    }
}

/// Checks a copy: the file itself, and that each object and each piece opens with the secret of the box.
///
/// # Errors
/// [`StoreError::Damaged`] where the file is, [`StoreError::Newer`] where it has another shape than is known here.
pub fn check(path: &Path, secret: &[u8; 32]) -> Result<Checked, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(StoreError::Damaged(found));
    }
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version > schema::VERSION {
        return Err(StoreError::Newer);
    }
    let seal = Seal::new(secret);
    let mut checked = Checked::default();
    let mut objects = connection.prepare("SELECT seq, kind, owner, id, head, tail FROM objects")?;
    let mut pieces = connection.prepare("SELECT number, data FROM pieces WHERE object = ?1")?;
    let mut rows = objects.query([])?;
    while let Some(row) = rows.next()? {
        let (kind, owner, id): (String, i64, String) = (row.get(1)?, row.get(2)?, row.get(3)?);
        let kind = Kind::from_text(&kind);
        let opens = |part: &str, sealed: &[u8]| {
            kind.is_some_and(|kind| seal.open(&about(kind, owner.cast_unsigned(), &id, part), sealed).is_some())
        };
        let mut is_whole = opens("head", row.get_ref(4)?.as_blob().unwrap_or_default());
        is_whole &= row.get_ref(5)?.as_blob_or_null().ok().flatten().is_none_or(|tail| opens("tail", tail));
        let mut parts = pieces.query([row.get::<_, i64>(0)?])?;
        while let Some(part) = parts.next()? {
            let number: u32 = part.get(0)?;
            is_whole &= opens(&number.to_string(), part.get_ref(1)?.as_blob().unwrap_or_default());
        }
        checked.objects += 1;
        checked.unreadable += u64::from(!is_whole);
    }
    Ok(checked)
}
