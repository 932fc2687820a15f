//! Puts a backup in place, whole or not at all.
//!
//! Everything is unpacked and checked in a folder of its own. One rename makes that folder count; whatever happens
//! before it leaves the data as they were. What comes after it only renames, and whoever next uses the data directory
//! goes on with it.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use allerac_ledger::ServeLock;

use crate::check::{Checked, check};
use crate::error::BackupError;
use crate::key::Unlock;
use crate::manifest::Manifest;
use crate::pack::{FILES, alone, make_folder_of, make_private, remove_folder};
use crate::unpack::unpack;

/// Where it is unpacked.
const PARTIAL: &str = ".restore-partial";
/// What counts.
const READY: &str = ".restore-ready";
/// In it: what was there has been moved away.
const MOVED: &str = "moved";
/// Where what was there goes.
const REPLACED: &str = "replaced";
/// What a box has beside the files of a backup, and what belongs to those that are replaced.
const BELONGING: [&str; 7] =
    ["ledger.db-wal", "ledger.db-shm", "objects.db-wal", "objects.db-shm", "inflight.bin", "kv", "tls"];

/// A backup that is in place.
#[derive(Debug)]
pub struct Restored {
    /// What it says of itself.
    pub manifest: Manifest,
    /// What was checked.
    pub checked: Checked,
    /// Whether there was something before, which lies in `replaced` now.
    pub replaced: bool,
}

/// Restores a backup into a data directory that is there. Without `replace`, only where it has no data.
///
/// # Errors
/// [`BackupError::HasData`], [`BackupError::Ledger`] while a server runs on it, and all that is wrong with the backup.
pub fn restore(file: &Path, unlock: &Unlock, data_dir: &Path, replace: bool) -> Result<Restored, BackupError> {
    let _server = ServeLock::acquire(data_dir)?;
    let _alone = alone(data_dir)?;
    go_on(data_dir)?;
    let has_data = FILES.iter().any(|name| data_dir.join(name).exists());
    if has_data && !replace {
        return Err(BackupError::HasData(data_dir.to_owned()));
    }
    let partial = data_dir.join(PARTIAL);
    remove_folder(&partial)?;
    make_private(&partial)?;
    let unpacked = unpack(file, unlock, &partial).and_then(|manifest| Ok((manifest, check(&partial)?)));
    let (manifest, checked) = match unpacked {
        Ok(unpacked) => unpacked,
        Err(error) => {
            remove_folder(&partial)?;
            return Err(error);
        }
    };
    remove_folder(&data_dir.join(REPLACED))?;
    sync(&partial)?;
    let ready = data_dir.join(READY);
    fs::rename(&partial, &ready).map_err(BackupError::io("rename", &partial))?;
    sync(data_dir)?;
    go_on(data_dir)?;
    Ok(Restored { manifest, checked, replaced: has_data })
}

/// Ends a restore that was begun and interrupted, before the data directory is used; whether there was one.
///
/// # Errors
/// When another process is at it, or something cannot be moved.
pub fn finish(data_dir: &Path) -> Result<bool, BackupError> {
    if !data_dir.join(READY).exists() {
        return Ok(false);
    }
    let _server = ServeLock::acquire(data_dir)?;
    let _alone = alone(data_dir)?;
    go_on(data_dir)
}

/// Each step can be done again.
fn go_on(data_dir: &Path) -> Result<bool, BackupError> {
    let ready = data_dir.join(READY);
    if !ready.exists() {
        return Ok(false);
    }
    let moved = ready.join(MOVED);
    if !moved.exists() {
        let replaced = data_dir.join(REPLACED);
        // What lies in a folder goes with it.
        for name in FILES.iter().filter(|name| !name.contains('/')).chain(&BELONGING) {
            let from = data_dir.join(name);
            if !from.exists() {
                continue;
            }
            if !replaced.exists() {
                make_private(&replaced)?;
            }
            fs::rename(&from, replaced.join(name)).map_err(BackupError::io("rename", &from))?;
        }
        sync(data_dir)?;
        File::create(&moved).and_then(|file| file.sync_all()).map_err(BackupError::io("write", &moved))?;
        sync(&ready)?;
    }
    for name in FILES {
        let from = ready.join(name);
        if from.exists() {
            make_folder_of(&data_dir.join(name))?;
            fs::rename(&from, data_dir.join(name)).map_err(BackupError::io("rename", &from))?;
        }
    }
    sync(data_dir)?;
    remove_folder(&ready)?;
    sync(data_dir)?;
    Ok(true)
}

fn sync(folder: &Path) -> Result<(), BackupError> {
    let synced: io::Result<()> = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(BackupError::io("write", folder))
}
