//! sha256 of files.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::ModelsError;

/// Bytes read at a time.
const BUFFER_BYTES: usize = 1024 * 1024;

/// The digest of a file, in lower-case hexadecimal.
pub(crate) fn of_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(format!("{:x}", hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
    }
}

/// The digest of bytes.
pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// The digest of a file; empty where there is none. Large files take seconds: a thread of its own reads them.
pub(crate) async fn of_path(path: PathBuf) -> Result<String, ModelsError> {
    let read = tokio::task::spawn_blocking(move || match of_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(ModelsError::file("read", &path)),
    });
    read.await.map_err(|error| ModelsError::Download(error.to_string()))?
}
