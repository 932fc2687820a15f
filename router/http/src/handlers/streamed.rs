//! Files that are written while they are sent, so that none is ever in memory as a whole.

use std::io::{self, BufWriter, Write};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::unfold;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Pieces that may wait for the client; then nothing is read.
const PIECES_WAITING_MAX: usize = 8;
/// Bytes of a piece.
const PIECE_BYTES: usize = 64 * 1024;
/// How long a client may take for a piece: the books are held as they were at one moment for as long.
const PIECE_TIME_MAX: Duration = Duration::from_secs(30);

/// A file that a thread writes while it is sent. One that cannot be finished ends the connection: what came must not be
/// taken for the whole.
pub(crate) fn streamed(
    (name, kind): (&'static str, &'static str),
    write: impl FnOnce(BufWriter<Lane>) -> io::Result<()> + Send + 'static,
) -> Response {
    let (sender, receiver) = mpsc::channel(PIECES_WAITING_MAX);
    let lane = Lane { sender: sender.clone(), runtime: Handle::current() };
    tokio::task::spawn_blocking(move || {
        if let Err(error) = write(BufWriter::with_capacity(PIECE_BYTES, lane)) {
            tracing::warn!("an export was not finished: {error}");
            let _ = sender.try_send(Err(error));
        }
    });
    let pieces = unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(disposition) = HeaderValue::try_from(format!("attachment; filename=\"{name}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    response
}

/// Where a thread writes what a client reads.
pub(crate) struct Lane {
    sender: mpsc::Sender<io::Result<Bytes>>,
    runtime: Handle,
}

impl Write for Lane {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = self.sender.send_timeout(Ok(Bytes::copy_from_slice(bytes)), PIECE_TIME_MAX);
        match self.runtime.block_on(piece) {
            Ok(()) => Ok(bytes.len()),
            Err(_) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the client left, or reads too slowly")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
