use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::failure::{Exit, Failure};

/// Where to listen when nobody says.
pub(crate) const DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

/// Opens the port.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| refused(address, &error))
}

/// Why a port could not be opened, and what to do.
pub(crate) fn refused(address: SocketAddr, error: &std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::AddrInUse => Failure::new(Exit::Conflict, format!("the port of {address} is in use"))
            .hint("stop the program that holds it, or choose another port with --listen"),
        ErrorKind::AddrNotAvailable => {
            Failure::new(Exit::Conflict, format!("{} is no address of this machine", address.ip()))
                .hint("use 127.0.0.1 for this machine alone, or 0.0.0.0 for the network")
        }
        ErrorKind::PermissionDenied => Failure::new(Exit::Conflict, format!("this user may not listen on {address}"))
            .hint("choose a port above 1023 with --listen, or grant CAP_NET_BIND_SERVICE"),
        _ => Failure::new(Exit::Failure, format!("cannot listen on {address}: {error}")),
    }
}
