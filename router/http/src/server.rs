//! The routes, and what surrounds all of them.

use std::sync::Arc;

use allerac_router_core::ModelKind;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CONNECTION, CONTENT_TYPE, HOST};
use axum::http::{HeaderName, HeaderValue, StatusCode, Version};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::body::Body as _;
use serde_json::Value;
use uuid::Uuid;

use crate::api::Api;
use crate::error::ApiError;
use crate::handlers::{unknown, wrong_method};
use crate::openapi::{document, name_models};
use crate::operations::operations;
use crate::rate::Told;
use crate::state::AppState;
use crate::{assets, handlers};

/// Where the certificate of the box's own authority is.
pub const AUTHORITY_PATH: &str = "/authority.crt";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Everything that is served.
pub fn app(state: AppState) -> Router {
    let operations = operations();
    let document = Arc::new(document(&operations));
    let api = operations.into_iter().fold(Router::new(), |api, operation| api.route(operation.path, operation.handler));
    api.route("/openapi.json", get(|state| async move { describe(&state, &document) }))
        .route("/docs", get(assets::docs))
        .route("/", get(assets::index))
        .route("/assets/{*path}", get(assets::asset))
        .route(AUTHORITY_PATH, get(authority))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        // Outermost, so that refusals carry it too.
        .layer(from_fn_with_state(state.clone(), name_request))
        .with_state(state)
}

/// The certificate that devices may be told to trust; whoever reaches the box sees it anyway.
async fn authority(State(state): State<AppState>) -> Response {
    match state.authority {
        Some(certificate) => ([(CONTENT_TYPE, "application/x-x509-ca-cert")], certificate.to_vec()).into_response(),
        None => ApiError::new(
            StatusCode::NOT_FOUND,
            "invalid_request_error",
            "no_authority",
            "this box has no certificate authority of its own: it does not serve HTTPS, or with a certificate that its \
             owner brought",
        )
        .into_response(),
    }
}

/// The description, with models that are here now in its examples.
fn describe(State(state): &State<AppState>, document: &Value) -> Json<Value> {
    let models = state.registry.models();
    let encoder = models.iter().find(|model| model.kind == ModelKind::Embedding);
    let default = state.registry.default_model();
    let mut document = document.clone();
    name_models(&mut document, [default.as_deref(), encoder.map(|model| model.id.as_str())]);
    Json(document)
}

/// The name of one request, by its time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestId(pub(crate) Uuid);

impl Default for RequestId {
    fn default() -> Self {
        Self(Uuid::now_v7())
    }
}

/// HTTP/2 has the host in another place (RFC 9113, section 8.3.1).
fn name_host(request: &mut Request) {
    let host = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if let Some(host) = host {
        request.headers_mut().entry(HOST).or_insert(host);
    }
}

/// Whether the connection ends where this is refused by its headers: its body is not read then, and the client is to know
/// that it cannot send the next request after it (RFC 9112, section 9.6).
fn ends_where_refused(request: &Request) -> bool {
    request.version() <= Version::HTTP_11 && !request.body().is_end_stream()
}

/// Gives each request a name to ask about it by, says that it was computed here unless a handler knows better, and
/// counts the answer. Errors get the shape of the API that was spoken. A client's own path is no label: there would be no end of them.
async fn name_request(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let api = Api::of(path, request.headers());
    let computes = path.starts_with("/v1/") || api == Api::Ollama;
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let id = RequestId::default();
    let told = Told::default();
    name_host(&mut request);
    let ends = ends_where_refused(&request);
    request.extensions_mut().insert(id);
    request.extensions_mut().insert(told.clone());
    let mut response = next.run(request).await;
    api.finish(&mut response, id.0);
    told.write(api, &state.limits, response.headers_mut());
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    state.metrics.count_http(route, method.as_str(), response.status().as_u16());
    if let Ok(id) = HeaderValue::from_str(&id.0.simple().to_string()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    if ends && matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if computes {
        response.headers_mut().entry(handlers::SERVED_BY).or_insert(HeaderValue::from_static("local"));
    }
    response
}
