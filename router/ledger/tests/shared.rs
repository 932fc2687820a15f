//! Books that several servers share. These tests need a server of PostgreSQL:
//! `scripts/with-postgres.sh cargo test --release -p allerac-ledger --test shared -- --include-ignored`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use allerac_ledger::{
    AuditWanted, DeliveriesWanted, Increase, Invitation, KeyLimits, Ledger, LedgerError, NewIdentity, NewKey,
    NewPasskey, Options, Outcome, Part, PersonChange, Plan, Price, Proof, ReserveError, Role, ServeLock, SessionAbout,
    Settlement, Span, Tried, UpstreamPolicy, Wanted, Width,
};
use jiff::tz::TimeZone;
use serde_json::json;
use support::server::{NOW, Replica, clock, database, lossy};
use support::{balance, new_key, principal, reserve, settlement};

fn in_file(directory: &Path) -> Ledger {
    Ledger::open_with(directory, TimeZone::UTC, Options { clock: clock(), check: true, ..Options::default() }).unwrap()
}

/// A bit of everything that is ever written.
async fn live(ledger: &Ledger) {
    let owner = ledger.claim("Olga").await.unwrap();
    ledger.keep_time_zone().await.unwrap();
    ledger.note_requests(true).await.unwrap();
    ledger.alert_at(&[50, 100]).await.unwrap();
    ledger
        .set_prices(
            &[Price { served_by: "upstream:far".into(), model: "m".into(), input: 3, cached_input: None, output: 7 }],
            "usd",
        )
        .await
        .unwrap();
    let small = Plan { tokens_a_month: Some(100), carry_over: true, ..ledger.plan("personal").unwrap() };
    ledger.add_plan(Plan { name: "small".into(), ..small }).await.unwrap();
    ledger.change_plan("small", |plan| plan.models = vec!["m".into()]).await.unwrap();
    ledger
        .add_person_with("Kim", PersonChange { role: Some(Role::Child), ..PersonChange::default() }, Role::Owner)
        .await
        .unwrap();
    ledger
        .change_person(
            "kim",
            PersonChange { hours: Some("07:00-20:00".parse().unwrap()), ..PersonChange::default() },
            Role::Owner,
        )
        .await
        .unwrap();
    ledger.add_team("shop", "pro").await.unwrap();
    ledger.join_team("shop", "KIM").await.unwrap();
    let limits = KeyLimits { team: Some("shop".into()), models: vec!["m".into()], ..KeyLimits::default() };
    let of_team =
        NewKey { user: "kim".into(), label: "till".into(), plan: None, upstreams: UpstreamPolicy::None, limits };
    ledger.create_key(of_team).await.unwrap();
    let invitation =
        Invitation { name: None, role: Role::Member, plan: "pro".into(), team: Some("shop".into()), open_s: 60 };
    let open = ledger.invite(invitation.clone(), Role::Owner, "olga").await.unwrap();
    ledger.accept(&open.secret, "Ann", Proof::Password("hash".into())).await.unwrap();
    let back = ledger.invite(invitation, Role::Owner, "olga").await.unwrap();
    ledger.revoke_invitation(&back.public_id, Role::Owner).await.unwrap();
    for _ in 0..3 {
        ledger
            .open_session("ann", SessionAbout { agent: "test".into(), address: "::1".into(), by: "password" })
            .await
            .unwrap();
    }
    ledger.set_password("olga", Some("hash".into()), (None, None)).await.unwrap();
    ledger.enrol("ann").await.unwrap();
    let passkey = NewPasskey {
        label: "phone".into(),
        host: "allerac.local".into(),
        credential: vec![1, 2],
        public_key: vec![3],
        counter: 7,
        is_synced: true,
    };
    let kept = ledger.add_passkey("olga", passkey.clone()).await.unwrap();
    assert!(ledger.add_passkey("olga", passkey).await.is_err());
    assert!(ledger.use_passkey(&kept.id, (8, true)).await.unwrap());
    assert!(!ledger.use_passkey(&kept.id, (8, true)).await.unwrap());
    let identity = NewIdentity { issuer: "https://id.example".into(), subject: "s".into(), label: "o@example".into() };
    ledger.link_identity("olga", identity.clone()).await.unwrap();
    ledger.use_identity(identity).await.unwrap();
    for _ in 0..2 {
        ledger.password_link("kim", 60, Role::Owner).await.unwrap();
    }
    ledger.increase("ann", Increase { tokens: 5, ends_at: NOW + 100 }).await.unwrap();
    ledger.rotate_key(&owner.public_id, 60).await.unwrap();
    let few = principal(ledger, "zoe", Some("small")).await;
    for (tokens, place) in [(30, "local"), (20, "upstream:far")] {
        let mut asked = reserve(tokens, 10);
        asked.served_by = place.into();
        ledger.reserve(&few, asked).await.unwrap().settle(settlement(tokens, 5)).await.unwrap();
    }
    // The same request once more: what it was charged before is taken back.
    let again = reserve(1, 1);
    for tokens in [1, 2] {
        let settlement = Settlement { outcome: Outcome::Failed, ..settlement(tokens, 0) };
        ledger.reserve(&few, again.clone()).await.unwrap().settle(settlement).await.unwrap();
    }
    let refused = ledger.reserve(&few, reserve(90, 10)).await.unwrap_err();
    assert!(matches!(refused, ReserveError::QuotaExceeded { limit: 100, .. }), "{refused}");
    ledger.alert("backup.failed", Some("once".into()), json!({"why": "no disk"})).await.unwrap();
    let due = ledger.due_alerts(&["mail".into()], |_, _| true).await.unwrap();
    ledger.alert_tried(&due[0], Tried::Dead { error: "refused".into() }).await.unwrap();
    assert_eq!(ledger.retry_alerts(None).await.unwrap(), 1);
    let gone = principal(ledger, "gone", None).await;
    ledger.reserve(&gone, reserve(3, 1)).await.unwrap().settle(settlement(3, 1)).await.unwrap();
    ledger.lock_out("gone").await.unwrap();
    ledger.forget("gone").await.unwrap();
    ledger.remove_person("Ann", Role::Owner).await.unwrap();
    ledger.flush().await.unwrap();
}

/// All that can be read, as text.
fn all(ledger: &Ledger) -> Vec<String> {
    let wanted = |width| Wanted {
        width,
        from: NOW - 7200,
        to: Some(NOW + 1),
        limit: 100,
        by: vec![Part::User, Part::Key, Part::Model],
        endpoints: vec!["chat.completions"],
        users: Vec::new(),
        keys: Vec::new(),
        models: vec!["m".into()],
    };
    let mut requests = Vec::new();
    let span = Span { from: Some(NOW - 1), to: None, user: Some("ZOE".into()) };
    let each = |request| {
        requests.push(format!("{request:?}"));
        Ok::<_, LedgerError>(())
    };
    ledger.export_usage(&span, each).unwrap();
    let buckets =
        [Width::Day, Width::Hour, Width::Minute].map(|width| format!("{:?}", ledger.buckets(&wanted(width)).unwrap()));
    let about = AuditWanted { action: Some("user".into()), about: Some("kim".into()) };
    let read = [
        format!("{:?}", ledger.usage(None).unwrap()),
        format!("{:?}", ledger.usage(Some("2026-11")).unwrap()),
        format!("{:?}", ledger.usage_by_month(None).unwrap()),
        format!("{:?}", ledger.users().unwrap()),
        format!("{:?}", ledger.user("KIM").unwrap()),
        format!("{:?}", ledger.person("kim").unwrap()),
        format!("{:?}", ledger.keys().unwrap()),
        format!("{:?}", ledger.keys_of(Some("kim")).unwrap()),
        format!("{:?}", ledger.plans().unwrap()),
        format!("{:?}", ledger.teams(None).unwrap()),
        format!("{:?}", ledger.invitations().unwrap()),
        format!("{:?}", ledger.sessions(None).unwrap()),
        format!("{:?}", ledger.login("OLGA").unwrap()),
        format!("{:?}", ledger.passkeys("OLGA").unwrap()),
        format!("{:?}", ledger.passkey("allerac.local", &[1, 2]).unwrap()),
        format!("{:?}", ledger.identities("OLGA").unwrap()),
        format!("{:?}", ledger.identified("https://id.example", "s").unwrap()),
        format!("{:?}", ledger.audit(None, 1000).unwrap()),
        format!("{:?}", ledger.audit_about(&about, None, 10).unwrap()),
        format!("{:?}", ledger.verify_audit(None).unwrap()),
        format!("{:?}", ledger.deliveries(&DeliveriesWanted::default(), 10).unwrap()),
        format!("{:?}", ledger.currency().unwrap()),
        format!("{:?}", ledger.verify().unwrap()),
    ];
    read.into_iter().chain(buckets).chain(requests).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server"]
async fn books_say_the_same_in_a_file_on_a_server_and_in_a_file_again() {
    let (file, books) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ledger = in_file(file.path());
    live(&ledger).await;
    let expected = all(&ledger);
    assert!(expected.iter().any(|text| text.contains("cost: 95")), "{expected:#?}");
    ledger.copy_to_server(&database(books.path()).unwrap()).unwrap();
    let refused = ledger.copy_to_server(&database(books.path()).unwrap()).unwrap_err().to_string();
    assert_eq!(refused, "there are books in that database already");

    let shared = Replica::open(&books);
    pretty_eq(&all(&shared.ledger), &expected);
    // What comes after has numbers of its own.
    let anna = principal(&shared.ledger, "anna", None).await;
    shared.ledger.reserve(&anna, reserve(3, 1)).await.unwrap().settle(settlement(3, 1)).await.unwrap();

    let copy = file.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    shared.ledger.copy_to(&copy.join("ledger.db")).unwrap();
    pretty_eq(&all(&in_file(&copy)), &all(&shared.ledger));
}

#[track_caller]
fn pretty_eq(left: &[String], right: &[String]) {
    for (left, right) in left.iter().zip(right) {
        assert_eq!(left, right);
    }
    assert_eq!(left.len(), right.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server"]
async fn everything_can_be_written_on_a_server() {
    let books = tempfile::tempdir().unwrap();
    let shared = Replica::open(&books);
    live(&shared.ledger).await;
    assert_eq!(shared.ledger.verify().unwrap().differences, []);
    let quota = shared.ledger.user("zoe").unwrap().quota;
    assert_eq!((quota.used, quota.reserved), (62, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a server"]
async fn three_servers_give_not_one_token_too_much() {
    let books = tempfile::tempdir().unwrap();
    let servers: Vec<Replica> = (0..3).map(|_| Replica::open(&books)).collect();
    let first = &servers[0].ledger;
    first
        .add_plan(Plan { name: "few".into(), tokens_a_month: Some(100), ..first.plan("personal").unwrap() })
        .await
        .unwrap();
    let key = first.create_key(new_key("anna", Some("few"))).await.unwrap();
    let asking: Vec<_> = (0..200)
        .map(|number| {
            let (ledger, secret) = (servers[number % 3].ledger.clone(), key.secret.clone());
            tokio::spawn(async move {
                let anna = ledger.authenticate(&secret).unwrap();
                let Ok(reservation) = ledger.reserve(&anna, reserve(3, 4)).await else { return 0 };
                reservation.settle(settlement(3, 4)).await.unwrap();
                7
            })
        })
        .collect();
    let mut given = 0;
    for task in asking {
        given += task.await.unwrap();
    }
    assert_eq!(given, 98);
    let anna = first.authenticate(&key.secret).unwrap();
    assert_eq!(balance(first, &anna), (98, 0));
    assert_eq!(first.verify().unwrap().differences, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server"]
async fn each_server_settles_what_it_left_open_and_nothing_else() {
    let books = tempfile::tempdir().unwrap();
    let servers: Vec<Replica> = (0..2).map(|_| Replica::open(&books)).collect();
    let anna = principal(&servers[0].ledger, "anna", None).await;
    let mut open = Vec::new();
    for server in &servers {
        let mut reservation = server.ledger.reserve(&anna, reserve(10, 10)).await.unwrap();
        reservation.count(10, 0, 4).unwrap();
        open.push(reservation);
    }
    // The first dies; the second goes on.
    std::mem::forget(open.remove(0));
    let _lock = ServeLock::acquire(servers[0].folder.path()).unwrap();
    let again = Replica::ledger(&books, servers[0].folder.path());
    let recovered = again.recover().await.unwrap();
    assert_eq!((recovered.charged, recovered.released), (1, 0));
    assert_eq!(balance(&again, &anna), (14, 20));
    open.remove(0).settle(settlement(10, 9)).await.unwrap();
    assert_eq!(balance(&again, &anna), (33, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server"]
async fn a_commit_whose_answer_is_lost_counts_once() {
    let books = tempfile::tempdir().unwrap();
    let direct = Replica::open(&books);
    let anna = principal(&direct.ledger, "anna", None).await;
    let cuts = Arc::new(AtomicU32::new(0));
    let database = Some(lossy(books.path(), Arc::clone(&cuts)).await);
    let folder = tempfile::tempdir().unwrap();
    let options = Options { clock: clock(), check: true, database };
    let ledger = Ledger::open_with(folder.path(), TimeZone::UTC, options).unwrap();
    for round in 1..=5 {
        cuts.store(1, Ordering::SeqCst);
        let reservation = ledger.reserve(&anna, reserve(10, 10)).await.unwrap();
        assert_eq!(balance(&direct.ledger, &anna), (15 * (round - 1), 20));
        cuts.store(1, Ordering::SeqCst);
        reservation.settle(settlement(10, 5)).await.unwrap();
        assert_eq!(balance(&direct.ledger, &anna), (15 * round, 0));
        assert_eq!(cuts.load(Ordering::SeqCst), 0, "no connection was cut: the test sees nothing");
    }
}
