//! Accepting connections: so many at once, none for long, and each told from where it comes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// How long somebody may take to send the head of a request.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a connection lasts, in which one thing is asked: longer than what takes the steward longest.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(90);
/// How long to wait when a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// From where a request comes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// Serves for as long as it is polled.
pub(super) async fn serve(listener: &TcpListener, app: &Router) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = Arc::clone(&connections).acquire_owned().await.expect("it is never closed");
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                eprintln!("a connection was not accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let app = app.clone().layer(Extension(Peer(address.ip().to_canonical())));
        tokio::spawn(async move {
            // Whoever takes longer, or leaves, is not waited for.
            let _ = tokio::time::timeout(CONNECTION_TIME_MAX, converse(stream, app)).await;
            drop(permit);
        });
    }
}

async fn converse(stream: TcpStream, app: Router) -> hyper::Result<()> {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX).keep_alive(false);
    http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app)).await
}
