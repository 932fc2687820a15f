//! Requests that come again: with the same `Idempotency-Key` and the same body they get the same answer, and are charged
//! once.
//!
//! An answer whose request has a key is read to its end here, whether or not its client still listens, and kept.
//! Refusals and failures are not kept: who tries again may succeed. The events of a stream get numbers, so that a client
//! whose connection broke goes on after the last one that came, also while the answer is still being made.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use allerac_ledger::Principal;
use allerac_objects::{Kind, New, Store};
use allerac_wire::Envelope;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use data_encoding::HEXLOWER;
use futures_util::stream::unfold;
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::background::{AsTold, Running};
use crate::error::ApiError;
use crate::handlers::{SERVED_BY, now_s, served_by};
use crate::numbering::{Numbering, events_after};
use crate::sse;
use crate::state::AppState;

const HEADER: &str = "idempotency-key";
/// The number of the last event that came.
const LAST_EVENT: &str = "last-event-id";
/// What is streamed in events.
const EVENTS: &str = "text/event-stream";
/// Says that an answer was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Characters of a key, as is customary.
const KEY_CHARS_MAX: usize = 255;
/// How long an answer is kept, in seconds.
const KEPT_S: i64 = 24 * 3600;
/// Bytes of an answer that is kept. A longer one is given once.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Pieces of an answer that may wait for its client. What the client does not read is kept all the same.
const PIECES_WAITING_MAX: usize = 64;

/// The requests that are being answered, by their owners and keys. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct InFlight(Arc<Mutex<All>>);

type All = HashMap<(u64, String), Arc<Live>>;

/// A request that is being answered.
#[derive(Debug)]
struct Live {
    asked: String,
    /// Once events come.
    stream: OnceLock<Stream>,
}

/// A stream on its way.
#[derive(Debug)]
struct Stream {
    running: Arc<Running>,
    served_by: String,
}

/// What is to be done with a request.
pub(crate) enum Turn {
    /// It is answered, and the answer goes through this where it has a key.
    First(Option<Once>),
    /// It was answered before.
    Again(Response),
}

/// A request with a key, while it is being answered.
pub(crate) struct Once {
    store: Store,
    in_flight: InFlight,
    owner: u64,
    key: String,
    live: Arc<Live>,
}

/// What is kept of an answer.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Tells what was asked from anything else.
    asked: String,
    content_type: String,
    served_by: String,
    body: String,
}

impl InFlight {
    fn all(&self) -> MutexGuard<'_, All> {
        self.0.lock().expect("no code panics while it holds the keys")
    }

    /// Adds one; the one that has the key already where there is one.
    fn add(&self, owner: u64, key: &str, live: &Arc<Live>) -> Option<Arc<Live>> {
        let mut all = self.all();
        let found = all.get(&(owner, key.to_owned())).cloned();
        if found.is_none() {
            all.insert((owner, key.to_owned()), Arc::clone(live));
        }
        found
    }
}

impl Drop for Once {
    fn drop(&mut self) {
        self.in_flight.all().remove(&(self.owner, std::mem::take(&mut self.key)));
    }
}

impl Turn {
    /// Looks for the key of a request of somebody's to a path.
    pub(crate) async fn of(
        state: &AppState,
        caller: &Principal,
        headers: &HeaderMap,
        path: &str,
        body: &[u8],
    ) -> Result<Self, ApiError> {
        let Some(value) = headers.get(HEADER) else { return Ok(Self::First(None)) };
        let key = value.to_str().ok().filter(|key| !key.is_empty() && key.len() <= KEY_CHARS_MAX);
        let key = key.ok_or_else(|| {
            let message = format!("`Idempotency-Key` must be 1 to {KEY_CHARS_MAX} visible ASCII characters");
            ApiError::invalid_value("Idempotency-Key", &message)
        })?;
        // The key may say something itself; on the disk it does not.
        let key = HEXLOWER.encode(blake3::hash(key.as_bytes()).as_bytes());
        let mut hasher = blake3::Hasher::new();
        let asked = hasher.update(path.as_bytes()).update(b"\n").update(body).finalize().to_hex().to_string();
        let owner = caller.salt;
        let last = headers.get(LAST_EVENT).and_then(|value| value.to_str().ok()?.parse().ok());
        let live = Arc::new(Live { asked, stream: OnceLock::new() });
        if let Some(running) = state.in_flight.add(owner, &key, &live) {
            return Ok(Self::Again(running.go_on(&live.asked, last).await?));
        }
        let (store, in_flight) = (state.store.clone(), state.in_flight.clone());
        let once = Once { store, in_flight, owner, key, live };
        let kept = state.store.get(Kind::Answer, owner, &once.key).await?;
        match kept.and_then(|object| serde_json::from_slice::<Kept>(&object.head).ok()) {
            None => Ok(Self::First(Some(once))),
            Some(kept) if kept.asked == once.live.asked => Ok(Self::Again(kept.response(last))),
            Some(_) => Err(reused()),
        }
    }
}

fn reused() -> ApiError {
    let message = "this `Idempotency-Key` came with another request before; send another key";
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request_error", "idempotency_key_reused", message)
}

impl Live {
    /// The events of a stream after a number, and those to come. Whoever names no event is to wait.
    async fn go_on(&self, asked: &str, last: Option<u64>) -> Result<Response, ApiError> {
        match (last, self.stream.get()) {
            (Some(_), _) if self.asked != asked => Err(reused()),
            (Some(_), Some(stream)) => {
                let told = Arc::clone(&stream.running).follow(last);
                let mut response = served_by(sse::answer(told, AsTold).await?, &stream.served_by);
                response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
                Ok(response)
            }
            _ => {
                let message = "a request with this `Idempotency-Key` is being answered; wait for it";
                Err(ApiError::conflict("idempotency_key_in_use", message).retry_after(1))
            }
        }
    }
}

/// Answers the request in a body, unless it was answered before. One with a key is answered to its end, whether or not
/// its client waits.
pub(crate) async fn answer<F>(
    turn: Turn,
    body: Bytes,
    respond: impl FnOnce(Envelope) -> F,
) -> Result<Response, ApiError>
where
    F: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    let once = match turn {
        Turn::Again(response) => return Ok(response),
        Turn::First(once) => once,
    };
    let envelope = Envelope::parse(&body)?;
    drop(body);
    let answer = respond(envelope);
    let Some(once) = once else { return answer.await };
    let task = tokio::spawn(async move { Ok(once.follow(answer.await?)) });
    task.await.unwrap_or_else(|_| Err(allerac_engine_link::EngineError::Stopped.into()))
}

impl Once {
    /// Passes an answer on, and keeps it.
    fn follow(self, response: Response) -> Response {
        if !response.status().is_success() {
            return response;
        }
        let (parts, body) = response.into_parts();
        let header = |name: &HeaderName| {
            parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let kept = Kept {
            asked: self.live.asked.clone(),
            content_type: header(&header::CONTENT_TYPE),
            served_by: header(&SERVED_BY),
            body: String::new(),
        };
        if kept.content_type.starts_with(EVENTS) {
            let stream = Stream { running: Arc::new(Running::new()), served_by: kept.served_by.clone() };
            // Nobody else sets it: a request is answered once.
            let _ = self.live.stream.set(stream);
        }
        let (sender, pieces) = mpsc::channel(PIECES_WAITING_MAX);
        tokio::spawn(self.keep(kept, body, sender));
        let stream = unfold(pieces, |mut pieces| async move { Some((pieces.recv().await?, pieces)) });
        Response::from_parts(parts, Body::from_stream(stream))
    }

    /// Reads an answer to its end. The client's last piece waits until all is kept.
    async fn keep(self, mut kept: Kept, mut body: Body, client: mpsc::Sender<Result<Bytes, axum::Error>>) {
        let mut whole = Vec::new();
        let mut held: Option<Bytes> = None;
        let live = Arc::clone(&self.live);
        let mut numbers = live.stream.get().map(|stream| (Numbering::default(), Ended(&stream.running)));
        let mut listens = true;
        while let Some(frame) = body.frame().await {
            let data = match frame.map(hyper::body::Frame::into_data) {
                Ok(Ok(data)) => data,
                Ok(Err(_)) => continue,
                Err(error) => {
                    sse::deliver(&client, Err(error)).await;
                    return;
                }
            };
            let data = match &mut numbers {
                None => data,
                Some((numbering, Ended(running))) => {
                    let (text, events) = numbering.add(&data);
                    // Beyond what is kept nobody goes on.
                    if whole.len() <= ANSWER_BYTES_MAX {
                        running.note(None, events);
                    }
                    text.into()
                }
            };
            if whole.len() <= ANSWER_BYTES_MAX {
                whole.extend_from_slice(&data);
            }
            if let Some(before) = held.replace(data) {
                // Whoever has left, or reads nothing, misses the rest, and finds all of it kept.
                listens = listens && sse::deliver(&client, Ok(before)).await;
            }
        }
        if let Some((numbering, ended)) = numbers {
            drop(ended);
            // Who sent half an event ended in the middle of it.
            let rest = Some(numbering.rest()).filter(|rest| !rest.is_empty());
            whole.extend_from_slice(rest.as_deref().unwrap_or_default().as_bytes());
            if let Some(before) = rest.and_then(|rest| held.replace(rest.into())) {
                listens = listens && sse::deliver(&client, Ok(before)).await;
            }
        }
        match String::from_utf8(whole) {
            Ok(text) if text.len() <= ANSWER_BYTES_MAX => {
                kept.body = text;
                self.put(&kept).await;
            }
            _ => tracing::warn!("an answer is too long to be kept for a request that comes again"),
        }
        // From here on the key is free: whoever has the whole answer finds it kept.
        drop(self);
        if let Some(last) = held.filter(|_| listens) {
            sse::deliver(&client, Ok(last)).await;
        }
    }

    async fn put(&self, kept: &Kept) {
        let now = now_s();
        let new = New {
            kind: Kind::Answer,
            owner: self.owner,
            id: self.key.clone(),
            created_at: now,
            expires_at: Some(now.saturating_add(KEPT_S)),
            open: false,
            head: serde_json::to_vec(kept).unwrap_or_default(),
            tail: None,
        };
        if let Err(error) = self.store.put(new).await {
            tracing::error!("an answer could not be kept for a request that comes again: {error}");
        }
    }
}

/// Tells who follows a stream that nothing more comes, however it ended.
struct Ended<'a>(&'a Running);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Kept {
    /// The answer; of a stream, what comes after an event.
    fn response(self, last: Option<u64>) -> Response {
        let last = last.filter(|_| self.content_type.starts_with(EVENTS));
        let body = if last.is_some() { events_after(&self.body, last) } else { self.body };
        let mut response = Response::new(Body::from(body));
        let headers = response.headers_mut();
        for (name, value) in [(header::CONTENT_TYPE, self.content_type), (SERVED_BY, self.served_by)] {
            if let Ok(value) = HeaderValue::from_str(&value)
                && !value.is_empty()
            {
                headers.insert(name, value);
            }
        }
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
        response
    }
}
