//! HTTPS beside HTTP: the port, and the certificate that is kept fresh.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use allerac_discovery::{Label, Scope, lan_addresses};
use allerac_http::Port;
use allerac_tls::{Authority, Certificates, TlsError};
use tokio::net::TcpListener;

use super::listen;
use crate::config::ConfigFile;
use crate::failure::{Exit, Failure};

/// How often it is looked whether the box has other addresses, or the certificate ends.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The port for HTTPS, open, and what it shows.
pub(super) struct Secure {
    pub(super) address: SocketAddr,
    pub(super) certificates: Arc<Certificates>,
    listener: TcpListener,
}

/// Where the box's own authority is.
pub(crate) fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("tls")
}

impl Secure {
    /// Opens the port, where one is wanted.
    pub(super) async fn open(
        wanted: Option<SocketAddr>,
        config: &ConfigFile,
        data_dir: &Path,
    ) -> Result<Option<Self>, Failure> {
        let files = config.certificate()?;
        let Some(wanted) = wanted.or(config.tls.listen) else {
            if files.is_some() {
                tracing::warn!("`[tls]` names a certificate, but no `listen`: HTTPS is not served");
            }
            return Ok(None);
        };
        let certificates = match files {
            Some(files) => Certificates::given(files),
            None => own(data_dir, &config.label()),
        };
        let certificates = certificates.map_err(|error| Failure::from_error(Exit::Storage, &error))?;
        let listener = listen::bind(wanted).await?;
        let address = listener.local_addr().map_err(|error| listen::refused(wanted, &error))?;
        Ok(Some(Self { address, certificates: Arc::new(certificates), listener }))
    }

    /// The authority's certificate, where it is the box's own.
    pub(super) fn authority(&self) -> Option<&Authority> {
        self.certificates.authority()
    }

    /// What serves, and a task that keeps the certificate fresh for as long as it runs.
    pub(super) fn start(self) -> Result<(Port, tokio::task::JoinHandle<()>), Failure> {
        let config = self.certificates.server_config().map_err(|error| Failure::from_error(Exit::Failure, &error))?;
        let keeper = tokio::spawn(keep(self.certificates));
        Ok((Port::secured(self.listener, config), keeper))
    }
}

fn own(data_dir: &Path, label: &Label) -> Result<Certificates, TlsError> {
    let authority = Authority::open(&folder(data_dir))?;
    Certificates::own(authority, &label.to_string(), addresses(), SystemTime::now())
}

/// Of all network cards: whoever reaches the box by one of them is to be served.
fn addresses() -> Vec<IpAddr> {
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    Scope::of(everywhere).and_then(|scope| lan_addresses(scope).ok()).unwrap_or_default()
}

async fn keep(certificates: Arc<Certificates>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        match certificates.renew(addresses(), SystemTime::now()) {
            Ok(false) => {}
            Ok(true) => tracing::info!("HTTPS shows another certificate"),
            Err(error) => tracing::warn!("HTTPS goes on with the certificate it has: {error}"),
        }
    }
}
