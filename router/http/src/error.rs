//! The one place where errors become answers.

mod causes;

use allerac_router_core::NoRoute;
use allerac_wire::anthropic::{NO_THREADS, Problem, ProblemDetail};
use allerac_wire::ollama::Trouble;
use allerac_wire::{ErrorBody, ErrorDetail};
use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use uuid::Uuid;

use crate::api::request_id;

/// How long a client is asked to wait when the box is busy, in seconds. Most answers take less.
const RETRY_AFTER_BUSY_S: u32 = 5;
/// The longest such wait; by then everything may have changed.
const RETRY_AFTER_MAX_S: u32 = 600;

/// An error, in OpenAI's words; the other APIs' follow from them.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<String>,
    pub(crate) message: String,
    retry_after_s: Option<u32>,
    /// Trying again before somebody has changed something is in vain.
    is_lasting: bool,
}

/// What OpenAI's and Anthropic's clients look for before they try again by themselves.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

const INVALID: &str = "invalid_request_error";
const SERVER: &str = "server_error";

impl ApiError {
    pub(crate) fn new(status: StatusCode, kind: &'static str, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            code: Some(code),
            param: None,
            message: message.into(),
            retry_after_s: None,
            is_lasting: false,
        }
    }

    pub(crate) fn busy(code: &'static str, message: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, code, message);
        Self { retry_after_s: Some(RETRY_AFTER_BUSY_S), ..error }
    }

    pub(crate) fn code(&self) -> Option<&'static str> {
        self.code
    }

    pub(crate) fn with_param(self, param: &str) -> Self {
        Self { param: Some(param.to_owned()), ..self }
    }

    pub(crate) fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }

    pub(crate) fn invalid_value(param: &str, message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, "invalid_value", message).with_param(param)
    }

    pub(crate) fn missing(param: &str) -> Self {
        let message = format!("`{param}` is required");
        Self::new(StatusCode::BAD_REQUEST, INVALID, "missing_required_parameter", message).with_param(param)
    }

    pub(crate) fn unsupported_value(param: &str, message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, "unsupported_value", message).with_param(param)
    }

    pub(crate) fn no_key() -> Self {
        let message = "this needs a key: send `Authorization: Bearer sk-allerac-...`, or `x-api-key: sk-allerac-...`";
        Self::new(StatusCode::UNAUTHORIZED, "authentication_error", "invalid_api_key", message)
    }

    pub(crate) fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission_error", code, message)
    }

    pub(crate) fn key_in_address() -> Self {
        let message = "keys do not belong in addresses, which are kept in logs: revoke this one, and send another in the \
                       header `Authorization: Bearer sk-allerac-...`";
        Self::new(StatusCode::BAD_REQUEST, INVALID, "key_in_address", message)
    }

    /// Somebody who is not who they say, or not yet known to be.
    pub(crate) fn unauthenticated(code: &'static str, message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "authentication_error", code, message)
    }

    /// The same of somebody who is let in, and lacks what this asks for beside that.
    pub(crate) fn into_forbidden(self) -> Self {
        Self { status: StatusCode::FORBIDDEN, kind: "permission_error", ..self }
    }

    pub(crate) fn too_many_tries(wait: std::time::Duration) -> Self {
        let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        let message = format!("too many tries; try again in {seconds} s");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "permission_error", "too_many_tries", message).retry_after(seconds)
    }

    /// Nothing of this name, or not of this person: the two are not told apart.
    pub(crate) fn not_kept(what: &str, id: &str) -> Self {
        let message = format!("you have no {what} `{}` here", shorten(id));
        Self::new(StatusCode::NOT_FOUND, INVALID, "not_found", message)
    }

    pub(crate) fn nothing(what: &str, id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, INVALID, "not_found", format!("there is no {what} {}", shorten(id)))
    }

    pub(crate) fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, INVALID, code, message)
    }

    /// The system below the server did not do what it was asked.
    pub(crate) fn system_silent(message: String) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, SERVER, "system_silent", message)
    }

    /// OpenAI's word for why a response failed.
    pub(crate) fn response_code(&self) -> &'static str {
        match self.status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_exceeded",
            status if status.is_client_error() => "invalid_prompt",
            _ => "server_error",
        }
    }

    /// The same about a request whose conversation came in `input`.
    pub(crate) fn about_input(mut self) -> Self {
        if let Some(param) = self.param.as_mut().filter(|param| param.starts_with("messages")) {
            *param = "input".to_owned();
        }
        self
    }

    pub(crate) fn unknown_path(method: &str, path: &str) -> Self {
        let message = format!("there is no {method} {path} here{}", hint(path));
        Self::new(StatusCode::NOT_FOUND, INVALID, "unknown_url", message)
    }

    pub(crate) fn wrong_method(method: &str, path: &str) -> Self {
        let message = format!("{path} does not answer to {method}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, INVALID, "method_not_allowed", message)
    }

    pub(crate) fn too_many_requests() -> Self {
        Self::busy("engine_overloaded", "too many requests are running; try again in a few seconds")
    }

    pub(crate) fn context_exceeded(prompt: usize, wanted: Option<u32>, context: u32) -> Self {
        let message = match wanted {
            Some(wanted) if prompt < context as usize => format!(
                "the model's context is {context} tokens; the prompt has {prompt} and max_tokens asks for {wanted}"
            ),
            _ => format!("the model's context is {context} tokens; the prompt has {prompt}, which leaves no room"),
        };
        Self::new(StatusCode::BAD_REQUEST, INVALID, "context_length_exceeded", message)
    }

    pub(crate) fn wrong_kind(model: &str, does: &str) -> Self {
        let message = format!("`{model}` {does}");
        Self::new(StatusCode::BAD_REQUEST, INVALID, "model_not_supported", message).with_param("model")
    }

    pub(crate) fn too_long(param: &str, message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, "context_length_exceeded", message).with_param(param)
    }

    pub(crate) fn no_route(model: &str, reason: NoRoute) -> Self {
        let forbidden = |code, message| Self::new(StatusCode::FORBIDDEN, "permission_error", code, message);
        let error = match reason {
            NoRoute::Unknown => Self::new(
                StatusCode::NOT_FOUND,
                INVALID,
                "model_not_found",
                format!("there is no model `{}` here; GET /v1/models lists what there is", shorten(model)),
            ),
            NoRoute::TooLargeForPlan => {
                forbidden("model_not_allowed", format!("your plan does not include models as large as `{model}`"))
            }
            NoRoute::NotInPlan => forbidden(
                "model_not_allowed",
                format!("your plan, or what you and this key are bound to, does not include `{model}`"),
            ),
            NoRoute::OwnModel => forbidden(
                "model_not_allowed",
                format!("`{model}` is not of the catalogue, and your plan includes no adapters and no own models"),
            ),
            NoRoute::MayNotLeave => forbidden(
                "upstream_not_allowed",
                format!("`{model}` runs on another server, and this key may not leave the box for it"),
            ),
        };
        error.with_param("model")
    }

    pub(crate) fn not_in_catalogue(name: &str, there_is: &str) -> Self {
        let message = format!("there is no model `{}` in the catalogue; there is {there_is}", shorten(name));
        Self::new(StatusCode::NOT_FOUND, INVALID, "model_not_found", message).with_param("model")
    }

    pub(crate) fn upstream_refused(status: u16, message: String) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        Self::new(status, INVALID, "upstream_refused", message)
    }

    /// What the box does not do, and what to do instead.
    pub(crate) fn not_done_here(message: &str) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, INVALID, "not_supported", message)
    }

    /// The status as Anthropic's API has it.
    pub(crate) fn anthropic_status(&self) -> StatusCode {
        match self.code {
            Some("engine_overloaded") => StatusCode::from_u16(529).unwrap_or(self.status),
            // Its clients try a 429 again at once.
            Some("insufficient_quota") => StatusCode::PAYMENT_REQUIRED,
            _ => self.status,
        }
    }

    /// What happened, as Anthropic's API has it.
    pub(crate) fn anthropic_detail(&self) -> ProblemDetail {
        let kind = match self.anthropic_status().as_u16() {
            401 => "authentication_error",
            402 => "billing_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            504 => "timeout_error",
            529 => "overloaded_error",
            400..=499 => "invalid_request_error",
            _ => "api_error",
        };
        // What Anthropic's clients look for, to do without.
        let details =
            (self.code == Some(NO_THREADS)).then(|| json!({"error_code": NO_THREADS, "unsupported": ["thread"]}));
        ProblemDetail { kind, message: self.message.clone(), details }
    }

    /// The body of an answer of Anthropic's API.
    pub(crate) fn anthropic(&self, id: Uuid) -> Problem {
        Problem { kind: "error", error: self.anthropic_detail(), request_id: request_id(id) }
    }

    /// The body of an answer of Ollama's API.
    pub(crate) fn ollama(&self) -> Trouble {
        Trouble { error: self.message.clone() }
    }

    /// The body of an answer of OpenAI's API.
    pub(crate) fn body(&self) -> ErrorBody {
        ErrorBody {
            error: ErrorDetail {
                message: self.message.clone(),
                kind: self.kind,
                param: self.param.clone(),
                code: self.code,
            },
        }
    }
}

/// What is likely wrong with the address that a client was given, where its path tells.
fn hint(path: &str) -> &'static str {
    const OPENAI: &[&str] = &["/chat/completions", "/completions", "/embeddings", "/models", "/responses"];
    if path.starts_with("/v1/v1/") || path.starts_with("/v1/api/") {
        "; give clients of Anthropic's and of Ollama's API the address without /v1"
    } else if OPENAI.contains(&path) {
        "; give clients of OpenAI's API the address with /v1"
    } else {
        ""
    }
}

/// A name as a client sent it, cut to what fits a message.
fn shorten(name: &str) -> String {
    name.chars().filter(|character| !character.is_control()).take(100).collect()
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.is_lasting {
            response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // For the layer that knows which API was spoken.
        response.extensions_mut().insert(self);
        response
    }
}
