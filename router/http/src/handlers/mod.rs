//! The handlers, one file a path.

pub(crate) mod chat;
pub(crate) mod claim;
mod collect;
pub(crate) mod completions;
pub(crate) mod health;
mod logprobs;
pub(crate) mod models;

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use crate::error::ApiError;

/// What tells one build's answers from another's.
pub(crate) const FINGERPRINT: &str = concat!("allerac-", env!("CARGO_PKG_VERSION"));
/// Says where an answer was computed: `local`, or `upstream:NAME`.
pub(crate) const SERVED_BY: HeaderName = HeaderName::from_static("x-allerac-served-by");

/// How long a body may take to arrive. 8 MiB take that long at 2 Mbit/s.
const BODY_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(30);

/// A whole body, read after everything in the headers was checked.
pub(crate) struct Body(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let read = tokio::time::timeout(BODY_TIME_MAX, Bytes::from_request(request, state)).await;
        let invalid = |status, code, message: &str| ApiError::new(status, "invalid_request_error", code, message);
        match read {
            Ok(Ok(bytes)) => Ok(Self(bytes)),
            Ok(Err(error)) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(invalid(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "the body is longer than 8 MiB"))
            }
            Ok(Err(_)) => Err(invalid(StatusCode::BAD_REQUEST, "invalid_body", "the body broke off")),
            Err(_) => Err(invalid(StatusCode::REQUEST_TIMEOUT, "body_timeout", "the body took longer than 30 seconds")),
        }
    }
}

/// Names who computed an answer.
fn served_by(mut response: Response, who: &str) -> Response {
    if let Ok(who) = HeaderValue::from_str(who) {
        response.headers_mut().insert(SERVED_BY, who);
    }
    response
}

/// `GET` or `POST` of a path that is not there.
pub(crate) async fn unknown(request: Request) -> Response {
    ApiError::unknown_path(request.method().as_str(), request.uri().path()).into_response()
}

fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}
