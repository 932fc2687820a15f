//! One server a data directory.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::LedgerError;

/// Held by the serving process for as long as it lives; the kernel releases it with the process.
#[derive(Debug)]
pub struct ServeLock {
    _file: File,
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
        let file = File::create(&path).map_err(not_writable)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LedgerError::InUse(data_dir.to_owned())),
            Err(TryLockError::Error(source)) => Err(not_writable(source)),
        }
    }
}
