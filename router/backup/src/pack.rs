//! Makes a backup.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use allerac_ledger::Ledger;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use tar::{Builder, Header};

use crate::error::BackupError;
use crate::key::Lock;
use crate::manifest::{FORMAT, Manifest, Packed};

/// The files of a data directory that a backup has, in this order. Those after the first need not be there.
pub(crate) const FILES: [&str; 6] =
    ["ledger.db", "objects.db", "box.key", "mdns-name", "tls/authority.key", "tls/authority.crt"];
/// Of these, those that are copied as they are: nobody changes them once they are there.
const PLAIN: &[&str] = FILES.split_at(2).1;
/// The name of the manifest.
pub(crate) const MANIFEST: &str = "manifest.json";
/// Where copies lie until they are packed: on the disk of the data, for its owner alone.
const WORK: &str = ".backup";
/// Held while a backup is made or restored.
const LOCK: &str = "backup.lock";

/// What a backup is made of.
#[derive(Debug)]
pub struct What<'a> {
    /// The data directory.
    pub data_dir: &'a Path,
    /// Its ledger.
    pub ledger: &'a Ledger,
    /// The box's name.
    pub name: &'a str,
    /// The models that are installed.
    pub models: Vec<String>,
    /// When it is made.
    pub now: Timestamp,
}

/// A backup that was made.
#[derive(Debug)]
pub struct Made {
    /// What it says of itself.
    pub manifest: Manifest,
    /// Its size.
    pub bytes: u64,
}

/// Makes a backup in a file that is not there yet. It is there whole when this returns, and on the disk. Blocks for as
/// long as it takes; a server on the data directory serves on.
///
/// # Errors
/// When something cannot be read or written, or another backup is being made.
pub fn create(what: &What<'_>, lock: &Lock, file: &Path) -> Result<Made, BackupError> {
    lock.check()?;
    let _alone = alone(what.data_dir)?;
    let work = what.data_dir.join(WORK);
    remove_folder(&work)?;
    let made = make_private(&work).and_then(|()| pack(what, lock, &work, file));
    remove_folder(&work)?;
    if made.is_err() {
        let _ = fs::remove_file(file);
    }
    made
}

fn pack(what: &What<'_>, lock: &Lock, work: &Path, file: &Path) -> Result<Made, BackupError> {
    // In this order: see the crate's description.
    allerac_objects::copy(what.data_dir, &work.join("objects.db"))?;
    let settled = what.ledger.copy_to(&work.join("ledger.db"))?;
    make_private(&work.join("tls"))?;
    for name in PLAIN {
        match fs::copy(what.data_dir.join(name), work.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(BackupError::io("read", &what.data_dir.join(name))(error));
            }
            _ => {}
        }
    }
    let there = FILES.iter().filter(|name| work.join(name).exists());
    let files = there.map(|name| describe(work, name)).collect::<Result<Vec<_>, _>>()?;
    let manifest = Manifest {
        format: FORMAT,
        made_by: concat!("allerac ", env!("CARGO_PKG_VERSION")).to_owned(),
        made_at: what.now,
        name: what.name.to_owned(),
        charged: settled.charged,
        released: settled.released,
        models: what.models.clone(),
        files,
    };
    let bytes = write(&manifest, lock, work, file)?;
    Ok(Made { manifest, bytes })
}

/// Packs, seals and syncs; the size.
fn write(manifest: &Manifest, lock: &Lock, work: &Path, file: &Path) -> Result<u64, BackupError> {
    let failed = || BackupError::io("write", file);
    let output = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(failed())?;
    let sealed = lock.seal(BufWriter::new(output))?;
    let mut archive = Builder::new(GzEncoder::new(sealed, Compression::fast()));
    let text = serde_json::to_vec_pretty(manifest).map_err(io::Error::from).map_err(failed())?;
    append(&mut archive, MANIFEST, text.len() as u64, manifest, text.as_slice()).map_err(failed())?;
    for packed in &manifest.files {
        let path = work.join(&packed.name);
        let content = File::open(&path).map_err(BackupError::io("read", &path))?;
        append(&mut archive, &packed.name, packed.bytes, manifest, content).map_err(failed())?;
    }
    let finish = || -> io::Result<u64> {
        let output = archive.into_inner()?.finish()?.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        output.sync_all()?;
        Ok(output.metadata()?.len())
    };
    finish().map_err(failed())
}

fn append(
    archive: &mut Builder<impl Write>,
    name: &str,
    bytes: u64,
    manifest: &Manifest,
    content: impl io::Read,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_mtime(manifest.made_at.as_second().unsigned_abs());
    archive.append_data(&mut header, name, content)
}

fn describe(work: &Path, name: &str) -> Result<Packed, BackupError> {
    let path = work.join(name);
    let (bytes, blake3) = hash(&path)?;
    Ok(Packed { name: name.to_owned(), bytes, blake3 })
}

/// The size and the hash of a file.
pub(crate) fn hash(path: &Path) -> Result<(u64, String), BackupError> {
    let read = || -> io::Result<(u64, String)> {
        let mut hasher = blake3::Hasher::new();
        let bytes = io::copy(&mut File::open(path)?, &mut hasher)?;
        Ok((bytes, hasher.finalize().to_hex().to_string()))
    };
    read().map_err(BackupError::io("read", path))
}

/// Keeps others from making or restoring a backup in a data directory, until it is dropped.
pub(crate) fn alone(data_dir: &Path) -> Result<File, BackupError> {
    let path = data_dir.join(LOCK);
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = opened.map_err(BackupError::io("write", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(BackupError::Busy(data_dir.to_owned())),
        Err(fs::TryLockError::Error(error)) => Err(BackupError::io("lock", &path)(error)),
    }
}

pub(crate) fn make_private(path: &Path) -> Result<(), BackupError> {
    DirBuilder::new().mode(0o700).create(path).map_err(BackupError::io("make", path))
}

/// Makes the folder that a file lies in, where it is missing.
pub(crate) fn make_folder_of(path: &Path) -> Result<(), BackupError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(BackupError::io("make", folder))
}

/// Removes what an earlier run left.
pub(crate) fn remove_folder(path: &PathBuf) -> Result<(), BackupError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BackupError::io("remove", path)(error)),
        _ => Ok(()),
    }
}
