//! Requests that come again: with the same `Idempotency-Key` and the same body they get the same answer, and are charged
//! once.
//!
//! An answer whose request has a key is read to its end here, whether or not its client still listens, and kept.
//! Refusals and failures are not kept: who tries again may succeed.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use allerac_ledger::Principal;
use allerac_objects::{Kind, New, Store};
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use data_encoding::HEXLOWER;
use futures_util::stream::unfold;
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::error::ApiError;
use crate::handlers::{SERVED_BY, now_s};
use crate::sse;
use crate::state::AppState;

const HEADER: &str = "idempotency-key";
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

/// The keys of requests that are being answered, with their owners. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct InFlight(Arc<Mutex<HashSet<(u64, String)>>>);

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
    asked: String,
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
    fn all(&self) -> MutexGuard<'_, HashSet<(u64, String)>> {
        self.0.lock().expect("no code panics while it holds the keys")
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
        if !state.in_flight.all().insert((owner, key.clone())) {
            let message = "a request with this `Idempotency-Key` is being answered; wait for it";
            return Err(ApiError::conflict("idempotency_key_in_use", message).retry_after(1));
        }
        let (store, in_flight) = (state.store.clone(), state.in_flight.clone());
        let once = Once { store, in_flight, owner, key, asked };
        let kept = state.store.get(Kind::Answer, owner, &once.key).await?;
        match kept.and_then(|object| serde_json::from_slice::<Kept>(&object.head).ok()) {
            None => Ok(Self::First(Some(once))),
            Some(kept) if kept.asked == once.asked => Ok(Self::Again(kept.response())),
            Some(_) => {
                let message = "this `Idempotency-Key` came with another request before; send another key";
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                Err(ApiError::new(status, "invalid_request_error", "idempotency_key_reused", message))
            }
        }
    }
}

/// Answers a request. One with a key is answered to its end, whether or not its client waits.
pub(crate) async fn answer(
    once: Option<Once>,
    answer: impl Future<Output = Result<Response, ApiError>> + Send + 'static,
) -> Result<Response, ApiError> {
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
            asked: self.asked.clone(),
            content_type: header(&header::CONTENT_TYPE),
            served_by: header(&SERVED_BY),
            body: String::new(),
        };
        let (sender, pieces) = mpsc::channel(PIECES_WAITING_MAX);
        tokio::spawn(self.keep(kept, body, sender));
        let stream = unfold(pieces, |mut pieces| async move { Some((pieces.recv().await?, pieces)) });
        Response::from_parts(parts, Body::from_stream(stream))
    }

    /// Reads an answer to its end. The client's last piece waits until all is kept.
    async fn keep(self, mut kept: Kept, mut body: Body, client: mpsc::Sender<Result<Bytes, axum::Error>>) {
        let mut whole = Vec::new();
        let mut held: Option<Bytes> = None;
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
            if whole.len() <= ANSWER_BYTES_MAX {
                whole.extend_from_slice(&data);
            }
            if let Some(before) = held.replace(data) {
                // Whoever has left, or reads nothing, misses the rest, and finds all of it kept.
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

impl Kept {
    fn response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
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
