//! Files that are written while they are sent, so that none is ever in memory as a whole.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::unfold;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};

use crate::error::ApiError;

/// Pieces that may wait for the client; then nothing is read.
const PIECES_WAITING_MAX: usize = 8;
/// Bytes of a piece.
const PIECE_BYTES: usize = 64 * 1024;
/// How long a client may take for a piece: the books are held as they were at one moment for as long.
const PIECE_TIME_MAX: Duration = Duration::from_secs(30);

/// How long a client may take for a file.
const FILE_TIME_MAX: Duration = Duration::from_secs(60 * 60);
/// Files that are written at once; each holds a thread, and the books as they were.
const FILES_MAX: usize = 4;

/// Who may have a file written now.
#[derive(Debug, Clone)]
pub struct Exports(Arc<Semaphore>);

impl Default for Exports {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(FILES_MAX)))
    }
}

/// What a thread tells of a file.
enum Told {
    Piece(Bytes),
    /// That was all of it.
    End,
}

/// A file that a thread writes while it is sent. One that cannot be finished ends the connection: what came must not be
/// taken for the whole.
///
/// # Errors
/// Where so many are being written already that this one has to wait.
pub(crate) fn streamed(
    exports: &Exports,
    (name, kind): (&'static str, &'static str),
    write: impl FnOnce(BufWriter<Lane>) -> io::Result<()> + Send + 'static,
) -> Result<Response, ApiError> {
    let permit = Arc::clone(&exports.0).try_acquire_owned().map_err(|_| {
        ApiError::busy("exports_busy", "other exports are being written; try again when one of them is through")
    })?;
    let (sender, receiver) = mpsc::channel(PIECES_WAITING_MAX);
    let lane = Lane { sender: sender.clone(), runtime: Handle::current(), until: Instant::now() + FILE_TIME_MAX };
    tokio::task::spawn_blocking(move || {
        match write(BufWriter::with_capacity(PIECE_BYTES, lane)) {
            // Whoever reads too slowly for the end finds that there was none.
            Ok(()) => drop(Handle::current().block_on(sender.send_timeout(Told::End, PIECE_TIME_MAX))),
            Err(error) => tracing::warn!("an export was not finished: {error}"),
        }
        drop(permit);
    });
    let pieces = unfold(Some(receiver), |receiver| async move {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Told::Piece(piece)) => Some((Ok(piece), Some(receiver))),
            Some(Told::End) => None,
            None => Some((Err(io::Error::from(io::ErrorKind::UnexpectedEof)), None)),
        }
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(disposition) = HeaderValue::try_from(format!("attachment; filename=\"{name}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

/// Where a thread writes what a client reads.
pub(crate) struct Lane {
    sender: mpsc::Sender<Told>,
    runtime: Handle,
    until: Instant,
}

impl Write for Lane {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now()).min(PIECE_TIME_MAX);
        let piece = self.sender.send_timeout(Told::Piece(Bytes::copy_from_slice(bytes)), left);
        match self.runtime.block_on(piece) {
            Ok(()) => Ok(bytes.len()),
            Err(_) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the client left, or reads too slowly")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    const TEXT: (&str, &str) = ("words.txt", "text/plain");

    #[tokio::test]
    async fn what_is_not_whole_ends_in_an_error() {
        let exports = Exports::default();
        let sent = |ends: bool| {
            let response = streamed(&exports, TEXT, move |mut output| {
                output.write_all(b"words")?;
                output.flush()?;
                if ends { Ok(()) } else { Err(io::Error::other("the books cannot be read")) }
            });
            to_bytes(response.unwrap().into_body(), 100)
        };
        assert_eq!(sent(true).await.unwrap(), "words");
        sent(false).await.unwrap_err();
        // The same where the one who writes breaks down.
        let broken = streamed(&exports, TEXT, |_| panic!("as it is meant here")).unwrap();
        to_bytes(broken.into_body(), 100).await.unwrap_err();
    }

    #[tokio::test]
    async fn so_many_are_written_at_once() {
        let exports = Exports::default();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let ended = Arc::new(std::sync::Mutex::new(ended));
        let waiting = || {
            let ended = Arc::clone(&ended);
            // The channel's other end is dropped to end all of them.
            streamed(&exports, TEXT, move |_| {
                ended.lock().expect("nobody panics").recv().unwrap_err();
                Ok(())
            })
        };
        let all: Vec<Response> = (0..FILES_MAX).map(|_| waiting().unwrap()).collect();
        assert!(waiting().is_err());
        drop(end);
        for response in all {
            to_bytes(response.into_body(), 100).await.unwrap();
        }
        let again = streamed(&exports, TEXT, |_| Ok(()));
        to_bytes(again.unwrap().into_body(), 100).await.unwrap();
    }
}
