//! Files that processes lock: one server a data directory, and one process at a time that opens the ledger.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::error::LedgerError;

/// Held by the serving process for as long as it lives; the kernel releases it with the process.
#[derive(Debug)]
pub struct ServeLock {
    _file: File,
}

/// A data directory in use, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occupied {
    /// The data directory.
    pub directory: PathBuf,
    /// The process that serves it, where it could be told.
    pub process: Option<u32>,
}

impl fmt::Display for Occupied {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.directory.display())?;
        self.process.map_or(Ok(()), |process| write!(formatter, " (process {process})"))
    }
}

impl ServeLock {
    /// Takes the lock of a data directory.
    ///
    /// # Errors
    /// [`LedgerError::InUse`] when another process holds it, [`LedgerError::NotWritable`] when the
    /// directory cannot be written.
    pub fn acquire(data_dir: &Path) -> Result<Self, LedgerError> {
        let path = data_dir.join("serve.lock");
        let not_writable = |source| LedgerError::NotWritable { path: path.clone(), source };
        let mut file = lock_file(&path).map_err(not_writable)?;
        match file.try_lock() {
            Ok(()) => {
                sign(&mut file).map_err(not_writable)?;
                Ok(Self { _file: file })
            }
            Err(TryLockError::WouldBlock) => {
                let occupied = Occupied { directory: data_dir.to_owned(), process: holder(&mut file) };
                Err(LedgerError::InUse(occupied))
            }
            Err(TryLockError::Error(source)) => Err(not_writable(source)),
        }
    }
}

/// Lets one process after the other make and migrate the database: `SQLite` fails rather than waits when two switch
/// a new database to its log at once. The wait is as short as an opening, and ends with the process waited for.
pub(crate) fn wait_to_open(data_dir: &Path) -> Result<File, LedgerError> {
    let path = data_dir.join("ledger.lock");
    let locked = lock_file(&path).and_then(|file| file.lock().map(|()| file));
    locked.map_err(|source| LedgerError::NotWritable { path, source })
}

/// The name of this data directory among those of servers that share the books. Made once; the caller holds the lock of
/// [`wait_to_open`].
pub(crate) fn replica(data_dir: &Path) -> Result<String, LedgerError> {
    let path = data_dir.join("replica");
    let kept = lock_file(&path).and_then(|mut file| {
        let mut name = String::new();
        file.read_to_string(&mut name)?;
        if name.trim().is_empty() {
            name = Uuid::now_v7().to_string();
            file.write_all(name.as_bytes())?;
            file.sync_all()?;
        }
        Ok(name.trim().to_owned())
    });
    kept.map_err(|source| LedgerError::NotWritable { path, source })
}

fn lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Leaves the number of this process in the file, for those who come later.
fn sign(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
