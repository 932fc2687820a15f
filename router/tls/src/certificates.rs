//! The certificate that the server shows now.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::TlsError;
use crate::authority::{Authority, VALID};
use crate::names::Names;

/// A certificate is made anew when it holds for less than this.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);
/// The longest file with certificates, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A certificate that the owner brought: PEM files, the certificate followed by those that lead to its authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The certificates.
    pub certificate: PathBuf,
    /// The key of the first.
    pub key: PathBuf,
}

/// Where certificates come from.
enum Origin {
    Own { authority: Box<Authority>, label: String },
    Given(Files),
}

/// The certificate that the server shows, and where it comes from.
pub struct Certificates {
    origin: Origin,
    shown: RwLock<Shown>,
}

/// A certificate, and what it was made of.
struct Shown {
    key: Arc<CertifiedKey>,
    /// What it is for; empty for one that the owner brought.
    names: Names,
    /// When it was made, or when its files were written.
    since: SystemTime,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificates")
    }
}

impl Certificates {
    /// Made by the box itself, for its name and addresses.
    ///
    /// # Errors
    /// [`TlsError::Made`] when a certificate cannot be made.
    pub fn own(
        authority: Authority,
        label: &str,
        addresses: impl IntoIterator<Item = IpAddr>,
        now: SystemTime,
    ) -> Result<Self, TlsError> {
        let names = Names::of(label, addresses);
        let shown = Shown { key: authority.issue(&names, now)?, names, since: now };
        Ok(Self {
            origin: Origin::Own { authority: Box::new(authority), label: label.to_owned() },
            shown: RwLock::new(shown),
        })
    }

    /// What whoever stole the authority would show.
    #[cfg(test)]
    pub(crate) fn of_a_thief(authority: Authority, name: &str, now: SystemTime) -> Self {
        let names = Names::any(name);
        let shown = Shown { key: authority.issue(&names, now).expect("it can be made"), names, since: now };
        Self {
            origin: Origin::Own { authority: Box::new(authority), label: name.to_owned() },
            shown: RwLock::new(shown),
        }
    }

    /// Those that the owner brought.
    ///
    /// # Errors
    /// [`TlsError::Given`] when they cannot be used, [`TlsError::File`] when they cannot be read.
    pub fn given(files: Files) -> Result<Self, TlsError> {
        let shown = read(&files)?;
        Ok(Self { origin: Origin::Given(files), shown: RwLock::new(shown) })
    }

    /// The box's own authority, where it is what vouches.
    #[must_use]
    pub fn authority(&self) -> Option<&Authority> {
        match &self.origin {
            Origin::Own { authority, .. } => Some(authority),
            Origin::Given(_) => None,
        }
    }

    /// Shows another certificate where the box has other addresses, the present one ends soon, or its files were
    /// replaced. `true` when it did. What is shown stays where there is no better one.
    ///
    /// # Errors
    /// [`TlsError`] when another one is due and cannot be had.
    pub fn renew(&self, addresses: impl IntoIterator<Item = IpAddr>, now: SystemTime) -> Result<bool, TlsError> {
        let (names, since) = {
            let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
            (shown.names.clone(), shown.since)
        };
        let next = match &self.origin {
            Origin::Own { authority, label } => {
                let wanted = Names::of(label, addresses);
                // A clock that was set back has it made anew too.
                let holds = now.duration_since(since).is_ok_and(|age| age + RENEW_BEFORE < VALID);
                if holds && wanted == names {
                    return Ok(false);
                }
                Shown { key: authority.issue(&wanted, now)?, names: wanted, since: now }
            }
            Origin::Given(files) if written(files)? == since => return Ok(false),
            Origin::Given(files) => read(files)?,
        };
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(true)
    }

    /// How the server speaks TLS: 1.2 and 1.3, HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// [`TlsError::Made`] when the library refuses its own defaults.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, TlsError> {
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder =
            builder.with_safe_default_protocol_versions().map_err(|error| TlsError::Made(error.to_string()))?;
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(self) as _;
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // By whatever name the box was called: a browser tells its user better than a broken handshake.
        Some(Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner).key))
    }
}

/// When the files were last written, the later of both.
fn written(files: &Files) -> Result<SystemTime, TlsError> {
    let modified = |path: &PathBuf| {
        let metadata = fs::metadata(path).map_err(TlsError::file(path))?;
        if metadata.len() > FILE_BYTES_MAX {
            return Err(TlsError::Given { files: files.clone(), why: format!("{} is too long", path.display()) });
        }
        metadata.modified().map_err(TlsError::file(path))
    };
    Ok(modified(&files.certificate)?.max(modified(&files.key)?))
}

fn read(files: &Files) -> Result<Shown, TlsError> {
    let refused = |why: String| TlsError::Given { files: files.clone(), why };
    let since = written(files)?;
    let text = |path: &PathBuf| fs::read(path).map_err(TlsError::file(path));
    let chain: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_slice_iter(&text(&files.certificate)?).collect();
    let chain = chain.map_err(|error| refused(error.to_string()))?;
    if chain.is_empty() {
        return Err(refused("there is no certificate in the first".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(&text(&files.key)?).map_err(|error| refused(error.to_string()))?;
    let key = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider());
    let key = key.map_err(|error| refused(error.to_string()))?;
    Ok(Shown { key: Arc::new(key), names: Names::default(), since })
}
