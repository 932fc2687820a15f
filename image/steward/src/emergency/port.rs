//! Accepting connections: so many at once, none for long, and each told from where it comes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// Connections at once from one address: a browser opens six. Further ones are closed, so that nobody alone keeps others out.
const CONNECTIONS_OF_ONE_MAX: usize = 8;
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
    let places = Places::default();
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
        let peer = address.ip().to_canonical();
        let Some(place) = places.take(peer) else { continue };
        let app = app.clone().layer(Extension(Peer(peer)));
        tokio::spawn(async move {
            // Whoever takes longer, or leaves, is not waited for.
            let _ = tokio::time::timeout(CONNECTION_TIME_MAX, converse(stream, app)).await;
            drop((permit, place));
        });
    }
}

async fn converse(stream: TcpStream, app: Router) -> hyper::Result<()> {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX).keep_alive(false);
    http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app)).await
}

/// The connections that there are, by address.
#[derive(Debug, Clone, Default)]
struct Places(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A connection's place, until it is dropped.
#[derive(Debug)]
struct Place {
    places: Places,
    peer: IpAddr,
}

impl Places {
    /// A place for one more connection; `None` where the address has all that one may have.
    fn take(&self, peer: IpAddr) -> Option<Place> {
        let mut taken = self.lock();
        let count = taken.entry(peer).or_default();
        if *count >= CONNECTIONS_OF_ONE_MAX {
            return None;
        }
        *count += 1;
        Some(Place { places: self.clone(), peer })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().expect("no code panics while it counts connections")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Some(count) = taken.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_so_many_connections_and_others_have_theirs() {
        let places = Places::default();
        let [one, other] = [1, 2].map(|last| IpAddr::from([127, 0, 0, last]));
        let mut taken: Vec<Place> = std::iter::from_fn(|| places.take(one)).collect();
        assert_eq!(taken.len(), CONNECTIONS_OF_ONE_MAX);
        assert!(places.take(other).is_some());
        taken.pop();
        assert!(places.take(one).is_some());
        taken.clear();
        assert!(places.lock().is_empty());
    }
}
