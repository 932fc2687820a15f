//! Passkeys: signing in with one (`/auth/passkey`), and those that somebody has (`/v1/account/passkeys`). What browsers
//! are asked and what they answer has the form of Web Authentication Level 3, section 5.1.8 to 5.1.10.

use allerac_ledger::{NewPasskey, PasskeyRow, Principal};
use allerac_objects::Order;
use allerac_passkeys::{ALGORITHMS, Assertion, Refused, RelyingParty, assert, challenge_of, register};
use allerac_wire::ListPage;
use axum::Json;
use axum::extract::State;
use axum::http::header::ORIGIN;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use data_encoding::BASE64URL_NOPAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use super::account::acting;
use super::account::security::{PasswordAsk, confirm_person};
use super::admin::{Named, name};
use super::list::{Params, told};
use super::login::signed_in;
use super::{Bounded, ClaimBody, SmallBody, now_s, parse};
use crate::auth::Authenticated;
use crate::error::ApiError;
use crate::peer::Peer;
use crate::state::AppState;
use crate::{origin, session};

/// How long somebody may take to find their device and touch it, in seconds: what browsers recommend.
const ANSWER_S: i64 = 300;
/// What signing in is asked for.
const DOOR: &str = "sign in with a passkey";
/// The longest answer, in bytes: the longest id twice, and the longest signature.
const ANSWER_BYTES_MAX: usize = 8 * 1024;

/// What a passkey signed, as a browser's `toJSON` has it; what else stands there is not looked at.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct PasskeyAnswer {
    /// What the device calls the passkey.
    id: String,
    response: AnswerParts,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct AnswerParts {
    #[serde(rename = "clientDataJSON")]
    client_data: String,
    authenticator_data: String,
    signature: String,
    user_handle: String,
}

/// A new passkey.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasskeyRequest {
    /// What it is to be called.
    name: String,
    credential: Attested,
}

/// A credential, as a browser's `toJSON` has it; what else stands there is not looked at.
#[derive(Deserialize, JsonSchema)]
struct Attested {
    response: AttestedParts,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct AttestedParts {
    #[serde(rename = "clientDataJSON")]
    client_data: String,
    attestation_object: String,
}

/// A passkey.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PasskeyObject {
    object: &'static str,
    id: String,
    name: String,
    /// The name of the box by which it opens.
    host: String,
    /// Whether it is kept elsewhere too, with the maker of the device.
    synced: bool,
    created_at: i64,
    last_used_at: Option<i64>,
}

impl From<PasskeyRow> for PasskeyObject {
    fn from(row: PasskeyRow) -> Self {
        let PasskeyRow { id, label, host, synced, created_at, used_at } = row;
        Self { object: "passkey", id, name: label, host, synced, created_at, last_used_at: used_at }
    }
}

/// `POST /auth/passkey/options`: what a browser is to ask its person for.
pub(crate) async fn ask(State(state): State<AppState>, headers: HeaderMap) -> Result<Json<Value>, ApiError> {
    let party = party(&headers)?;
    let challenge = state.doors.tickets.issue(DOOR, ANSWER_S, now_s());
    Ok(Json(json!({
        "challenge": BASE64URL_NOPAD.encode(&challenge), "rpId": party.host(), "allowCredentials": [],
        "userVerification": "required", "timeout": ANSWER_S * 1000,
    })))
}

/// `POST /auth/passkey`: signs in whoever has the passkey. It is two factors by itself: the device, and what it asked of
/// its person.
pub(crate) async fn sign_in(
    State(state): State<AppState>,
    (peer, headers): (Peer, HeaderMap),
    Bounded(body): Bounded<ANSWER_BYTES_MAX>,
) -> Result<Response, ApiError> {
    let party = party(&headers)?;
    let PasskeyAnswer { id, response } = parse(&body)?;
    let (credential, handle) = (bytes("id", &id)?, bytes("response.userHandle", &response.user_handle)?);
    let client_data = bytes("response.clientDataJSON", &response.client_data)?;
    let authenticator_data = bytes("response.authenticatorData", &response.authenticator_data)?;
    let signature = bytes("response.signature", &response.signature)?;
    let (tried, address) = (format!("passkey {id}"), peer.0.to_string());
    state.doors.enter(&tried, &address)?;
    let challenge = challenge_of(&client_data).map_err(refused)?;
    if !state.doors.tickets.is_open(DOOR, &challenge, now_s()) {
        return Err(late());
    }
    let known = state.ledger.passkey(party.host(), &credential)?;
    let known = known.filter(|known| bool::from(state.doors.handle(known.user).ct_eq(&handle))).ok_or_else(|| {
        ApiError::unauthenticated("unknown_passkey", "nobody here has this passkey; remove it from your device")
    })?;
    let assertion =
        Assertion { client_data: &client_data, authenticator_data: &authenticator_data, signature: &signature };
    let asserted = assert(&party, &challenge, &known.public_key, &assertion).map_err(refused)?;
    // Only now: what proves nothing uses nothing up.
    if !state.doors.tickets.spend(DOOR, &challenge, now_s()) {
        return Err(late());
    }
    if !state.ledger.use_passkey(&known.id, (asserted.counter, asserted.is_synced)).await? {
        tracing::warn!(passkey = known.id, "a passkey was refused: another device may have a copy of it");
        let message = "your device counts less than it did: it may have been copied. Sign in otherwise, remove this \
                       passkey and add it again";
        return Err(ApiError::unauthenticated("passkey_copied", message));
    }
    let cookie = session::open(&state, &known.user_name, (&headers, peer), "passkey").await?;
    state.doors.forgive(&tried, &address);
    let role = state.ledger.user(&known.user_name)?.role;
    signed_in(StatusCode::OK, known.user_name, role, cookie)
}

/// `GET /v1/account/passkeys`.
pub(crate) async fn list(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    params: Params,
) -> Result<Json<ListPage<Value>>, ApiError> {
    let rows = state.ledger.passkeys(&caller.user_name)?.into_iter();
    told(rows.map(|row| json!(PasskeyObject::from(row))).collect(), params, Order::Ascending)
}

/// `POST /v1/account/passkeys/options`: what a browser is to make.
pub(crate) async fn begin(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    (peer, headers): (Peer, HeaderMap),
    Bounded(body): ClaimBody,
) -> Result<Json<Value>, ApiError> {
    let party = party(&headers)?;
    let session = session_of(&caller)?;
    let PasswordAsk { password } = parse(&body)?;
    confirm_person(&state, &caller.user_name, password, peer).await?;
    let holder = state.ledger.passkey_holder(&caller.user_name, party.host())?;
    let challenge = state.doors.tickets.issue(&making(holder.user, session), ANSWER_S, now_s());
    let kinds: Vec<Value> = ALGORITHMS.iter().map(|alg| json!({"type": "public-key", "alg": alg})).collect();
    let known = holder.credentials.iter().map(|id| json!({"type": "public-key", "id": BASE64URL_NOPAD.encode(id)}));
    let handle = BASE64URL_NOPAD.encode(&state.doors.handle(holder.user));
    Ok(Json(json!({
        "challenge": BASE64URL_NOPAD.encode(&challenge),
        "rp": {"id": party.host(), "name": state.name},
        "user": {"id": handle, "name": caller.user_name, "displayName": caller.user_name},
        "pubKeyCredParams": kinds,
        "excludeCredentials": known.collect::<Vec<_>>(),
        "authenticatorSelection":
            {"residentKey": "required", "requireResidentKey": true, "userVerification": "required"},
        "attestation": "none", "timeout": ANSWER_S * 1000,
    })))
}

/// `POST /v1/account/passkeys`: keeps what the browser made.
pub(crate) async fn create(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
    Bounded(body): SmallBody,
) -> Result<(StatusCode, Json<PasskeyObject>), ApiError> {
    let party = party(&headers)?;
    let session = session_of(&caller)?;
    let PasskeyRequest { name, credential: Attested { response } } = parse(&body)?;
    let client_data = bytes("credential.response.clientDataJSON", &response.client_data)?;
    let attestation = bytes("credential.response.attestationObject", &response.attestation_object)?;
    let holder = state.ledger.passkey_holder(&caller.user_name, party.host())?;
    let refused = |why: Refused| ApiError::invalid_value("credential", &why.to_string());
    let challenge = challenge_of(&client_data).map_err(refused)?;
    let purpose = making(holder.user, session);
    if !state.doors.tickets.is_open(&purpose, &challenge, now_s()) {
        return Err(ApiError::invalid_value("credential", LATE));
    }
    let made = register(&party, &challenge, &client_data, &attestation).map_err(refused)?;
    if !state.doors.tickets.spend(&purpose, &challenge, now_s()) {
        return Err(ApiError::invalid_value("credential", LATE));
    }
    let new = NewPasskey {
        label: name,
        host: party.host().to_owned(),
        credential: made.credential,
        public_key: made.public_key,
        counter: made.counter,
        is_synced: made.is_synced,
    };
    let kept = acting(&state, &caller).add_passkey(&caller.user_name, new).await?;
    Ok((StatusCode::CREATED, Json(kept.into())))
}

/// `DELETE /v1/account/passkeys/{id}`.
pub(crate) async fn remove(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    path: Named,
) -> Result<StatusCode, ApiError> {
    session_of(&caller)?;
    acting(&state, &caller).remove_passkey(&caller.user_name, &name(path)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

const LATE: &str = "this answers no question of the last minutes, or was sent before; try again";

fn late() -> ApiError {
    ApiError::unauthenticated("passkey_late", LATE)
}

fn refused(why: Refused) -> ApiError {
    ApiError::unauthenticated("passkey_refused", &why.to_string())
}

/// The page that asks, where it can have passkeys.
fn party(headers: &HeaderMap) -> Result<RelyingParty, ApiError> {
    origin::check_open(headers)?;
    let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok()).unwrap_or_default();
    RelyingParty::of(origin).map_err(|why| ApiError::forbidden("no_passkeys_here", why.to_string()))
}

/// Passkeys are made and removed by people in front of the page, not by whoever has a key of theirs.
pub(crate) fn session_of(caller: &Principal) -> Result<&str, ApiError> {
    let message = "this is done at the page, by whoever is signed in; a key is not enough";
    caller.session.as_deref().ok_or_else(|| ApiError::forbidden("no_session", message))
}

fn making(user: i64, session: &str) -> String {
    format!("make a passkey of {user} in {session}")
}

fn bytes(field: &str, text: &str) -> Result<Vec<u8>, ApiError> {
    let decoded = BASE64URL_NOPAD.decode(text.as_bytes());
    decoded.map_err(|_| ApiError::invalid_value(field, &format!("`{field}` is no base64url without padding")))
}
