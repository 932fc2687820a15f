//! The ports: accepting connections, plain or by TLS, and letting them end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tower::util::MapRequest;

use crate::peer::Peer;

/// How long a client may take to shake hands, and then to send its headers. Slower ones would hold connections for nothing.
const HEADER_TIME_MAX: Duration = Duration::from_secs(10);
/// Connections of one port at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 1024;
/// Requests of one HTTP/2 connection at once, as many as browsers make.
const STREAMS_MAX: u32 = 100;
/// How long an HTTP/2 connection may be silent before it is asked whether it is alive.
const ALIVE_AFTER: Duration = Duration::from_secs(30);
/// How long running answers may take to end when the server stops.
const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(10);
/// How long to wait when the machine has no file descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A port to serve on.
pub struct Port {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
}

impl Port {
    /// Without TLS: HTTP/1.1.
    #[must_use]
    pub fn plain(listener: TcpListener) -> Self {
        Self { listener, tls: None }
    }

    /// With TLS: HTTP/2 and HTTP/1.1, as the client prefers.
    #[must_use]
    pub fn secured(listener: TcpListener, config: Arc<ServerConfig>) -> Self {
        Self { listener, tls: Some(config.into()) }
    }

    /// Serves until `shutdown` is ready, then lets running answers end within a bounded time.
    pub async fn serve(self, app: Router, shutdown: impl Future<Output = ()>) {
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let graceful = GracefulShutdown::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let permit = tokio::select! {
                permit = Arc::clone(&connections).acquire_owned() => permit.expect("the semaphore is never closed"),
                () = &mut shutdown => break,
            };
            let (stream, address) = tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!("a connection was not accepted: {error}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
                () = &mut shutdown => break,
            };
            // A token is a small packet; it must not wait for the next one.
            let _ = stream.set_nodelay(true);
            let connection = connect(stream, self.tls.clone(), (app.clone(), Peer(address.ip())), graceful.watcher());
            tokio::spawn(async move {
                connection.await;
                drop(permit);
            });
        }
        drop(self.listener);
        let _ = tokio::time::timeout(SHUTDOWN_TIME_MAX, graceful.shutdown()).await;
    }
}

/// Serves one connection to its end.
async fn connect(stream: TcpStream, tls: Option<TlsAcceptor>, app: (Router, Peer), watcher: Watcher) {
    let Some(tls) = tls else { return converse(stream, false, app, watcher).await };
    // Whoever speaks something else, or does not trust the box, leaves.
    let Ok(Ok(stream)) = tokio::time::timeout(HEADER_TIME_MAX, tls.accept(stream)).await else { return };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    converse(stream, is_http2, app, watcher).await;
}

/// Which version is spoken is known beforehand: telling it by the first bytes would wait for them without a limit.
async fn converse<S>(stream: S, is_http2: bool, (app, peer): (Router, Peer), watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let builder = Builder::new(TokioExecutor::new());
    let mut builder = if is_http2 { builder.http2_only() } else { builder.http1_only() };
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIME_MAX);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(ALIVE_AFTER).max_concurrent_streams(STREAMS_MAX);
    let service = MapRequest::new(app, move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request
    });
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).into_owned();
    let _ = watcher.watch(connection).await;
}
