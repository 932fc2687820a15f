//! Passkeys, other providers, and links that set passwords.

use axum::routing::{delete, get, post};
use serde_json::{Value, json};

use super::people::request;
use super::under;
use crate::handlers::account::security;
use crate::handlers::list::PAGE_MAX;
use crate::handlers::{passkeys, password_link, sso};
use crate::openapi::Operation;

pub(super) fn operations() -> Vec<Operation> {
    let doors = under("Signing in", doors()).chain(under("Your account", passkeys()));
    let doors = doors.chain(under("Signing in", provider())).chain(under("Your account", identities()));
    doors.chain(under("Administration: people", links())).collect()
}

fn doors() -> [Operation; 4] {
    [
        Operation::post("/auth/passkey/options", post(passkeys::ask), "What a browser asks a passkey")
            .open()
            .gives::<Value>(200),
        Operation::post("/auth/passkey", post(passkeys::sign_in), "Sign in at the page with a passkey")
            .open()
            .takes(request::<passkeys::PasskeyAnswer>())
            .gives::<crate::handlers::login::SignedIn>(200),
        Operation::post("/auth/password", post(password_link::linked), "Whose password a link sets")
            .open()
            .takes(request::<password_link::LinkedRequest>())
            .gives::<password_link::LinkedObject>(200),
        Operation::post("/auth/password/set", post(password_link::set), "Set a password by a link, and sign in")
            .open()
            .takes(request::<password_link::SetRequest>())
            .gives::<password_link::SetObject>(200),
    ]
}

fn passkeys() -> [Operation; 4] {
    const ALL: &str = "/v1/account/passkeys";
    [
        Operation::get(ALL, get(passkeys::list), "Your passkeys").lists::<passkeys::PasskeyObject>(PAGE_MAX),
        Operation::post(ALL, post(passkeys::create), "Add the passkey that a browser made")
            .takes(request::<passkeys::PasskeyRequest>())
            .gives::<passkeys::PasskeyObject>(201),
        Operation::post("/v1/account/passkeys/options", post(passkeys::begin), "What a browser makes one of")
            .takes(request::<security::PasswordAsk>())
            .gives::<Value>(200),
        Operation::delete("/v1/account/passkeys/{id}", delete(passkeys::remove), "Remove one of them")
            .in_path("id", "Its id.")
            .gives_none(),
    ]
}

fn provider() -> [Operation; 2] {
    [
        Operation::post("/auth/sso", post(sso::begin), "Begin to sign in with another provider")
            .open()
            .takes(request::<sso::SsoRequest>())
            .gives::<sso::SsoObject>(200),
        Operation::get("/auth/sso/callback", get(sso::callback), "Where the provider sends a browser back")
            .open()
            .in_query("code", "What the token is fetched by.", json!({"type": "string"}))
            .in_query("state", "What this browser was given.", json!({"type": "string"}))
            .redirects(),
    ]
}

fn identities() -> [Operation; 3] {
    const ALL: &str = "/v1/account/identities";
    [
        Operation::get(ALL, get(sso::list), "Who you are with other providers").lists::<sso::IdentityObject>(PAGE_MAX),
        Operation::post(ALL, post(sso::link), "Begin to sign in with another provider from now on")
            .takes(request::<security::PasswordAsk>())
            .gives::<sso::SsoObject>(200),
        Operation::delete("/v1/account/identities/{id}", delete(sso::unlink), "Sign in with it no longer")
            .in_path("id", "Its id.")
            .gives_none(),
    ]
}

fn links() -> [Operation; 1] {
    let about = "Make a link by which somebody sets a password";
    [Operation::post("/v1/admin/people/{id}/password_link", post(password_link::create), about)
        .in_path("id", "The name.")
        .takes(request::<password_link::PasswordLinkRequest>())
        .gives::<password_link::PasswordLinkObject>(201)]
}
