//! HTTPS of the box: its own certificate authority, or a certificate that its owner brought.
//!
//! The authority is made on the box and stays there. It can vouch for names of local networks alone (RFC 5280, section
//! 4.2.1.10), so a device that trusts it trusts nothing else by it. Certificates of the server live in memory and are
//! made anew before they end and when the box has other addresses.

mod authority;
mod certificates;
mod names;

use std::io;
use std::path::PathBuf;

pub use authority::{Authority, fingerprint};
pub use certificates::{Certificates, Files};
pub use names::Names;

/// Why HTTPS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("cannot use {path}: {source}", path = path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the box's own authority is damaged.
    #[error(
        "{path} is damaged; restore it from a backup, or remove the folder it is in: the box then makes another authority, \
         which devices must be told to trust again", path = path.display()
    )]
    Damaged {
        /// Which one.
        path: PathBuf,
    },
    /// A certificate that the owner brought cannot be used.
    #[error("the certificate {certificate} with the key {key} cannot be used: {why}", certificate = files.certificate.display(), key = files.key.display())]
    Given {
        /// Where they are.
        files: Files,
        /// Why.
        why: String,
    },
    /// A certificate cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Made(String),
}

impl TlsError {
    fn file(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::File { path: path.to_owned(), source }
    }
}

#[cfg(test)]
mod tests;
