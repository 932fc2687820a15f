//! Which API a request speaks: it decides how errors look.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;
use uuid::Uuid;

use crate::error::ApiError;

/// What Anthropic's clients say of the version of their API.
const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
/// Where Anthropic's clients look for the name of a request.
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// The APIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    OpenAi,
    Anthropic,
    Ollama,
}

impl Api {
    /// The API of a request: by its path, and for the paths that two of them share by a header.
    pub(crate) fn of(path: &str, headers: &HeaderMap) -> Self {
        let is_messages = path == "/v1/messages" || path.starts_with("/v1/messages/");
        if is_messages || (path.starts_with("/v1/") && headers.contains_key(ANTHROPIC_VERSION)) {
            Self::Anthropic
        } else if path == "/api" || path.starts_with("/api/") {
            Self::Ollama
        } else {
            Self::OpenAi
        }
    }

    /// Names the request and brings an error into the API's shape.
    pub(crate) fn finish(self, response: &mut Response, id: Uuid) {
        if self == Self::Anthropic
            && let Ok(id) = HeaderValue::from_str(&request_id(id))
        {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        let Some(error) = response.extensions_mut().remove::<ApiError>() else { return };
        let json = match self {
            Self::OpenAi => return,
            Self::Anthropic => {
                *response.status_mut() = error.anthropic_status();
                serde_json::to_vec(&error.anthropic(id))
            }
            Self::Ollama => serde_json::to_vec(&error.ollama()),
        };
        response.headers_mut().remove(header::CONTENT_LENGTH);
        *response.body_mut() = Body::from(json.expect("errors are plain data"));
    }
}

/// A request's name as Anthropic's API has it.
pub(crate) fn request_id(id: Uuid) -> String {
    format!("req_{}", id.simple())
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use axum::response::IntoResponse;
    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    use super::*;

    #[tokio::test]
    async fn an_error_has_the_shape_of_its_api() {
        let message = ApiError::too_many_requests().message;
        let problem = json!({"type": "overloaded_error", "message": message});
        let id = request_id(Uuid::nil());
        let detail = json!({"message": message, "type": "server_error", "param": null, "code": "engine_overloaded"});
        for (api, status, expected) in [
            (Api::OpenAi, 503, json!({"error": detail})),
            (Api::Anthropic, 529, json!({"type": "error", "error": problem, "request_id": id})),
            (Api::Ollama, 503, json!({"error": message})),
        ] {
            let mut response = ApiError::too_many_requests().into_response();
            api.finish(&mut response, Uuid::nil());
            assert_eq!(response.status(), StatusCode::from_u16(status).unwrap());
            assert_eq!(response.headers()[header::RETRY_AFTER], "5");
            let named = response.headers().get(REQUEST_ID).map(|id| id.to_str().unwrap().to_owned());
            assert_eq!(named, (api == Api::Anthropic).then(|| id.clone()));
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
        }
    }

    #[test]
    fn the_path_tells_the_api_and_a_header_where_two_share_it() {
        let plain = HeaderMap::new();
        let mut versioned = HeaderMap::new();
        versioned.insert(ANTHROPIC_VERSION, HeaderValue::from_static("2023-06-01"));
        for (path, headers, api) in [
            ("/v1/messages", &plain, Api::Anthropic),
            ("/v1/messages/count_tokens", &plain, Api::Anthropic),
            ("/v1/messagesx", &plain, Api::OpenAi),
            ("/v1/models", &plain, Api::OpenAi),
            ("/v1/models", &versioned, Api::Anthropic),
            ("/api/chat", &versioned, Api::Ollama),
            ("/apix", &plain, Api::OpenAi),
            ("/", &versioned, Api::OpenAi),
        ] {
            assert_eq!(Api::of(path, headers), api, "{path}");
        }
    }
}
