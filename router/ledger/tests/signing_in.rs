//! Passkeys, identities of other providers, links that set passwords, and names that change.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use allerac_ledger::{
    Clock, Identified, Invitation, Ledger, LedgerError, NewIdentity, NewPasskey, PersonChange, Proof, Role,
    SessionAbout,
};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use support::{Home, balance, principal, reserve, settlement};

const HOUR: i64 = 3600;
const ISSUER: &str = "https://id.example";

fn passkey(label: &str, credential: &[u8], counter: u32) -> NewPasskey {
    NewPasskey {
        label: label.into(),
        host: "allerac.local".into(),
        credential: credential.into(),
        public_key: vec![1, 2, 3],
        counter,
        is_synced: false,
    }
}

fn identity(subject: &str) -> NewIdentity {
    NewIdentity { issuer: ISSUER.into(), subject: subject.into(), label: format!("{subject}@example") }
}

fn code<T: std::fmt::Debug>(result: Result<T, LedgerError>) -> &'static str {
    match result {
        Err(LedgerError::Conflict { code, .. }) => code,
        Err(LedgerError::Missing { what, .. }) => what,
        other => panic!("{other:?}"),
    }
}

/// What was done, newest first: who, what, to whom.
fn acts(ledger: &Ledger, number: u32) -> Vec<(String, String, String)> {
    let entries = ledger.audit(None, number).unwrap().into_iter();
    entries.map(|entry| (entry.actor, entry.action, entry.subject)).collect()
}

fn act(actor: &str, action: &str, subject: &str) -> (String, String, String) {
    (actor.into(), action.into(), subject.into())
}

async fn box_of(names: &[&str]) -> Home {
    let home = Home::new();
    for name in names {
        home.ledger.add_person(name, Role::Member, "pro", Role::Owner).await.unwrap();
    }
    home
}

#[tokio::test]
async fn a_passkey_is_its_persons_until_it_or_they_go() {
    let home = box_of(&["anna", "ben"]).await;
    let ledger = &home.ledger;
    let kept = ledger.add_passkey("ANNA", passkey(" phone ", b"one", 0)).await.unwrap();
    assert_eq!((kept.label.as_str(), kept.used_at), ("phone", None));
    // One credential is one person's, at each name of the box.
    assert_eq!(code(ledger.add_passkey("ben", passkey("x", b"one", 0)).await), "passkey_exists");
    let elsewhere = NewPasskey { host: "localhost".into(), ..passkey("x", b"one", 0) };
    ledger.add_passkey("ben", elsewhere).await.unwrap();
    let known = ledger.passkey("allerac.local", b"one").unwrap().unwrap();
    assert_eq!((known.user_name.as_str(), known.public_key.as_slice()), ("anna", &[1, 2, 3][..]));
    assert_eq!(ledger.passkey("localhost", b"one").unwrap().unwrap().user_name, "ben");
    assert_eq!(ledger.passkey("evil.example", b"one").unwrap(), None);
    let holder = ledger.passkey_holder("anna", "allerac.local").unwrap();
    assert_eq!((holder.user, holder.credentials), (known.user, vec![b"one".to_vec()]));
    assert_eq!(ledger.user("anna").unwrap().passkeys, 1);
    assert_eq!(ledger.person("anna").unwrap().passkeys, std::slice::from_ref(&kept));

    // Only its person takes it away.
    assert_eq!(code(ledger.remove_passkey("ben", &kept.id).await), "passkey");
    ledger.remove_passkey("anna", &kept.id).await.unwrap();
    assert_eq!(ledger.passkey("allerac.local", b"one").unwrap(), None);
    assert_eq!(code(ledger.use_passkey(&kept.id, (0, false)).await), "passkey");
    let entry = &ledger.audit(None, 1).unwrap()[0];
    assert_eq!((entry.action.as_str(), entry.detail["passkey"].as_str()), ("passkey.remove", Some(kept.id.as_str())));

    ledger.add_passkey("anna", passkey("key", b"two", 0)).await.unwrap();
    ledger.remove_person("anna", Role::Owner).await.unwrap();
    assert_eq!(ledger.passkey("allerac.local", b"two").unwrap(), None);
    for number in 1..20_u8 {
        ledger.add_passkey("ben", passkey("x", &[number], 0)).await.unwrap();
    }
    assert_eq!(code(ledger.add_passkey("ben", passkey("x", b"more", 0)).await), "too_many_passkeys");
    assert_eq!(ledger.remove_passkeys("ben").await.unwrap(), 20);
    assert_eq!(ledger.passkeys("ben").unwrap(), []);
}

#[tokio::test]
async fn a_counter_that_does_not_go_up_is_refused_and_noted() {
    let home = box_of(&["anna"]).await;
    let ledger = &home.ledger;
    let counts = ledger.add_passkey("anna", passkey("counts", b"one", 5)).await.unwrap();
    let never = ledger.add_passkey("anna", passkey("never", b"two", 0)).await.unwrap();
    for (id, counter, opens) in [
        (&never.id, 0, true),
        (&never.id, 0, true),
        (&counts.id, 5, false),
        (&counts.id, 6, true),
        (&counts.id, 6, false),
        (&counts.id, 0, false),
        (&counts.id, 9, true),
        // Once it counts, it counts on.
        (&never.id, 1, true),
        (&never.id, 0, false),
    ] {
        assert_eq!(ledger.use_passkey(id, (counter, true)).await.unwrap(), opens, "{counter}");
    }
    assert_eq!(acts(ledger, 1), [act("anna", "passkey.copied", "anna")]);
    let detail = ledger.audit(None, 1).unwrap().remove(0).detail;
    assert_eq!((detail["counter"].as_u64(), detail["counter_before"].as_u64()), (Some(0), Some(1)));
    let rows = ledger.passkeys("anna").unwrap();
    assert!(rows.iter().all(|row| row.synced && row.used_at.is_some()));
    assert_eq!(ledger.verify_audit(None).unwrap().entries, 1 + 2 + 4);
}

#[tokio::test]
async fn whom_a_provider_means_is_one_person() {
    let home = box_of(&["anna", "ben"]).await;
    let ledger = home.ledger.clone().acting_as("anna");
    assert_eq!(ledger.identified(ISSUER, "a").unwrap(), Identified::Nobody);
    ledger.link_identity("anna", identity("a")).await.unwrap();
    ledger.link_identity("Anna", identity("a")).await.unwrap();
    assert_eq!(code(ledger.link_identity("ben", identity("a")).await), "identity_taken");
    assert_eq!(code(ledger.add_identified("cleo", (Role::Member, "pro"), identity("a")).await), "identity_taken");
    assert_eq!(ledger.identified(ISSUER, "a").unwrap(), Identified::Person("anna".into()));
    assert_eq!(ledger.identified("https://other.example", "a").unwrap(), Identified::Nobody);
    ledger.use_identity(NewIdentity { label: "new@example".into(), ..identity("a") }).await.unwrap();
    let row = ledger.identities("anna").unwrap().remove(0);
    assert_eq!((row.label.as_str(), row.used_at.is_some()), ("new@example", true));

    ledger.add_identified("cleo", (Role::Child, "starter"), identity("c")).await.unwrap();
    let cleo = ledger.user("cleo").unwrap();
    assert_eq!((cleo.role, cleo.plan.as_str(), cleo.password, cleo.identities), (Role::Child, "starter", false, 1));
    assert_eq!(code(ledger.add_identified("Ben", (Role::Member, "pro"), identity("d")).await), "name_taken");
    assert_eq!(ledger.identified(ISSUER, "d").unwrap(), Identified::Nobody);

    // Who is removed is known as such, until somebody invites them anew.
    ledger.remove_person("cleo", Role::Owner).await.unwrap();
    assert_eq!(ledger.identified(ISSUER, "c").unwrap(), Identified::Removed);
    assert_eq!(code(ledger.add_identified("cleo", (Role::Member, "pro"), identity("c")).await), "identity_taken");
    let invite = || Invitation { name: None, role: Role::Member, plan: "pro".into(), team: None, open_s: HOUR };
    let first = ledger.invite(invite(), Role::Owner, "olga").await.unwrap();
    let refused = ledger.accept(&first.secret, "dora", Proof::Identity(identity("a"))).await;
    assert_eq!(code(refused), "identity_taken");
    assert!(ledger.user("dora").is_err(), "who is refused is not half there");
    assert_eq!(ledger.accept(&first.secret, "cleo", Proof::Identity(identity("c"))).await.unwrap(), "cleo");
    assert_eq!(ledger.identified(ISSUER, "c").unwrap(), Identified::Person("cleo".into()));

    let row = ledger.identities("cleo").unwrap().remove(0);
    assert_eq!(code(ledger.unlink_identity("anna", &row.id).await), "identity");
    ledger.unlink_identity("cleo", &row.id).await.unwrap();
    // Who unlinked it is not taken for somebody new, and may link it again.
    assert_eq!(ledger.identified(ISSUER, "c").unwrap(), Identified::Unlinked);
    assert_eq!(ledger.identities("cleo").unwrap(), []);
    assert_eq!(code(ledger.unlink_identity("cleo", &row.id).await), "identity");
    // Who is erased leaves nothing to be known by.
    assert_eq!(ledger.person("anna").unwrap().identities.len(), 1);
    ledger.lock_out("anna").await.unwrap();
    assert_eq!(ledger.identified(ISSUER, "a").unwrap(), Identified::Nobody);
    ledger.forget("anna").await.unwrap();
    home.check();
    let file = std::fs::read(home.folder.path().join("ledger.db")).unwrap();
    assert!(!file.windows(11).any(|bytes| bytes == b"new@example"), "the address is nowhere in the file");
}

#[tokio::test]
async fn a_link_sets_a_password_once_and_ends_sessions() {
    let time = Arc::new(AtomicI64::new(1_795_172_400));
    let told = Arc::clone(&time);
    let clock = Clock::new(move || Timestamp::from_second(told.load(Ordering::Relaxed)).unwrap());
    let home = Home::with_clock(clock, TimeZone::UTC);
    let ledger = &home.ledger;
    ledger.claim("olga").await.unwrap();
    ledger.add_person("anna", Role::Member, "pro", Role::Owner).await.unwrap();
    let about = SessionAbout { agent: String::new(), address: String::new(), by: "password" };
    let (session, _) = ledger.open_session("anna", about).await.unwrap();
    assert!(matches!(ledger.password_link("olga", HOUR, Role::Admin).await, Err(LedgerError::Forbidden(_))));
    assert!(matches!(ledger.password_link("zoe", HOUR, Role::Owner).await, Err(LedgerError::UnknownUser(_))));
    for never in [0, -1, 8 * 24 * HOUR] {
        assert!(matches!(ledger.password_link("anna", never, Role::Owner).await, Err(LedgerError::Invalid { .. })));
    }
    let (first, _) = ledger.password_link("anna", HOUR, Role::Admin).await.unwrap();
    let (second, until) = ledger.password_link("anna", HOUR, Role::Admin).await.unwrap();
    assert_eq!((ledger.linked(&second.secret).unwrap().as_str(), until), ("anna", 1_795_172_400 + HOUR));
    let almost = format!("{}A", &second.secret[..second.secret.len() - 1]);
    for shut in [first.secret.as_str(), "", &almost, &second.secret[1..]] {
        assert_eq!(code(ledger.linked(shut)), "open link", "{shut}");
        assert_eq!(code(ledger.take_password_link(shut, "h".into()).await), "open link", "{shut}");
    }
    let taken = ["hash a", "hash b"].map(|hash| {
        let (ledger, secret) = (ledger.clone(), second.secret.clone());
        tokio::spawn(async move { ledger.take_password_link(&secret, hash.into()).await })
    });
    let mut opened = 0;
    for one in taken {
        opened += usize::from(one.await.unwrap().is_ok());
    }
    assert_eq!(opened, 1);
    assert!(ledger.login("anna").unwrap().unwrap().password.unwrap().starts_with("hash"));
    assert!(ledger.session(&session.secret).is_err());
    let actor = format!("password link {}", second.public_id);
    assert_eq!(acts(ledger, 1), [act(&actor, "user.password", "anna")]);

    // It opens for its time, and not beside another password.
    let (late, _) = ledger.password_link("anna", HOUR, Role::Owner).await.unwrap();
    time.fetch_add(HOUR, Ordering::Relaxed);
    assert_eq!(code(ledger.linked(&late.secret)), "open link");
    let (other, _) = ledger.password_link("anna", HOUR, Role::Owner).await.unwrap();
    ledger.set_password("anna", Some("h".into()), (None, None)).await.unwrap();
    assert_eq!(code(ledger.linked(&other.secret)), "open link");
    let (gone, _) = ledger.password_link("anna", HOUR, Role::Owner).await.unwrap();
    ledger.remove_person("anna", Role::Owner).await.unwrap();
    assert_eq!(code(ledger.linked(&gone.secret)), "open link");
}

#[tokio::test]
async fn whoever_is_called_otherwise_keeps_all_that_is_theirs() {
    let home = box_of(&["anna", "ben"]).await;
    let ledger = &home.ledger;
    let anna = principal(ledger, "anna", None).await;
    ledger.reserve(&anna, reserve(10, 90)).await.unwrap().settle(settlement(10, 20)).await.unwrap();
    ledger.add_team("shop", "pro").await.unwrap();
    let called = |name: &str| PersonChange { name: Some(name.into()), ..PersonChange::default() };
    for taken in ["ben", "BEN", "shop"] {
        assert_eq!(code(ledger.change_person("anna", called(taken), Role::Owner).await), "name_taken");
    }
    let nobody = ledger.change_person("anna", called(" "), Role::Owner).await;
    assert!(matches!(nobody, Err(LedgerError::InvalidName)));
    ledger.change_person("anna", called("Anna-Maria"), Role::Owner).await.unwrap();
    assert_eq!(acts(ledger, 1), [act("server", "user.rename", "anna")]);
    assert_eq!(ledger.audit(None, 1).unwrap()[0].detail["after"], "Anna-Maria");
    ledger.change_person("anna-maria", called("Anna-maria"), Role::Owner).await.unwrap();
    let now = ledger.principal(&anna.key_id).unwrap();
    assert_eq!((now.user_name.as_str(), balance(ledger, &now)), ("Anna-maria", (30, 0)));
    assert_eq!(ledger.usage(None).unwrap()[0].user, "Anna-maria");
    assert!(ledger.user("anna").is_err());
    // The old name is free, for somebody with nothing used.
    ledger.add_person("anna", Role::Member, "pro", Role::Owner).await.unwrap();
    assert_eq!(ledger.user("anna").unwrap().quota.used, 0);
    home.check();
}

/// All by which somebody may come in: keys that open, sessions, passkeys, identities, and whether there is a password.
fn ways_in(ledger: &Ledger, name: &str) -> (usize, usize, usize, usize, bool) {
    let keys = ledger.keys_of(Some(name)).unwrap().iter().filter(|key| key.revoked_at.is_none()).count();
    let (sessions, passkeys) = (ledger.sessions(Some(name)).unwrap().len(), ledger.passkeys(name).unwrap().len());
    let identities = ledger.identities(name).unwrap().len();
    (keys, sessions, passkeys, identities, ledger.user(name).unwrap().password)
}

#[tokio::test]
async fn whoever_rises_above_an_admin_who_had_a_secret_of_theirs_begins_anew() {
    let home = box_of(&["ann", "ben", "cleo", "dora", "eve"]).await;
    let ledger = &home.ledger;
    ledger
        .change_person("ann", PersonChange { role: Some(Role::Admin), ..PersonChange::default() }, Role::Owner)
        .await
        .unwrap();
    let by_ann = ledger.clone().acting_as("ann").by_admin("ann");
    // Ben has a key of Ann's, Cleo a password, Dora a link; Eve's ways in are her own.
    by_ann.create_key(support::new_key("ben", None)).await.unwrap();
    by_ann.set_password("cleo", Some("h".into()), (None, Some(Role::Admin))).await.unwrap();
    by_ann.password_link("dora", HOUR, Role::Admin).await.unwrap();
    for (number, name) in ["ben", "cleo", "dora", "eve"].into_iter().enumerate() {
        ledger.create_key(support::new_key(name, None)).await.unwrap();
        ledger.set_password(name, Some("h".into()), (None, None)).await.unwrap();
        let about = SessionAbout { agent: String::new(), address: String::new(), by: "password" };
        ledger.open_session(name, about).await.unwrap();
        ledger.add_passkey(name, passkey("phone", &[u8::try_from(number).unwrap()], 0)).await.unwrap();
        ledger.link_identity(name, identity(name)).await.unwrap();
    }
    assert_eq!((ways_in(ledger, "ben"), ways_in(ledger, "eve")), ((2, 1, 1, 1, true), (1, 1, 1, 1, true)));
    let become_a = |role| PersonChange { role: Some(role), ..PersonChange::default() };
    // What an admin governs anyway changes nothing.
    ledger.change_person("ben", become_a(Role::Child), Role::Admin).await.unwrap();
    assert_eq!(ways_in(ledger, "ben"), (2, 1, 1, 1, true));
    for (name, role) in [("ben", Role::Admin), ("cleo", Role::Owner), ("dora", Role::Admin), ("eve", Role::Owner)] {
        ledger.change_person(name, become_a(role), Role::Owner).await.unwrap();
        let left = if name == "eve" { (1, 1, 1, 1, true) } else { (0, 0, 0, 0, false) };
        assert_eq!(ways_in(ledger, name), left, "{name}");
    }
    // It is over with that: another rise ends nothing.
    ledger.set_password("ben", Some("h".into()), (None, Some(Role::Owner))).await.unwrap();
    ledger.change_person("ben", become_a(Role::Owner), Role::Owner).await.unwrap();
    assert_eq!(ways_in(ledger, "ben"), (0, 0, 0, 0, true));
}

#[tokio::test]
async fn an_admins_invitation_is_a_secret_in_their_hand_and_an_owners_is_none() {
    let home = box_of(&[]).await;
    let ledger = &home.ledger;
    for (by, name, keeps) in [(Role::Admin, "finn", false), (Role::Owner, "gus", true)] {
        let plan = "pro".to_owned();
        let new = Invitation { name: Some(name.into()), role: Role::Member, plan, team: None, open_s: HOUR };
        let link = ledger.invite(new, by, "somebody").await.unwrap();
        ledger.accept(&link.secret, name, Proof::Password("h".into())).await.unwrap();
        let admin = PersonChange { role: Some(Role::Admin), ..PersonChange::default() };
        ledger.change_person(name, admin, Role::Owner).await.unwrap();
        assert_eq!(ledger.user(name).unwrap().password, keeps, "{name}");
    }
}

#[tokio::test]
async fn all_identities_of_somebody_are_unlinked_at_once() {
    let home = box_of(&["ann"]).await;
    for subject in ["a", "b"] {
        home.ledger.link_identity("ann", identity(subject)).await.unwrap();
    }
    assert_eq!(home.ledger.unlink_identities("ann").await.unwrap(), 2);
    assert_eq!(home.ledger.identities("ann").unwrap().len(), 0);
    assert_eq!(home.ledger.identified(ISSUER, "a").unwrap(), Identified::Unlinked);
    assert_eq!(home.ledger.unlink_identities("ann").await.unwrap(), 0);
    assert!(matches!(home.ledger.unlink_identities("nobody").await, Err(LedgerError::UnknownUser(_))));
}
