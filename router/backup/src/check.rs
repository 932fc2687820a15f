//! Whether what was unpacked is whole: all checks that a running box has.

use std::fs;
use std::path::Path;

use allerac_ledger::LedgerError;
use allerac_objects::StoreError;
use serde::Serialize;

use crate::error::BackupError;

/// What was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Users.
    pub users: u64,
    /// Settled requests.
    pub requests: u64,
    /// Entries of the audit log.
    pub audit_entries: u64,
    /// Objects that people keep.
    pub objects: u64,
    /// Of these, those that did not open on the box either.
    pub unreadable_objects: u64,
}

/// Checks what was unpacked into a folder: the files, the books against their journal, the audit log's chain, and that
/// what people keep opens with the secret of the box.
///
/// # Errors
/// [`BackupError::Damaged`], [`BackupError::Newer`].
pub fn check(folder: &Path) -> Result<Checked, BackupError> {
    let ledger = allerac_ledger::check_copy(&folder.join("ledger.db")).map_err(of_ledger)?;
    if let Some(first) = ledger.books.differences.first() {
        let off = ledger.books.differences.len();
        let what = format!("{off} sums of its ledger are off, {} of {} first", first.what, first.account);
        return Err(BackupError::Damaged(what));
    }
    let objects = folder.join("objects.db");
    let kept = if objects.exists() {
        let secret = fs::read(folder.join("box.key")).ok().and_then(|secret| <[u8; 32]>::try_from(secret).ok());
        let secret = secret.ok_or_else(|| BackupError::Damaged("the secret of the box is not in it".to_owned()))?;
        allerac_objects::check(&objects, &secret).map_err(of_objects)?
    } else {
        allerac_objects::Checked::default()
    };
    Ok(Checked {
        users: ledger.users,
        requests: ledger.books.requests,
        audit_entries: ledger.audit.entries,
        objects: kept.objects,
        unreadable_objects: kept.unreadable,
    })
}

fn of_ledger(error: LedgerError) -> BackupError {
    match error {
        LedgerError::Newer => BackupError::Newer("its ledger has a shape that is not known here".to_owned()),
        LedgerError::Damaged(what) => BackupError::Damaged(what),
        LedgerError::Tampered(how) => BackupError::Damaged(format!("its audit log was tampered with: {how}")),
        LedgerError::Database(source) => BackupError::Damaged(format!("its ledger cannot be read: {source}")),
        other => BackupError::Ledger(other),
    }
}

fn of_objects(error: StoreError) -> BackupError {
    match error {
        StoreError::Newer => BackupError::Newer("what people keep has a shape that is not known here".to_owned()),
        StoreError::Damaged(what) => BackupError::Damaged(what),
        StoreError::Database(source) => BackupError::Damaged(format!("what people keep cannot be read: {source}")),
        other => BackupError::Objects(other),
    }
}
