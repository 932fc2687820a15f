//! Answers as server-sent events, or in lines.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::stream::unfold;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::error::ApiError;
use crate::progress::Wait;

/// How long a stream may be silent before it says that it is still there.
pub(crate) const COMMENT_EVERY: Duration = Duration::from_secs(5);
/// How long a client may read nothing while its answer waits. What it asked for holds memory of others.
const CLIENT_SILENCE_MAX: Duration = Duration::from_secs(60);
/// The end of a stream that went well.
pub(crate) const DONE: &str = "data: [DONE]\n\n";

/// Turns progress into events, or into whatever else an API streams.
pub(crate) trait Format<P>: Send + 'static {
    /// What it is, for the client.
    const CONTENT_TYPE: &'static str = "text/event-stream; charset=utf-8";
    /// What a silent stream says from time to time; nothing where the API has no word for it.
    const WAITING: Option<&'static str> = Some(": waiting\n\n");

    /// The events of one piece of progress, and whether it was the last.
    fn format(&mut self, progress: P) -> (String, bool);
}

/// What a lane carries: progress that may be a failure.
pub(crate) trait Lane: Send + Sized + 'static {
    /// The error of a failure.
    fn failed(self) -> Result<Self, ApiError>;
}

/// A streamed answer; an error where it fails before a client should hear that it waits.
pub(crate) async fn answer<P: Lane>(mut lane: mpsc::Receiver<P>, format: impl Format<P>) -> Result<Response, ApiError> {
    let first = tokio::time::timeout(COMMENT_EVERY, lane.recv()).await.ok().flatten();
    let first = first.map(P::failed).transpose()?;
    Ok(response(first, lane, format))
}

/// A streamed answer. `first` was received already.
fn response<P: Send + 'static, F: Format<P>>(first: Option<P>, lane: mpsc::Receiver<P>, format: F) -> Response {
    let state = Some((first, lane, format));
    let stream = unfold(state, |state| async move {
        let (first, mut lane, mut format) = state?;
        let progress = match (first, F::WAITING) {
            (Some(first), _) => Ok(Some(first)),
            (None, None) => Ok(lane.recv().await),
            (None, Some(waiting)) => tokio::time::timeout(COMMENT_EVERY, lane.recv())
                .await
                .map_err(|_| Bytes::from_static(waiting.as_bytes())),
        };
        match progress {
            Err(waiting) => Some((Ok(waiting), Some((None, lane, format)))),
            Ok(None) => None,
            Ok(Some(progress)) => {
                let (text, last) = format.format(progress);
                let next = (!last).then_some((None, lane, format));
                Some((Ok::<_, std::convert::Infallible>(Bytes::from(text)), next))
            }
        }
    });
    let mut response = Response::new(Body::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(F::CONTENT_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Asks a proxy in between not to collect the stream.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Hands a piece to the client; `false` when the client is gone, or has read nothing for as long as we wait.
pub(crate) async fn deliver<P>(lane: &mpsc::Sender<P>, progress: P) -> bool {
    matches!(tokio::time::timeout(CLIENT_SILENCE_MAX, lane.send(progress)).await, Ok(Ok(())))
}

/// One event.
pub(crate) fn event(data: &impl Serialize) -> String {
    let json = serde_json::to_string(data).expect("answers are plain data");
    format!("data: {json}\n\n")
}

/// A comment that tells a waiting client where it stands; clients that want events only pass it over.
pub(crate) fn waits(wait: Wait) -> String {
    let about = |ms: u128| match ms.div_ceil(1000) {
        0 => String::new(),
        seconds => format!(", about {seconds} s"),
    };
    match wait {
        Wait::Turn { place, wait_ms } => format!(": place {place} in the queue{}\n\n", about(wait_ms.into())),
        Wait::Load(rest) => format!(": the model is being loaded{}\n\n", about(rest.as_millis())),
        Wait::Memory => ": other models have the memory\n\n".to_owned(),
    }
}

/// An error in the middle of a stream; nothing follows it.
pub(crate) fn error_event(error: &ApiError) -> String {
    event(&error.body())
}
