//! Signing in, and what people see and change of themselves.

use axum::routing::{delete, get, post};
use schemars::{JsonSchema, schema_for};
use serde_json::Value;

use super::under;
use crate::handlers::account::{self, keys, security};
use crate::handlers::list::PAGE_MAX;
use crate::handlers::login;
use crate::handlers::objects::{KeyObject, KeyRequest, RotateRequest, SecretObject, SessionObject};
use crate::openapi::Operation;

pub(super) fn operations() -> Vec<Operation> {
    under("Signing in", doors()).chain(under("Your account", own())).chain(under("Your account", security())).collect()
}

/// What a request looks like.
pub(super) fn request<T: JsonSchema>() -> Value {
    schema_for!(T).to_value()
}

fn doors() -> [Operation; 4] {
    [
        Operation::post("/auth/login", post(login::login), "Sign in at the page, with a cookie")
            .open()
            .takes(request::<login::LoginRequest>())
            .gives::<login::SignedIn>(200),
        Operation::post("/auth/logout", post(login::logout), "Sign this browser out").open().gives_none(),
        Operation::post("/auth/invitation", post(login::invited), "What an invitation says")
            .open()
            .takes(request::<login::InvitedRequest>())
            .gives::<login::InvitedObject>(200),
        Operation::post("/auth/invitation/accept", post(login::accept), "Take an invitation, and sign in")
            .open()
            .takes(request::<login::AcceptRequest>())
            .gives::<login::SignedIn>(201),
    ]
}

fn own() -> [Operation; 6] {
    [
        Operation::get("/v1/account", get(account::get), "Who you are, and what you have left")
            .gives::<account::AccountObject>(200),
        Operation::get("/v1/account/export", get(account::export), "All that the box has of you, as a zip file")
            .gives_bytes("application/zip"),
        Operation::get("/v1/account/keys", get(keys::list), "Your keys").lists::<KeyObject>(PAGE_MAX),
        Operation::post("/v1/account/keys", post(keys::create), "Make yourself a key")
            .takes(request::<KeyRequest>())
            .gives::<SecretObject>(201),
        Operation::post("/v1/account/keys/{id}/rotate", post(keys::rotate), "Give one of them another secret")
            .in_path("id", "Its id.")
            .takes(request::<RotateRequest>())
            .gives::<SecretObject>(200),
        Operation::delete("/v1/account/keys/{id}", delete(keys::revoke), "Refuse one of them from now on")
            .in_path("id", "Its id.")
            .gives::<KeyObject>(200),
    ]
}

fn security() -> [Operation; 7] {
    const FACTOR: &str = "/v1/account/second_factor";
    [
        Operation::post("/v1/account/password", post(security::password), "Set your password; other sessions end")
            .takes(request::<security::PasswordRequest>())
            .gives_none(),
        Operation::post("/v1/account/team", post(security::charge), "Say who pays in this session")
            .takes(request::<security::ChargeRequest>())
            .gives_none(),
        Operation::post(FACTOR, post(security::enrol), "Begin a second factor")
            .takes(request::<security::KnownPassword>())
            .gives::<security::EnrolledObject>(200),
        Operation::post("/v1/account/second_factor/confirm", post(security::confirm), "Ask for it from now on")
            .takes(request::<security::CodeRequest>())
            .gives::<security::RecoveryObject>(200),
        Operation::post("/v1/account/second_factor/remove", post(security::remove), "Ask for it no longer")
            .takes(request::<security::KnownPassword>())
            .gives_none(),
        Operation::get("/v1/account/sessions", get(security::sessions), "Where you are signed in")
            .lists::<SessionObject>(PAGE_MAX),
        Operation::delete("/v1/account/sessions/{id}", delete(security::end_session), "Sign out there")
            .in_path("id", "Its id.")
            .gives_none(),
    ]
}
