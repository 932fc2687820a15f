//! The secret of this box: what keys for its own files are derived from. It leaves the box in sealed backups
//! only.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use allerac_router_core::KvFolder;
use reqwest::Url;

use crate::args::Place;
use crate::failure::{Exit, Failure};

/// The file in the data directory.
const FILE: &str = "box.key";

/// Left in the data directory when a person is erased: what engines know of prompts goes before they start again.
const FORGET: &str = "kv-forget";

/// Has what engines know of prompts removed before they next start.
pub(crate) fn forget_prompts(data_dir: &Path) -> Result<(), Failure> {
    let path = data_dir.join(FORGET);
    fs::write(&path, b"").map_err(|error| Failure::from_io("write", &path, &error))
}

/// Reads the secret; makes it where there is none.
pub(crate) fn secret(data_dir: &Path) -> Result<[u8; 32], Failure> {
    let path = data_dir.join(FILE);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let secret: [u8; 32] = rand::random();
            return match write(&path, &secret) {
                Ok(()) => Ok(secret),
                Err(error) => Err(Failure::from_io("write", &path, &error)),
            };
        }
        read => read.map_err(|error| Failure::from_io("read", &path, &error))?,
    };
    <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| {
        Failure::new(
            Exit::Storage,
            format!("{} is damaged: it has {} bytes instead of 32", path.display(), bytes.len()),
        )
        .hint("restore it from a backup; without it, remove it: what people kept (responses, files) is then lost")
    })
}

/// The secret of the server of this machine whose data directory this is: what opens it to commands without a key.
pub(crate) fn of_server(url: &Url, place: &Place) -> Result<[u8; 32], Failure> {
    let host = url.host_str().unwrap_or_default();
    let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    if host != "localhost" && !address.is_some_and(|address| address.is_loopback()) {
        return Err(Failure::new(Exit::Usage, "another machine needs a key")
            .hint("use a key of its owner, in ALLERAC_KEY or with --key"));
    }
    let data_dir = place.data_dir()?;
    existing(&data_dir)?.ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("no server has run on {} yet", data_dir.display()))
            .hint("name the server's own --data-dir, or a key of its owner with --key")
    })
}

/// The secret of a box that has run; `None` where there is none.
pub(crate) fn existing(data_dir: &Path) -> Result<Option<[u8; 32]>, Failure> {
    if data_dir.join(FILE).exists() { secret(data_dir).map(Some) } else { Ok(None) }
}

/// Writes it whole or not at all, for nobody else to read.
fn write(path: &Path, secret: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("partial");
    let _ = fs::remove_file(&partial);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    file.write_all(secret)?;
    file.sync_all()?;
    fs::rename(partial, path)
}

/// The folder for what engines know of prompts, without the files of models that are gone. `None` where it cannot be
/// made: then nothing is kept there.
pub(crate) fn kv_folder(data_dir: &Path, digests: &[String]) -> Result<Option<KvFolder>, Failure> {
    let secret = secret(data_dir)?;
    let path = data_dir.join("kv");
    if let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(&path) {
        tracing::warn!("known prompts are not kept on disk: {}: {error}", path.display());
        return Ok(None);
    }
    let wanted: Vec<String> = digests.iter().map(|digest| KvFolder::file_name(digest)).collect();
    if data_dir.join(FORGET).exists() {
        let forgotten = fs::remove_dir_all(&path).and_then(|()| DirBuilder::new().mode(0o700).create(&path));
        forgotten
            .and_then(|()| fs::remove_file(data_dir.join(FORGET)))
            .map_err(|error| Failure::from_io("remove what engines know of an erased person from", &path, &error))?;
    }
    for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
        if !wanted.iter().any(|name| entry.file_name() == name.as_str()) {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(Some(KvFolder { path, secret }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_made_once_and_for_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let first = secret(folder.path()).unwrap();
        assert_eq!(secret(folder.path()).unwrap(), first);
        assert_eq!(folder.path().join(FILE).metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_ne!(secret(tempfile::tempdir().unwrap().path()).unwrap(), first);
        fs::write(folder.path().join(FILE), b"short").unwrap();
        let failure = secret(folder.path()).unwrap_err();
        assert!(failure.into_parts().0.contains("is damaged: it has 5 bytes instead of 32"));
    }

    #[test]
    fn files_of_models_that_are_gone_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let kv = kv_folder(folder.path(), &["aa".into()]).unwrap().unwrap();
        for digest in ["aa", "bb"] {
            fs::write(kv.file(digest).path, b"x").unwrap();
        }
        kv_folder(folder.path(), &["aa".into()]).unwrap();
        assert_eq!([kv.file("aa").path.exists(), kv.file("bb").path.exists()], [true, false]);
    }
}
