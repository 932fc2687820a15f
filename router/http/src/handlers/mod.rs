//! The handlers, one file a path.

pub(crate) mod account;
pub(crate) mod admin;
pub(crate) mod anthropic;
pub(crate) mod batches;
pub(crate) mod chat;
pub(crate) mod claim;
pub(crate) mod collect;
pub(crate) mod completions;
pub(crate) mod conversations;
pub(crate) mod embeddings;
pub(crate) mod files;
pub(crate) mod generate;
pub(crate) mod health;
pub(crate) mod keep;
pub(crate) mod list;
pub(crate) mod login;
pub(crate) mod logprobs;
pub(crate) mod metrics;
pub(crate) mod models;
pub(crate) mod objects;
pub(crate) mod ollama;
pub(crate) mod organization;
pub(crate) mod passkeys;
pub(crate) mod password_link;
pub(crate) mod rerank;
pub(crate) mod responses;
pub(crate) mod sso;
pub(crate) mod stored;
pub(crate) mod streamed;

use std::time::Duration;

use allerac_wire::Envelope;
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// What tells one build's answers from another's.
pub(crate) const FINGERPRINT: &str = concat!("allerac-", env!("CARGO_PKG_VERSION"));
/// Says where an answer was computed: `local`, or `upstream:NAME`.
pub(crate) const SERVED_BY: HeaderName = HeaderName::from_static("x-allerac-served-by");

/// The longest request, in bytes: a prompt of two million tokens.
const REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The longest request about a model, in bytes: a name and some words.
const SMALL_BYTES_MAX: usize = 64 * 1024;
/// How long responses and chat completions are kept, in seconds: 30 days, as OpenAI has it.
pub(crate) const KEPT_S: i64 = 30 * 24 * 3600;
/// The longest claim, in bytes. Nobody needs a key to send one.
const CLAIM_BYTES_MAX: usize = 4 * 1024;
/// How long a body may take to arrive. 8 MiB take that long at 2 Mbit/s.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);
/// How much of a body that is too long is read and thrown away, in bytes: a client that is still sending
/// when the connection closes never sees the answer.
const DISCARD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A whole body of at most so many bytes, read after everything in the headers was checked.
pub(crate) struct Bounded<const BYTES_MAX: usize>(pub(crate) Bytes);

pub(crate) type Body = Bounded<REQUEST_BYTES_MAX>;
pub(crate) type SmallBody = Bounded<SMALL_BYTES_MAX>;
pub(crate) type ClaimBody = Bounded<CLAIM_BYTES_MAX>;

/// A request that was read as far as its model, in place of the body that it came in.
pub(crate) struct Asked(pub(crate) Envelope);

impl<S: Send + Sync> FromRequest<S> for Asked {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let Bounded(body) = Body::from_request(request, state).await?;
        Ok(Self(Envelope::parse(&body)?))
    }
}

/// What a small body says; what is wrong with it is told by where it is.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let told = ApiError::invalid_value(&path, &error.inner().to_string());
        if path == "." {
            ApiError::new(StatusCode::BAD_REQUEST, "invalid_request_error", "invalid_body", told.message)
        } else {
            told
        }
    })?;
    json.end().map_err(|error| invalid(StatusCode::BAD_REQUEST, "invalid_body", &error.to_string()))?;
    Ok(read)
}

impl<S: Send + Sync, const BYTES_MAX: usize> FromRequest<S> for Bounded<BYTES_MAX> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        refuse_compressed(&request)?;
        let announced = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let mut body = request.into_body();
        if announced.is_some_and(|length: usize| length > BYTES_MAX) {
            return Err(too_long(body, BYTES_MAX));
        }
        match tokio::time::timeout(BODY_TIME_MAX, read(&mut body, BYTES_MAX)).await {
            Ok(Ok(Some(bytes))) => Ok(Self(bytes)),
            Ok(Ok(None)) => Err(too_long(body, BYTES_MAX)),
            Ok(Err(())) => Err(invalid(StatusCode::BAD_REQUEST, "invalid_body", "the body broke off")),
            Err(_) => Err(invalid(StatusCode::REQUEST_TIMEOUT, "body_timeout", "the body took longer than 30 seconds")),
        }
    }
}

/// Bodies are read as they are: what a few bytes unpack to would not be known before the memory is taken.
fn refuse_compressed(request: &Request) -> Result<(), ApiError> {
    let encodings = request.headers().get_all(CONTENT_ENCODING).iter();
    if encodings.into_iter().all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    let message = "the body has a `Content-Encoding`, and only bodies without one are read: send it uncompressed";
    Err(invalid(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", message))
}

/// The whole body, or `None` when it is too long.
async fn read(body: &mut axum::body::Body, bytes_max: usize) -> Result<Option<Bytes>, ()> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(drop)?.into_data() {
            whole.extend_from_slice(&data);
            if whole.len() > bytes_max {
                return Ok(None);
            }
        }
    }
    Ok(Some(whole.freeze()))
}

/// Refuses a body, and reads on beside the answer for a bounded while.
fn too_long(mut body: axum::body::Body, bytes_max: usize) -> ApiError {
    tokio::spawn(tokio::time::timeout(BODY_TIME_MAX, async move {
        let mut discarded = 0;
        while let Some(Ok(frame)) = body.frame().await {
            discarded += frame.data_ref().map_or(0, Bytes::len);
            if discarded > DISCARD_BYTES_MAX {
                return;
            }
        }
    }));
    invalid(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", &format!("the body is longer than {bytes_max} bytes"))
}

fn invalid(status: StatusCode, code: &'static str, message: &str) -> ApiError {
    ApiError::new(status, "invalid_request_error", code, message)
}

/// Names who computed an answer.
pub(crate) fn served_by(mut response: Response, who: &str) -> Response {
    if let Ok(who) = HeaderValue::from_str(who) {
        response.headers_mut().insert(SERVED_BY, who);
    }
    response
}

/// A path that is not there. Addresses that clients put together of two parts have slashes too many: they are sent to
/// the path that was meant.
pub(crate) async fn unknown(request: Request) -> Response {
    let uri = request.uri();
    let meant = meant(uri.path());
    // `OPTIONS *` asks about no path.
    if meant == uri.path() || !uri.path().starts_with('/') {
        return ApiError::unknown_path(request.method().as_str(), uri.path()).into_response();
    }
    let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
    Redirect::permanent(&format!("{meant}{query}")).into_response()
}

/// A path without empty parts.
fn meant(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    format!("/{}", parts.join("/"))
}

/// A path that is there, for other methods.
pub(crate) async fn wrong_method(request: Request) -> Response {
    ApiError::wrong_method(request.method().as_str(), request.uri().path()).into_response()
}

pub(crate) fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_no_empty_parts() {
        for (path, wanted) in [
            ("/v1//chat/completions", "/v1/chat/completions"),
            ("//v1/models/", "/v1/models"),
            ("//elsewhere.example/x", "/elsewhere.example/x"),
            ("/v1/models", "/v1/models"),
            ("//", "/"),
        ] {
            assert_eq!(meant(path), wanted);
        }
    }
}
