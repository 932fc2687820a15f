//! Who a request comes from; known before its body is read.

use std::time::Instant;

use allerac_ledger::{Principal, Right};
use allerac_router_core::{Access, Limited, Permit};
use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderName, Method};
use uuid::Uuid;

use crate::error::ApiError;
use crate::origin;
use crate::payment::limited;
use crate::rate::Told;
use crate::server::RequestId;
use crate::session;
use crate::state::AppState;

/// Where Anthropic's clients put a key.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// How every key begins.
const KEY_PREFIX: &str = "sk-allerac-";

/// A request of somebody who may do what its path stands for.
#[derive(Debug, Clone)]
pub(crate) struct Authenticated(pub(crate) Principal);

impl FromRequestParts<AppState> for Authenticated {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let caller = caller(parts, state)?;
        caller.may(needed(&parts.method, parts.uri.path()))?;
        // For whatever else in this request needs to know who asks.
        parts.extensions.insert(caller.clone());
        Ok(Self(caller))
    }
}

/// What a request of a method to a path is.
pub(crate) fn needed(method: &Method, path: &str) -> Right {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let within = |roots: &[&str]| {
        let inside = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        roots.iter().any(|root| inside(root))
    };
    if within(&["/api/tags", "/api/show", "/api/ps", "/api/version"]) || (reads && within(&["/v1/models"])) {
        Right::SeeModels
    } else if within(&["/v1/files", "/v1/batches"]) {
        Right::Files
    } else if within(&["/v1/account"]) {
        Right::Account
    } else if reads && within(&["/metrics", "/v1/admin", "/v1/organization"]) {
        Right::Look
    } else if within(&["/v1/admin", "/v1/organization", "/v1/models"]) || within(ORDERS) {
        Right::Administer
    } else {
        Right::Infer
    }
}

/// What changes the models of the box, in Ollama's API.
const ORDERS: &[&str] = &["/api/pull", "/api/delete", "/api/create", "/api/copy", "/api/push", "/api/blobs"];

/// Who presents a key, or is signed in.
fn caller(parts: &Parts, state: &AppState) -> Result<Principal, ApiError> {
    refuse_keys_in_addresses(parts)?;
    match (bearer(parts), session::presented(&parts.headers)) {
        (Ok(key), _) => Ok(state.ledger.authenticate(key)?),
        // A broken header is told of, and not passed over for a cookie.
        (Err(_), Some(session)) if !has_key(parts) => {
            origin::check_signed_in(&parts.method, &parts.headers)?;
            Ok(state.ledger.session(session)?)
        }
        (Err(error), _) => Err(error),
    }
}

/// Addresses stand in logs, histories and proxies.
fn refuse_keys_in_addresses(parts: &Parts) -> Result<(), ApiError> {
    let uri = &parts.uri;
    if uri.query().is_some_and(|query| query.contains(KEY_PREFIX)) || uri.path().contains(KEY_PREFIX) {
        return Err(ApiError::key_in_address());
    }
    Ok(())
}

fn has_key(parts: &Parts) -> bool {
    parts.headers.contains_key(AUTHORIZATION) || parts.headers.contains_key(API_KEY)
}

/// The key as OpenAI's and Ollama's clients send it, or as Anthropic's do.
fn bearer(parts: &Parts) -> Result<&str, ApiError> {
    let text = |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let header = match (text(AUTHORIZATION), text(API_KEY)) {
        (None, Some(key)) => return Ok(key.trim()),
        (header, _) => header,
    };
    let (scheme, key) = header.and_then(|header| header.split_once(' ')).ok_or_else(ApiError::no_key)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(key.trim()) } else { Err(ApiError::no_key()) }
}

/// A request of somebody who may look at what the whole box does: with a key, signed in, or with a pass that was made
/// from the box's secret.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Observer;

impl FromRequestParts<AppState> for Observer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        if bearer(parts).is_ok_and(|presented| state.pass.opens(presented, jiff::Timestamp::now().as_second())) {
            return Ok(Self);
        }
        caller(parts, state)?.may(Right::Look)?;
        Ok(Self)
    }
}

/// A request to or about the graphics processor: with a key, signed in, or with a pass that was made from the box's secret.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AtTheGpu;

impl FromRequestParts<AppState> for AtTheGpu {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        if bearer(parts).is_ok_and(|presented| state.gpu_pass.opens(presented, jiff::Timestamp::now().as_second())) {
            return Ok(Self);
        }
        caller(parts, state)?.may(needed(&parts.method, parts.uri.path()))?;
        Ok(Self)
    }
}

/// A request of somebody who may change the box: its owner, or an admin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner;

impl FromRequestParts<AppState> for Owner {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        caller(parts, state)?.may(Right::Administer)?;
        Ok(Self)
    }
}

/// A place among the requests in flight, taken before the body is read: bodies hold memory.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// The request's name in the answer and in the ledger.
    pub(crate) request_id: Uuid,
    /// When it came.
    pub(crate) accepted: Instant,
    pub(crate) permit: Permit,
    /// Whom its tokens are counted with by the limits of a minute.
    pub(crate) accounts: Vec<Limited>,
}

impl FromRequestParts<AppState> for Admitted {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let caller = match parts.extensions.get::<Principal>() {
            Some(caller) => caller.clone(),
            None => Authenticated::from_request_parts(parts, state).await?.0,
        };
        let accounts = limited(&caller);
        if let Some(told) = parts.extensions.get::<Told>() {
            told.set(&accounts, caller.past_soft_limit);
        }
        let permit = state.limits.admit(&accounts).await?;
        let RequestId(request_id) = parts.extensions.get().copied().unwrap_or_default();
        Ok(Self { request_id, accepted: Instant::now(), permit, accounts })
    }
}

impl Access for Authenticated {
    fn allows_parameters(&self, parameters: u64) -> bool {
        self.0.allows_parameters(parameters)
    }

    fn allows_model(&self, model: &str) -> bool {
        self.0.allows_model(model)
    }

    fn allows_own_model(&self, model: &str) -> bool {
        self.0.allows_own_model(model)
    }

    fn allows_upstream(&self, upstream: &str) -> bool {
        self.0.allows_upstream(upstream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::operations;

    /// Whoever adds a path sees here what it asks of whoever comes to it.
    #[test]
    fn every_path_asks_for_the_right_that_it_stands_for() {
        for operation in operations().iter().filter(|operation| operation.needs_key()) {
            let (method, path) = (operation.method().to_uppercase(), operation.path);
            let right = needed(&method.parse().unwrap(), path);
            let group = path.split('/').nth(2).unwrap_or_default();
            let expected = match (path.split('/').nth(1).unwrap_or_default(), group, method.as_str()) {
                ("metrics", ..) | ("v1", "admin" | "organization", "GET") => Right::Look,
                ("v1", "admin" | "organization", _) => Right::Administer,
                ("v1", "models", "GET") | ("api", "tags" | "show" | "ps" | "version", _) => Right::SeeModels,
                ("v1", "files" | "batches", _) => Right::Files,
                ("v1", "account", _) => Right::Account,
                ("api", "pull" | "delete" | "create" | "copy" | "push" | "blobs", _) => Right::Administer,
                ("v1", "models", _) => Right::Administer,
                ("v1" | "api", "chat" | "completions" | "embeddings" | "embed" | "generate" | "rerank", _)
                | ("v1", "messages" | "responses" | "conversations", _) => Right::Infer,
                _ => panic!("{method} {path} is in no group; decide who may use it"),
            };
            assert_eq!(right, expected, "{method} {path}");
        }
    }
}
