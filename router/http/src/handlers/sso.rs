//! Signing in with another provider (OpenID Connect): `/auth/sso`, and who somebody is there (`/v1/account/identities`).

use allerac_ledger::{Identified, IdentityRow, LedgerError, NewIdentity, Proof};
use allerac_objects::Order;
use allerac_sso::{Identity, SsoError};
use allerac_wire::ListPage;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{CACHE_CONTROL, LOCATION, ORIGIN, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::account::acting;
use super::account::security::{PasswordAsk, confirm_person};
use super::admin::{Named, name};
use super::list::{Params, told};
use super::passkeys::session_of;
use super::{Bounded, ClaimBody, now_s, parse};
use crate::auth::Authenticated;
use crate::error::ApiError;
use crate::peer::Peer;
use crate::sso::{Begun, Purpose, SingleSignOn, WAY_S, Way};
use crate::state::AppState;
use crate::{origin, session};

/// The cookie that a browser brings back from the provider. `Lax`, because it comes from another site's page.
const NAME: &str = "allerac_sso";
/// Names that are tried for somebody new before they are asked to be invited.
const NAMES_MAX: usize = 3;

/// Why somebody goes to the provider; to come in where nothing is said.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SsoRequest {
    /// An invitation to take by it.
    invitation: Option<String>,
    /// The name that whoever takes it chooses, where it names none.
    name: Option<String>,
}

/// Where to go.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SsoObject {
    /// The provider's page, for this browser, within ten minutes.
    url: String,
}

/// What the provider sends along.
#[derive(Default, Deserialize)]
pub(crate) struct Back {
    code: Option<String>,
    state: Option<String>,
    iss: Option<String>,
    error: Option<String>,
}

/// Somebody, as another provider knows them.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct IdentityObject {
    object: &'static str,
    id: String,
    /// The provider, by its address.
    issuer: String,
    /// Their address or name there.
    name: String,
    created_at: i64,
    last_used_at: Option<i64>,
}

impl From<IdentityRow> for IdentityObject {
    fn from(row: IdentityRow) -> Self {
        let IdentityRow { id, issuer, label, created_at, used_at } = row;
        Self { object: "identity", id, issuer, name: label, created_at, last_used_at: used_at }
    }
}

/// `POST /auth/sso`: begins for somebody who wants to come in, or takes an invitation.
pub(crate) async fn begin(
    State(state): State<AppState>,
    (peer, headers): (Peer, HeaderMap),
    Bounded(body): ClaimBody,
) -> Result<Response, ApiError> {
    let origin = page(&headers)?;
    claimed(&state)?;
    let SsoRequest { invitation, name } = parse(&body)?;
    let purpose = match invitation {
        None => Purpose::Door,
        Some(secret) => {
            state.doors.enter(&secret, &peer.0.to_string())?;
            let invited = state.ledger.invited(&secret)?;
            state.doors.forgive(&secret, &peer.0.to_string());
            if invited.name.is_none() && name.is_none() {
                return Err(ApiError::missing("name"));
            }
            Purpose::Invitation { secret, name }
        }
    };
    send(&state, Way { origin, purpose }, &headers).await
}

/// `POST /v1/account/identities`: begins for somebody who is signed in and wants to come in by it from now on.
pub(crate) async fn link(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    (peer, headers): (Peer, HeaderMap),
    Bounded(body): ClaimBody,
) -> Result<Response, ApiError> {
    let origin = page(&headers)?;
    let session = session_of(&caller)?.to_owned();
    let PasswordAsk { password } = parse(&body)?;
    confirm_person(&state, &caller.user_name, password, peer).await?;
    send(&state, Way { origin, purpose: Purpose::Link { user: caller.user_name, session } }, &headers).await
}

/// The page that asks; only it can go anywhere.
fn page(headers: &HeaderMap) -> Result<String, ApiError> {
    origin::check_open(headers)?;
    let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
    let message = "signing in with a provider is for the box's page in a browser; programs use a key";
    origin.map(str::to_owned).ok_or_else(|| ApiError::forbidden("foreign_origin", message))
}

async fn send(state: &AppState, way: Way, headers: &HeaderMap) -> Result<Response, ApiError> {
    let sso = sso(state)?;
    let begun = way.begin(&state.doors.tickets, now_s());
    let url = sso.provider.begin(&begun.way.back(), &begun.secrets(&state.doors.tickets)).await.map_err(refused)?;
    let mut answer = Json(SsoObject { url: url.into() }).into_response();
    set_cookie(&mut answer, &begun.cookie(), WAY_S, headers);
    Ok(answer)
}

fn sso(state: &AppState) -> Result<&SingleSignOn, ApiError> {
    let message =
        "this box has no other provider to sign in with; its owner sets one up as [oidc] in the configuration file";
    let none = || ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", "no_single_sign_on", message);
    state.sso.as_deref().ok_or_else(none)
}

/// Nobody comes before the owner: the one who claims the box might be called as they are.
fn claimed(state: &AppState) -> Result<(), ApiError> {
    if state.ledger.is_claimed()? {
        return Ok(());
    }
    Err(ApiError::forbidden("not_claimed", "this box has no owner yet; its claim code is on its screen"))
}

fn set_cookie(answer: &mut Response, value: &str, lasts_s: i64, headers: &HeaderMap) {
    let secure = if origin::is_https(headers) { "; Secure" } else { "" };
    let cookie = format!("{NAME}={value}; Path=/auth/sso; HttpOnly; SameSite=Lax; Max-Age={lasts_s}{secure}");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        answer.headers_mut().append(SET_COOKIE, cookie);
    }
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// `GET /auth/sso/callback`: where the provider sends a browser back. It goes on to the page, which says what became of it.
pub(crate) async fn callback(
    State(state): State<AppState>,
    (peer, mut headers): (Peer, HeaderMap),
    back: Result<Query<Back>, QueryRejection>,
) -> Response {
    // What cannot be read is none of what was begun.
    let Query(back) = back.unwrap_or_default();
    let presented = session::cookie_named(&headers, NAME);
    let begun = presented.and_then(|cookie| Begun::read(cookie, &state.doors.tickets, now_s()));
    // A browser that another page sends somewhere does not say where it was before: this is what it said when it began.
    let own = begun.as_ref().and_then(|begun| HeaderValue::from_str(&begun.way.origin).ok());
    match own {
        Some(own) => headers.insert(ORIGIN, own),
        None => headers.remove(ORIGIN),
    };
    let (place, session) = match come_in(&state, begun, back, (&headers, peer)).await {
        Ok((place, session)) => (place.to_owned(), session),
        Err(error) => {
            tracing::info!("somebody could not sign in with the provider: {}", error.message);
            (format!("/#sso={}", error.code().unwrap_or("sso_failed")), None)
        }
    };
    let mut answer = StatusCode::SEE_OTHER.into_response();
    if let Ok(place) = HeaderValue::from_str(&place) {
        answer.headers_mut().insert(LOCATION, place);
    }
    if let Some(session) = session {
        // It is text of our own.
        let _ = session.set(&mut answer);
    }
    set_cookie(&mut answer, "", 0, &headers);
    answer
}

/// Where the browser goes on to, and the session that it has from now on.
async fn come_in(
    state: &AppState,
    begun: Option<Begun>,
    back: Back,
    (headers, peer): (&HeaderMap, Peer),
) -> Result<(&'static str, Option<session::Cookie>), ApiError> {
    let sso = sso(state)?;
    claimed(state)?;
    let begun = begun.ok_or_else(late)?;
    let secrets = begun.secrets(&state.doors.tickets);
    if back.state.as_deref() != Some(secrets.state().as_str()) {
        return Err(late());
    }
    if let Some(error) = back.error {
        let word: String = error.chars().filter(|character| !character.is_control()).take(100).collect();
        return Err(refused(SsoError::Refused(word)));
    }
    let code = back.code.ok_or_else(late)?;
    let (tried, address) = (format!("sso {}", secrets.state()), peer.0.to_string());
    state.doors.enter(&tried, &address)?;
    let came = (code.as_str(), back.iss.as_deref());
    let identity = sso.provider.finish(came, &begun.way.back(), &secrets, now_s()).await.map_err(refused)?;
    if !begun.spend(&state.doors.tickets, now_s()) {
        return Err(late());
    }
    let known = new_identity(&identity);
    if let Purpose::Link { user, session } = &begun.way.purpose {
        if !state.ledger.sessions(Some(user))?.iter().any(|row| row.id == *session) {
            return Err(late());
        }
        let ledger = state.ledger.clone().acting_as(&format!("{user}, session {session}"));
        ledger.link_identity(user, known).await?;
        state.doors.forgive(&tried, &address);
        return Ok(("/#account=security", None));
    }
    let user = match &begun.way.purpose {
        Purpose::Invitation { secret, name } => {
            state.ledger.accept(secret, name.as_deref().unwrap_or_default(), Proof::Identity(known.clone())).await?
        }
        Purpose::Door | Purpose::Link { .. } => whom(state, sso, &identity).await?,
    };
    state.ledger.use_identity(known).await?;
    let session = session::open(state, &user, (headers, peer), "single sign-on").await?;
    state.doors.forgive(&tried, &address);
    Ok(("/", Some(session)))
}

/// Whom the provider means; somebody new where the owner lets those in.
async fn whom(state: &AppState, sso: &SingleSignOn, identity: &Identity) -> Result<String, ApiError> {
    let known = state.ledger.identified(&identity.issuer, &identity.subject)?;
    match known {
        Identified::Person(user) => return Ok(user),
        Identified::Removed => {
            let message = "you were removed from this box; ask its owner to invite you again";
            return Err(ApiError::forbidden("sso_removed", message));
        }
        Identified::Nobody | Identified::Unlinked => {}
    }
    // Who unlinked it is somebody here, and not somebody new.
    let Some((role, plan)) = sso.newcomers.as_ref().filter(|_| known == Identified::Nobody) else {
        let message = "nobody here is linked with you there: come by an invitation, or sign in otherwise and link it";
        return Err(ApiError::forbidden("sso_unknown", message));
    };
    // A name that somebody has is never taken to mean them: at the provider anybody may be called so.
    let names = [&identity.user_name, &identity.email, &identity.name];
    for name in names.into_iter().flatten().take(NAMES_MAX) {
        match state.ledger.add_identified(name, (*role, plan), new_identity(identity)).await {
            Ok(()) => return Ok(name.clone()),
            Err(LedgerError::Conflict { code: "name_taken", .. } | LedgerError::InvalidName) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let message = "somebody here is called as you are there: come by an invitation, with another name";
    Err(ApiError::conflict("sso_name_taken", message))
}

fn new_identity(identity: &Identity) -> NewIdentity {
    let label = [&identity.email, &identity.user_name, &identity.name].into_iter().flatten().next();
    NewIdentity {
        issuer: identity.issuer.clone(),
        subject: identity.subject.clone(),
        label: label.unwrap_or(&identity.subject).clone(),
    }
}

fn late() -> ApiError {
    let message = "this does not belong to what this browser began in the last ten minutes; begin again";
    ApiError::unauthenticated("sso_late", message)
}

#[expect(clippy::needless_pass_by_value, reason = "it takes what `map_err` has")]
fn refused(why: SsoError) -> ApiError {
    let message = why.to_string();
    match why {
        SsoError::Unreachable(_) | SsoError::Provider(_) => {
            tracing::warn!("{message}");
            ApiError::new(StatusCode::BAD_GATEWAY, "server_error", "sso_unreachable", message)
        }
        SsoError::Refused(_) => ApiError::unauthenticated("sso_refused", &message),
        SsoError::Token(_) => {
            tracing::warn!("{message}");
            ApiError::unauthenticated("sso_wrong", &message)
        }
        SsoError::NotAllowed(_) => ApiError::forbidden("sso_not_allowed", message),
    }
}

/// `GET /v1/account/identities`.
pub(crate) async fn list(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    params: Params,
) -> Result<Json<ListPage<Value>>, ApiError> {
    let rows = state.ledger.identities(&caller.user_name)?.into_iter();
    told(rows.map(|row| json!(IdentityObject::from(row))).collect(), params, Order::Ascending)
}

/// `DELETE /v1/account/identities/{id}`.
pub(crate) async fn unlink(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    path: Named,
) -> Result<StatusCode, ApiError> {
    session_of(&caller)?;
    acting(&state, &caller).unlink_identity(&caller.user_name, &name(path)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
