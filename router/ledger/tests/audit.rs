//! The audit log, and those who would change it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use allerac_ledger::{AuditEntry, AuditWanted, Chain, Increase, Ledger, LedgerError, Plan, Role, Tampered};
use rusqlite::Connection;
use serde_json::json;
use support::{Home, new_key, principal, reserve, settlement};

/// What was noted, oldest first: who did what to what.
fn noted(ledger: &Ledger) -> Vec<[String; 3]> {
    let mut entries = ledger.audit(None, 1000).unwrap();
    entries.reverse();
    entries.into_iter().map(|entry| [entry.actor, entry.action, entry.subject]).collect()
}

/// A box where some things were done.
async fn busy() -> Home {
    let home = Home::new();
    let ledger = home.ledger.clone().acting_as("olga");
    ledger.add_plan(Plan { tokens_a_month: Some(100), ..Plan::open("kids") }).await.unwrap();
    ledger.change_plan("kids", |plan| plan.concurrency = Some(2)).await.unwrap();
    let key = ledger.create_key(new_key("kim", Some("kids"))).await.unwrap().public_id;
    ledger.set_key_plan(&key, Some("starter")).await.unwrap();
    ledger.increase("kim", Increase { tokens: 5, ends_at: i64::MAX }).await.unwrap();
    ledger.revoke_key(&key).await.unwrap();
    home
}

#[tokio::test]
async fn what_is_done_is_noted_with_who_did_it() {
    let home = busy().await;
    let ledger = home.ledger.clone().acting_as("anna");
    let key = ledger.keys().unwrap()[0].id.clone();
    ledger.end_increases("kim").await.unwrap();
    ledger.set_user_plan("kim", "pro").await.unwrap();
    ledger.remove_plan("kids").await.unwrap();
    ledger.keep_time_zone().await.unwrap();
    ledger.keep_time_zone().await.unwrap();
    let claimed = ledger.claim("Olga").await.unwrap();
    // What is refused was not done.
    ledger.remove_plan("kids").await.unwrap_err();
    ledger.set_user_plan("nobody", "pro").await.unwrap_err();
    assert!(ledger.create_key(new_key("x", Some("gold"))).await.is_err());
    ledger.revoke_key("nobody").await.unwrap_err();
    let expected = [
        ["olga", "plan.add", "kids"],
        ["olga", "plan.change", "kids"],
        ["olga", "key.create", &key],
        ["olga", "key.plan", &key],
        ["olga", "user.increase", "kim"],
        ["olga", "key.revoke", &key],
        ["anna", "user.end_increases", "kim"],
        ["anna", "user.plan", "kim"],
        ["anna", "plan.remove", "kids"],
        ["anna", "time_zone.change", "UTC"],
        ["claim", "box.claim", &claimed.public_id],
    ];
    assert_eq!(noted(&ledger), expected.map(|entry| entry.map(str::to_owned)));
    let entries = ledger.audit(None, 100).unwrap();
    assert!(entries.iter().all(|entry| !entry.detail.to_string().contains(&claimed.secret[30..])));
    let change = entries.iter().find(|entry| entry.action == "user.plan").unwrap();
    assert_eq!(change.detail, json!({"before": "kids", "after": "pro"}));
    assert_eq!(ledger.verify_audit(None).unwrap().entries, 11);
    // A page before the last five.
    let ids =
        |before, limit| -> Vec<u64> { ledger.audit(before, limit).unwrap().iter().map(|entry| entry.id).collect() };
    assert_eq!((ids(None, 2), ids(Some(7), 3)), (vec![11, 10], vec![6, 5, 4]));
}

#[tokio::test]
async fn requests_are_noted_when_that_is_wished() {
    let home = Home::new();
    let ledger = &home.ledger;
    let anna = principal(ledger, "anna", None).await;
    let ask = async || {
        let request = reserve(7, 10);
        let id = request.request_id.to_string();
        ledger.reserve(&anna, request).await.unwrap().settle(settlement(7, 3)).await.unwrap();
        id
    };
    ask().await;
    ledger.note_requests(true).await.unwrap();
    let id = ask().await;
    ledger.note_requests(false).await.unwrap();
    ask().await;
    let entries = ledger.audit(None, 10).unwrap();
    let actions: Vec<&str> = entries.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["audit.requests", "request", "audit.requests", "key.create"]);
    assert_eq!((&entries[1].subject, entries[1].actor.as_str()), (&id, format!("key {}", anna.key_id).as_str()));
    let detail = json!({"user": "anna", "model": "m", "endpoint": "chat.completions", "served_by": "local",
        "outcome": "completed", "prompt_tokens": 7, "cached_tokens": 0, "completion_tokens": 3});
    assert_eq!(entries[1].detail, detail);
    ledger.verify_audit(None).unwrap();
}

#[tokio::test]
async fn the_log_is_only_added_to() {
    let home = busy().await;
    let database = Connection::open(home.folder.path().join("ledger.db")).unwrap();
    for change in ["UPDATE audit SET actor = 'x'", "DELETE FROM audit WHERE id = 6", "DELETE FROM audit"] {
        let refused = database.execute(change, []).unwrap_err().to_string();
        assert!(refused.contains("only added to"), "{refused}");
    }
}

#[tokio::test]
async fn whoever_changes_the_file_is_found_out() {
    let wrong = [
        ("UPDATE audit SET actor = 'bert' WHERE id = 3", Tampered::Changed(3)),
        ("UPDATE audit SET at = at + 1 WHERE id = 1", Tampered::Changed(1)),
        ("UPDATE audit SET detail = '{}' WHERE id = 2", Tampered::Changed(2)),
        ("UPDATE audit SET detail = 'x' WHERE id = 2", Tampered::Changed(2)),
        ("UPDATE audit SET hash = zeroblob(32) WHERE id = 4", Tampered::Changed(4)),
        ("DELETE FROM audit WHERE id = 3", Tampered::Missing(3)),
        ("DELETE FROM audit WHERE id = 1", Tampered::Missing(1)),
        ("DELETE FROM audit WHERE id > 4", Tampered::Missing(5)),
        ("DELETE FROM audit", Tampered::Missing(1)),
        ("UPDATE audit SET id = 9 WHERE id = 6", Tampered::Missing(6)),
        (
            "INSERT INTO audit SELECT 7, at, actor, action, subject, detail, hash FROM audit WHERE id = 6",
            Tampered::Changed(7),
        ),
    ];
    for (change, how) in wrong {
        let home = busy().await;
        let database = Connection::open(home.folder.path().join("ledger.db")).unwrap();
        database.execute_batch("DROP TRIGGER audit_is_not_changed; DROP TRIGGER audit_is_not_shortened;").unwrap();
        home.ledger.verify_audit(None).unwrap();
        database.execute(change, []).unwrap();
        match home.ledger.verify_audit(None) {
            Err(LedgerError::Tampered(found)) => assert_eq!(found, how, "{change}"),
            other => panic!("{change}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_log_that_was_rewritten_whole_is_not_the_one_that_was_noted() {
    let home = busy().await;
    let entry = home.ledger.audit(None, 3).unwrap().remove(2);
    home.ledger.verify_audit(Some((entry.id, &entry.hash))).unwrap();
    // Another box's log is as whole as this one's.
    let other = busy().await;
    other.ledger.add_plan(Plan::open("x")).await.unwrap();
    let replaced = other.ledger.verify_audit(Some((entry.id, &entry.hash)));
    assert!(matches!(replaced, Err(LedgerError::Tampered(Tampered::Replaced(4)))), "{replaced:?}");
    let beyond = home.ledger.verify_audit(Some((99, &entry.hash)));
    assert!(matches!(beyond, Err(LedgerError::Tampered(Tampered::Replaced(99)))), "{beyond:?}");
}

#[tokio::test]
async fn an_export_is_checked_without_the_box() {
    let home = busy().await;
    let mut lines = Vec::new();
    home.ledger
        .export_audit(|entry| {
            lines.push(serde_json::to_string(entry).unwrap());
            Ok::<_, LedgerError>(())
        })
        .unwrap();
    let check = |lines: &[String]| {
        let mut chain = Chain::default();
        let parsed = lines.iter().map(|line| serde_json::from_str::<AuditEntry>(line).unwrap());
        parsed.map(|entry| chain.push(&entry)).collect::<Result<Vec<()>, Tampered>>().map(|_| chain.verified())
    };
    assert_eq!(check(&lines).unwrap(), home.ledger.verify_audit(None).unwrap());
    lines[2] = lines[2].replace("kim", "tim");
    assert_eq!(check(&lines), Err(Tampered::Changed(3)));
    lines.remove(2);
    assert_eq!(check(&lines), Err(Tampered::Missing(3)));
}

#[tokio::test]
async fn entries_are_found_by_what_was_done_and_by_whom() {
    let home = Home::new();
    let ledger = &home.ledger;
    ledger.claim("olga").await.unwrap();
    let anna = ledger.clone().acting_as("Anna, session abc");
    anna.add_person("ben", Role::Member, "pro", Role::Owner).await.unwrap();
    anna.add_team("shop", "pro").await.unwrap();
    ledger.clone().acting_as("Annabel").add_person("cleo", Role::Member, "pro", Role::Owner).await.unwrap();
    let found = |action: Option<&str>, about: Option<&str>| {
        let wanted = AuditWanted { action: action.map(str::to_owned), about: about.map(str::to_owned) };
        let entries = ledger.audit_about(&wanted, None, 10).unwrap().into_iter();
        entries.map(|entry| entry.subject).collect::<Vec<_>>()
    };
    assert_eq!(found(Some("user."), None), ["cleo", "ben"]);
    assert_eq!(found(None, Some("anna")), ["shop", "ben"]);
    assert_eq!(found(Some("team."), Some("ANNA")), ["shop"]);
    assert_eq!(found(None, Some("Ben")), ["ben"]);
    // No pattern, and no more than a name.
    for nobody in ["ann", "%", "_nna", "' OR 1 --", ""] {
        assert_eq!(found(None, Some(nobody)), Vec::<String>::new(), "{nobody}");
    }
    assert_eq!(found(None, None).len(), ledger.audit(None, 10).unwrap().len());
}
