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
    use super::*;

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
