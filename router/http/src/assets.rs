//! The page, embedded in the binary.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::error::ApiError;

/// The page loads from here and talks to here, and nothing else.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(RustEmbed)]
#[folder = "../web/dist"]
struct Page;

/// The same for the API's description: what draws it writes styles into the page.
const DOCS_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    connect-src 'self'; img-src 'self' data:; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /`.
pub(crate) async fn index() -> Response {
    file("index.html", "no-cache")
}

/// `GET /docs`: the API's description, and a place to try it.
pub(crate) async fn docs() -> Response {
    let mut response = file("docs.html", "no-cache");
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(DOCS_SECURITY_POLICY));
    response
}

/// `GET /assets/{path}`: file names carry a hash of their content.
pub(crate) async fn asset(axum::extract::Path(path): axum::extract::Path<String>) -> Response {
    file(&format!("assets/{path}"), "public, max-age=31536000, immutable")
}

fn file(path: &str, cache: &'static str) -> Response {
    let Some(EmbeddedFile { data, metadata, .. }) = Page::get(path) else {
        return ApiError::unknown_path("GET", &format!("/{path}")).into_response();
    };
    let mut response = (StatusCode::OK, Body::from(data.into_owned())).into_response();
    let headers = response.headers_mut();
    if let Ok(kind) = HeaderValue::from_str(metadata.mimetype()) {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
