//! The routes, and the loop that accepts connections.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use allerac_router_core::ModelKind;
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::util::MapRequest;
use uuid::Uuid;

use crate::api::Api;
use crate::handlers::{unknown, wrong_method};
use crate::openapi::{document, name_models};
use crate::operations::operations;
use crate::rate::Told;
use crate::state::AppState;
use crate::{assets, handlers};

/// How long a client may take to send its headers. Slower ones would hold connections for nothing.
const HEADER_TIME_MAX: Duration = Duration::from_secs(10);
/// Connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 1024;
/// How long running answers may take to end when the server stops.
const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(10);
/// How long to wait when the machine has no file descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        // Outermost, so that refusals carry it too.
        .layer(from_fn_with_state(state.clone(), name_request))
        .with_state(state)
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

/// From where a request came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // Every connection tells; without one, all are one.
        Ok(parts.extensions.get().copied().unwrap_or(Self(Ipv4Addr::UNSPECIFIED.into())))
    }
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
    if computes {
        response.headers_mut().entry(handlers::SERVED_BY).or_insert(HeaderValue::from_static("local"));
    }
    response
}

/// Serves until `shutdown` is ready, then lets running answers end within a bounded time.
pub async fn serve(listener: TcpListener, app: Router, shutdown: impl Future<Output = ()>) {
    // HTTP/2 has no use on a plain connection, and telling it apart would wait without a limit.
    let mut server = Builder::new(TokioExecutor::new()).http1_only();
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIME_MAX);
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&connections).acquire_owned() => permit.expect("the semaphore is never closed"),
            () = &mut shutdown => break,
        };
        let (stream, address) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!("a connection was not accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = &mut shutdown => break,
        };
        // A token is a small packet; it must not wait for the next one.
        let _ = stream.set_nodelay(true);
        let peer = Peer(address.ip());
        let service = MapRequest::new(app.clone(), move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(peer);
            request
        });
        let service = TowerToHyperService::new(service);
        let connection = graceful.watch(server.serve_connection(TokioIo::new(stream), service).into_owned());
        tokio::spawn(async move {
            let _ = connection.await;
            drop(permit);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(SHUTDOWN_TIME_MAX, graceful.shutdown()).await;
}
