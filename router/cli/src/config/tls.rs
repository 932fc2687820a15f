//! `[tls]`: HTTPS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use allerac_tls::Files;
use serde::Deserialize;

use crate::failure::{Exit, Failure};

/// As written in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TlsSection {
    /// Where to serve HTTPS; nowhere when absent.
    pub(crate) listen: Option<SocketAddr>,
    /// A certificate of the owner's, with those that lead to its authority (PEM).
    certificate: Option<PathBuf>,
    /// Its key (PEM).
    key: Option<PathBuf>,
}

impl TlsSection {
    /// The owner's certificate, where there is one. `folder` is where relative paths start.
    pub(crate) fn files(&self, folder: &Path) -> Result<Option<Files>, Failure> {
        match (&self.certificate, &self.key) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => {
                Ok(Some(Files { certificate: folder.join(certificate), key: folder.join(key) }))
            }
            _ => Err(Failure::new(
                Exit::Usage,
                "`[tls]` in the configuration file has only one of `certificate` and `key`",
            )
            .hint("name both, or neither to serve with the box's own certificate")),
        }
    }
}
