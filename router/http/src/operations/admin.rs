//! What owners and admins see and change, and auditors see.

use axum::routing::{delete, get, post};
use serde_json::{Value, json};

use super::people::request;
use super::under;
use crate::handlers::admin::{alerts, books, exports, invitations, keys, look, people, teams, upstreams};
use crate::handlers::list::PAGE_MAX;
use crate::handlers::objects::{
    AuditObject, InvitationObject, KeyObject, KeyRequest, LinkObject, PersonObject, PlanObject, RotateRequest,
    SecretObject, SessionObject, TeamObject,
};
use crate::handlers::passkeys::PasskeyObject;
use crate::handlers::sso::IdentityObject;
use crate::openapi::Operation;

pub(super) fn operations() -> Vec<Operation> {
    let people = under("Administration: people", people_()).chain(under("Administration: people", ways_in()));
    let people = people.chain(under("Administration: people", sessions()));
    let keys = under("Administration: keys", keys_()).chain(under("Administration: invitations", invitations_()));
    let teams = under("Administration: teams", teams_()).chain(under("Administration: plans", plans()));
    let done = under("Administration: what was done", done()).chain(under("Administration: what was done", checked()));
    people.chain(keys).chain(teams).chain(done).chain(under("Administration: alerts", alerts_())).collect()
}

fn people_() -> [Operation; 5] {
    const ONE: &str = "/v1/admin/people/{id}";
    [
        Operation::get("/v1/admin/people", get(people::list), "Everybody").lists::<PersonObject>(PAGE_MAX),
        Operation::post("/v1/admin/people", post(people::create), "Add somebody")
            .takes(request::<people::PersonRequest>())
            .gives::<PersonObject>(201),
        Operation::get(ONE, get(people::get), "One of them").in_path("id", "The name.").gives::<PersonObject>(200),
        Operation::post(ONE, post(people::update), "Change somebody")
            .in_path("id", "The name.")
            .takes(request::<people::PersonUpdate>())
            .gives::<PersonObject>(200),
        Operation::delete(ONE, delete(people::remove), "Remove somebody; what they used stays in the books")
            .in_path("id", "The name.")
            .gives_none(),
    ]
}

fn ways_in() -> [Operation; 4] {
    const PASSKEYS: &str = "/v1/admin/people/{id}/passkeys";
    const IDENTITIES: &str = "/v1/admin/people/{id}/identities";
    [
        Operation::get(PASSKEYS, get(people::passkeys), "The passkeys of somebody")
            .in_path("id", "The name.")
            .lists::<PasskeyObject>(PAGE_MAX),
        Operation::delete("/v1/admin/people/{id}/passkeys/{passkey}", delete(people::remove_passkey), "Remove one")
            .in_path("id", "The name.")
            .in_path("passkey", "Its id.")
            .gives_none(),
        Operation::get(IDENTITIES, get(people::identities), "By which other providers somebody signs in")
            .in_path("id", "The name.")
            .lists::<IdentityObject>(PAGE_MAX),
        Operation::delete("/v1/admin/people/{id}/identities/{identity}", delete(people::remove_identity), "Unlink one")
            .in_path("id", "The name.")
            .in_path("identity", "Its id.")
            .gives_none(),
    ]
}

fn sessions() -> [Operation; 2] {
    [
        Operation::get("/v1/admin/sessions", get(people::sessions), "Who is signed in where")
            .in_query("user", "Those of this person.", json!({"type": "string"}))
            .lists::<SessionObject>(PAGE_MAX),
        Operation::delete("/v1/admin/sessions/{id}", delete(people::end_session), "Sign somebody out")
            .in_path("id", "Its id.")
            .gives_none(),
    ]
}

fn keys_() -> [Operation; 6] {
    const ONE: &str = "/v1/admin/keys/{id}";
    [
        Operation::get("/v1/admin/keys", get(keys::list), "All keys")
            .in_query("user", "Those of this person.", json!({"type": "string"}))
            .lists::<KeyObject>(PAGE_MAX),
        Operation::post("/v1/admin/keys", post(keys::create), "Make a key for somebody")
            .takes(request::<KeyRequest>())
            .gives::<SecretObject>(201),
        Operation::get(ONE, get(keys::get), "One of them").in_path("id", "Its id.").gives::<KeyObject>(200),
        Operation::post(ONE, post(keys::update), "Give it another plan of its own")
            .in_path("id", "Its id.")
            .takes(request::<keys::KeyUpdate>())
            .gives::<KeyObject>(200),
        Operation::delete(ONE, delete(keys::revoke), "Refuse it from now on")
            .in_path("id", "Its id.")
            .gives::<KeyObject>(200),
        Operation::post("/v1/admin/keys/{id}/rotate", post(keys::rotate), "Give it another secret")
            .in_path("id", "Its id.")
            .takes(request::<RotateRequest>())
            .gives::<SecretObject>(200),
    ]
}

fn invitations_() -> [Operation; 4] {
    const ONE: &str = "/v1/admin/invitations/{id}";
    [
        Operation::get("/v1/admin/invitations", get(invitations::list), "All invitations")
            .lists::<InvitationObject>(PAGE_MAX),
        Operation::post("/v1/admin/invitations", post(invitations::create), "Invite somebody by a link")
            .takes(request::<invitations::InvitationRequest>())
            .gives::<LinkObject>(201),
        Operation::get(ONE, get(invitations::get), "One of them")
            .in_path("id", "Its id.")
            .gives::<InvitationObject>(200),
        Operation::delete(ONE, delete(invitations::revoke), "Take it back")
            .in_path("id", "Its id.")
            .gives::<InvitationObject>(200),
    ]
}

fn teams_() -> [Operation; 7] {
    const ONE: &str = "/v1/admin/teams/{id}";
    [
        Operation::get("/v1/admin/teams", get(teams::list), "All teams").lists::<TeamObject>(PAGE_MAX),
        Operation::post("/v1/admin/teams", post(teams::create), "Make a team, with an account of its own")
            .takes(request::<teams::TeamRequest>())
            .gives::<TeamObject>(201),
        Operation::get(ONE, get(teams::get), "One of them").in_path("id", "Its name.").gives::<TeamObject>(200),
        Operation::post(ONE, post(teams::update), "Give it another plan")
            .in_path("id", "Its name.")
            .takes(request::<teams::TeamUpdate>())
            .gives::<TeamObject>(200),
        Operation::delete(ONE, delete(teams::remove), "Remove it; what it used stays in the books")
            .in_path("id", "Its name.")
            .gives_none(),
        Operation::post("/v1/admin/teams/{id}/members", post(teams::join), "Make somebody a member")
            .in_path("id", "Its name.")
            .takes(request::<teams::MemberRequest>())
            .gives::<TeamObject>(200),
        Operation::delete("/v1/admin/teams/{id}/members/{user}", delete(teams::leave), "Take somebody out of it")
            .in_path("id", "Its name.")
            .in_path("user", "The person's name.")
            .gives::<TeamObject>(200),
    ]
}

fn plans() -> [Operation; 5] {
    const ONE: &str = "/v1/admin/plans/{id}";
    [
        Operation::get("/v1/admin/plans", get(books::list), "All plans").lists::<PlanObject>(PAGE_MAX),
        Operation::post("/v1/admin/plans", post(books::create), "Make a plan")
            .takes(request::<books::PlanRequest>())
            .gives::<PlanObject>(201),
        Operation::get(ONE, get(books::get), "One of them").in_path("id", "Its name.").gives::<PlanObject>(200),
        Operation::post(ONE, post(books::update), "Change it for all who have it")
            .in_path("id", "Its name.")
            .takes(request::<books::PlanLimits>())
            .gives::<PlanObject>(200),
        Operation::delete(ONE, delete(books::remove), "Remove it, where nobody has it")
            .in_path("id", "Its name.")
            .gives_none(),
    ]
}

fn done() -> [Operation; 8] {
    let text = || json!({"type": "string"});
    [
        Operation::get(
            "/v1/admin/usage",
            get(look::usage),
            "What the box was used for in a month, by person and model",
        )
        .in_query("month", "Another one than this, as `2026-11`.", text())
        .gives::<look::UsageObject>(200),
        Operation::get(
            "/v1/admin/usage/owning",
            get(upstreams::owning),
            "What machines of one's own would have cost in a month, beside what other servers took",
        )
        .in_query("month", "Another one than this, as `2026-11`.", text())
        .gives::<upstreams::OwningObject>(200),
        Operation::get(
            "/v1/admin/upstreams",
            get(upstreams::list),
            "Other servers: their prices, what was spent on them this month, and what may be",
        )
        .lists::<upstreams::UpstreamObject>(PAGE_MAX),
        Operation::get(
            "/v1/admin/audit_logs/verification",
            get(look::verification),
            "Whether the audit log is as it was written",
        )
        .gives::<look::VerificationObject>(200),
        Operation::get("/v1/admin/audit_logs", get(books::audit), "The audit log, newest first")
            .in_query("action", "Entries whose action begins like this, as `user.`.", text())
            .in_query("about", "Entries of or about a person, key or whatever else has this name.", text())
            .lists_newest::<AuditObject>(PAGE_MAX),
        Operation::get("/v1/organization/users", get(people::organization), "Everybody, as OpenAI lists them")
            .lists::<Value>(PAGE_MAX),
        Operation::get("/v1/organization/invites", get(invitations::organization), "Invitations, as OpenAI lists them")
            .lists::<Value>(PAGE_MAX),
        Operation::get("/v1/organization/audit_logs", get(books::organization), "The audit log, as OpenAI lists it")
            .lists_newest::<Value>(PAGE_MAX),
    ]
}

fn checked() -> [Operation; 4] {
    let text = || json!({"type": "string"});
    let moment = || json!({"type": "integer", "minimum": 0, "maximum": i64::MAX / 1_000_000_000});
    [
        Operation::get(
            "/v1/admin/usage/export",
            get(exports::usage),
            "Settled requests as a file, oldest first; of what was said nothing",
        )
        .in_query("format", "`csv` as usual.", json!({"type": "string", "enum": ["csv", "parquet"]}))
        .in_query("start_time", "Settled from this moment on, in seconds since 1970.", moment())
        .in_query("end_time", "Settled before this moment.", moment())
        .in_query("user", "Those of this person or team.", text())
        .gives_plain("text/csv")
        .gives_bytes("application/vnd.apache.parquet"),
        Operation::get("/v1/admin/audit_logs/export", get(exports::audit), "The audit log, an entry a line")
            .gives_plain("application/jsonl"),
        Operation::post(
            "/v1/admin/audit_logs/requests",
            post(exports::note_requests),
            "Note requests in the audit log from now on, or no longer",
        )
        .takes(request::<exports::NotedRequests>())
        .gives::<exports::NotedRequests>(200),
        Operation::get("/v1/admin/ledger/verification", get(look::books), "Whether the books add up")
            .gives::<look::BooksObject>(200),
    ]
}

fn alerts_() -> [Operation; 2] {
    let id = json!({"type": "string", "pattern": "^[^:]+:.+$"});
    [
        Operation::get(
            "/v1/admin/alerts",
            get(alerts::list),
            "What was told to whom and what could not be, newest first",
        )
        .in_query("state", "Only these.", json!({"type": "string", "enum": ["waiting", "delivered", "dead"]}))
        .in_query("after", "The last object of the page before.", id)
        .in_query("limit", "Objects on a page.", json!({"type": "integer", "minimum": 1, "maximum": PAGE_MAX}))
        .gives::<allerac_wire::ListPage<alerts::DeliveryObject>>(200),
        Operation::post("/v1/admin/alerts/retry", post(alerts::retry), "Try again what was given up")
            .takes(request::<alerts::RetryRequest>())
            .gives::<alerts::RetriedObject>(200),
    ]
}
