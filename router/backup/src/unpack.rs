//! Opens a backup.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use age::{DecryptError, Decryptor};
use flate2::read::GzDecoder;
use tar::Archive;

use crate::error::BackupError;
use crate::key::Unlock;
use crate::manifest::Manifest;
use crate::pack::{FILES, MANIFEST, hash, make_folder_of};

/// The longest manifest; one is a few hundred bytes and the names of models.
const MANIFEST_BYTES_MAX: u64 = 1024 * 1024;

/// Unpacks a backup into a folder that is there and empty. Each file in it is what the manifest says, or this fails;
/// then the folder may hold a part.
///
/// # Errors
/// [`BackupError`] with what is wrong with it.
pub fn unpack(file: &Path, unlock: &Unlock, folder: &Path) -> Result<Manifest, BackupError> {
    let opened = File::open(file).map_err(BackupError::io("read", file))?;
    let decryptor = Decryptor::new_buffered(BufReader::new(opened)).map_err(|error| match error {
        DecryptError::Io(source) if source.kind() != io::ErrorKind::UnexpectedEof => {
            BackupError::io("read", file)(source)
        }
        DecryptError::UnknownFormat => BackupError::Newer("of age".to_owned()),
        _ => BackupError::NotABackup(file.to_owned()),
    })?;
    match (decryptor.is_scrypt(), unlock.is_passphrase()) {
        (true, false) => return Err(BackupError::OtherKey("with a passphrase; give that, and no identity")),
        (false, true) => {
            return Err(BackupError::OtherKey("for age recipients; give an identity file: --identity FILE"));
        }
        _ => {}
    }
    let identities = unlock.identities()?;
    let plain = decryptor.decrypt(identities.iter().map(|identity| &**identity)).map_err(|error| match error {
        DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed | DecryptError::NoMatchingKeys => {
            BackupError::WrongKey(unlock.word())
        }
        DecryptError::Io(source) => BackupError::Damaged(source.to_string()),
        other => BackupError::Damaged(other.to_string()),
    })?;
    extract(plain, folder)
}

fn extract(plain: impl Read, folder: &Path) -> Result<Manifest, BackupError> {
    // What age finds changed or cut off comes as an error of reading.
    let damaged = |error: io::Error| BackupError::Damaged(error.to_string());
    let mut archive = Archive::new(GzDecoder::new(plain));
    let mut entries = archive.entries().map_err(damaged)?;
    let mut first =
        entries.next().ok_or_else(|| BackupError::Damaged("there is nothing in it".to_owned()))?.map_err(damaged)?;
    if first.path().map_err(damaged)?.as_os_str() != MANIFEST {
        return Err(BackupError::Damaged("it does not begin with its manifest".to_owned()));
    }
    let mut text = Vec::new();
    first.by_ref().take(MANIFEST_BYTES_MAX).read_to_end(&mut text).map_err(damaged)?;
    let manifest = Manifest::parse(&text)?;
    let mut expected = manifest.files.iter();
    for entry in entries {
        let mut entry = entry.map_err(damaged)?;
        let name = entry.path().map_err(damaged)?.to_string_lossy().into_owned();
        // Names come from a list of ours, so none leads out of the folder.
        let packed = expected.next().filter(|packed| packed.name == name && FILES.contains(&name.as_str()));
        let Some(packed) = packed else {
            return Err(BackupError::Damaged(format!("`{name}` is not where it should be")));
        };
        let path = folder.join(&name);
        make_folder_of(&path)?;
        let output = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut output = output.map_err(BackupError::io("write", &path))?;
        copy(&mut entry, &mut output, &path)?;
        output.sync_all().map_err(BackupError::io("write", &path))?;
        if hash(&path)? != (packed.bytes, packed.blake3.clone()) {
            return Err(BackupError::Damaged(format!("`{name}` is not as it was packed")));
        }
    }
    if let Some(missing) = expected.next() {
        return Err(BackupError::Damaged(format!("`{}` is missing", missing.name)));
    }
    // The end of the age file is part of what is checked.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(damaged)?;
    io::copy(&mut rest.into_inner(), &mut io::sink()).map_err(damaged)?;
    Ok(manifest)
}

/// Copies, and tells the fault of the backup from that of the disk.
fn copy(from: &mut impl Read, to: &mut File, path: &Path) -> Result<(), BackupError> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = from.read(&mut buffer).map_err(|error| BackupError::Damaged(error.to_string()))?;
        if read == 0 {
            return Ok(());
        }
        io::Write::write_all(to, &buffer[..read]).map_err(BackupError::io("write", path))?;
    }
}
