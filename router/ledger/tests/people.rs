//! People, the limits of their keys, sessions, second factors, invitations and teams.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use allerac_ledger::{
    AuthError, Clock, CreatedKey, Denied, Invitation, KeyLimits, Ledger, LedgerError, NewKey, PersonChange, Proof,
    Right, Role, Scope, Scopes, SessionAbout, UpstreamPolicy,
};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use support::{Home, balance, new_key, reserve, settlement};

/// Friday 2026-11-20, 12:00 in Vienna.
const NOON: i64 = 1_795_172_400;
const HOUR: i64 = 3600;

/// A box in Vienna whose clock the test sets.
fn home() -> (Home, Arc<AtomicI64>) {
    let time = Arc::new(AtomicI64::new(NOON));
    let told = Arc::clone(&time);
    let clock = Clock::new(move || Timestamp::from_second(told.load(Ordering::Relaxed)).unwrap());
    (Home::with_clock(clock, TimeZone::get("Europe/Vienna").unwrap()), time)
}

async fn key(ledger: &Ledger, user: &str, limits: KeyLimits) -> CreatedKey {
    ledger.create_key(NewKey { limits, ..new_key(user, None) }).await.unwrap()
}

fn about() -> SessionAbout {
    SessionAbout { agent: "Browser\r\n1".into(), address: "10.0.0.7".into(), by: "password" }
}

fn reason<T>(result: Result<T, LedgerError>) -> String {
    result.err().unwrap().to_string()
}

#[tokio::test]
async fn roles_bound_what_a_key_may_whatever_it_says() {
    let (home, _) = home();
    let ledger = &home.ledger;
    let owner = ledger.claim("olga").await.unwrap();
    for (name, role) in [("kid", Role::Child), ("aud", Role::Auditor), ("adam", Role::Admin), ("mia", Role::Member)] {
        ledger.add_person(name, role, "pro", Role::Owner).await.unwrap();
    }
    let kid = ledger.authenticate(&key(ledger, "kid", KeyLimits::default()).await.secret).unwrap();
    assert_eq!(kid.may(Right::Infer), Ok(()));
    assert_eq!(kid.may(Right::Files), Err(Denied::Role(Role::Child, Right::Files)));
    assert_eq!(kid.may(Right::OwnKeys), Err(Denied::Role(Role::Child, Right::OwnKeys)));
    let aud = ledger.authenticate(&key(ledger, "aud", KeyLimits::default()).await.secret).unwrap();
    assert_eq!(
        (aud.may(Right::Look), aud.may(Right::Infer).is_err(), aud.may(Right::Administer).is_err()),
        (Ok(()), true, true)
    );
    assert_eq!(ledger.authenticate(&owner.secret).unwrap().may(Right::MakeAdmins), Ok(()));

    // A child never leaves the box, also where a key was made before they became one.
    let away = NewKey { upstreams: UpstreamPolicy::All, ..new_key("mia", None) };
    let made = ledger.create_key(away.clone()).await.unwrap();
    assert!(ledger.authenticate(&made.secret).unwrap().allows_upstream("gpu"));
    ledger
        .change_person("mia", PersonChange { role: Some(Role::Child), ..PersonChange::default() }, Role::Admin)
        .await
        .unwrap();
    assert!(!ledger.authenticate(&made.secret).unwrap().allows_upstream("gpu"));
    assert!(reason(ledger.create_key(away).await).contains("stay on the box"));
}

#[tokio::test]
async fn admins_do_not_rule_owners_and_the_last_owner_stays() {
    let (home, _) = home();
    let ledger = &home.ledger;
    ledger.claim("olga").await.unwrap();
    let to = |role| PersonChange { role: Some(role), ..PersonChange::default() };
    assert!(reason(ledger.add_person("eve", Role::Admin, "pro", Role::Admin).await).starts_with("only an owner"));
    assert!(reason(ledger.change_person("olga", to(Role::Member), Role::Admin).await).starts_with("only an owner"));
    assert!(reason(ledger.remove_person("olga", Role::Admin).await).starts_with("only an owner"));
    for last in [
        ledger.change_person("olga", to(Role::Admin), Role::Owner).await,
        ledger.remove_person("olga", Role::Owner).await,
    ] {
        assert!(matches!(last, Err(LedgerError::Conflict { code: "last_owner", .. })), "{last:?}");
    }
    ledger.add_person("otto", Role::Owner, "unlimited", Role::Owner).await.unwrap();
    ledger.remove_person("olga", Role::Owner).await.unwrap();
    assert_eq!(ledger.users().unwrap().iter().map(|user| user.user.as_str()).collect::<Vec<_>>(), ["otto"]);
    assert!(ledger.is_claimed().unwrap());
}

#[tokio::test]
async fn who_is_removed_opens_nothing_and_their_name_begins_anew() {
    let (home, _) = home();
    let ledger = &home.ledger;
    let old = key(ledger, "anna", KeyLimits::default()).await;
    let anna = ledger.authenticate(&old.secret).unwrap();
    ledger.reserve(&anna, reserve(10, 90)).await.unwrap().settle(settlement(10, 20)).await.unwrap();
    let (session, _) = ledger.open_session("anna", about()).await.unwrap();
    ledger.remove_person("ANNA", Role::Owner).await.unwrap();
    assert!(matches!(ledger.authenticate(&old.secret), Err(AuthError::Revoked)));
    assert!(matches!(ledger.session(&session.secret), Err(AuthError::SignedOut)));
    assert!(ledger.login("anna").unwrap().is_none());
    let new = key(ledger, "anna", KeyLimits::default()).await;
    assert_eq!(balance(ledger, &ledger.authenticate(&new.secret).unwrap()), (0, 0));
    let row = &ledger.usage(None).unwrap()[0];
    assert_eq!((row.user.as_str(), row.completion_tokens), ("anna (removed 1)", 20));
    home.check();
}

#[tokio::test]
async fn keys_are_bound_to_endpoints_models_hours_and_time() {
    let (home, time) = home();
    let ledger = &home.ledger;
    let limits = KeyLimits {
        scopes: Scopes::of(&[Scope::Inference]),
        models: vec!["smol*".into()],
        hours: "mon-fri 08:00-18:00".parse().unwrap(),
        expires_at: Some(NOON + 30 * 24 * HOUR),
        team: None,
    };
    let made = key(ledger, "anna", limits).await;
    let anna = || ledger.authenticate(&made.secret);
    assert_eq!(anna().unwrap().may(Right::Infer), Ok(()));
    assert_eq!(anna().unwrap().may(Right::SeeModels), Err(Denied::Scope(Scope::Models)));
    assert!(anna().unwrap().allows_model("smollm") && !anna().unwrap().allows_model("qwen"));
    // From Friday evening it is shut until Monday morning.
    time.store(NOON + 6 * HOUR, Ordering::Relaxed);
    let monday = NOON + (2 * 24 + 20) * HOUR;
    assert_eq!(anna().unwrap().may(Right::Infer), Err(Denied::Hours(Some(monday))));
    assert!(ledger.principal(&made.public_id).unwrap().may(Right::Infer).is_err());
    time.store(NOON + 30 * 24 * HOUR, Ordering::Relaxed);
    assert!(matches!(anna(), Err(AuthError::Expired)));
    assert!(matches!(ledger.principal(&made.public_id), Err(AuthError::Expired)));
    let row = &ledger.keys().unwrap()[0];
    assert_eq!(
        (row.scopes.as_slice(), row.hours.as_str()),
        (["inference"].as_slice(), "mon,tue,wed,thu,fri 08:00-18:00")
    );
    let past = KeyLimits { expires_at: Some(NOON), ..KeyLimits::default() };
    assert!(
        reason(ledger.create_key(NewKey { limits: past, ..new_key("anna", None) }).await).contains("expired already")
    );
    let odd = KeyLimits { models: vec!["a*b".into()], ..KeyLimits::default() };
    assert!(
        reason(ledger.create_key(NewKey { limits: odd, ..new_key("anna", None) }).await).contains("no name of a model")
    );
}

#[tokio::test]
async fn a_childs_hours_and_models_hold_for_all_keys_and_for_the_page() {
    let (home, time) = home();
    let ledger = &home.ledger;
    ledger.add_person("kid", Role::Child, "starter", Role::Admin).await.unwrap();
    let made = key(ledger, "kid", KeyLimits { hours: "10:00-23:00".parse().unwrap(), ..KeyLimits::default() }).await;
    let (session, _) = ledger.open_session("kid", about()).await.unwrap();
    let bounds = PersonChange {
        name: None,
        hours: Some("07:00-20:00".parse().unwrap()),
        models: Some(vec!["smollm".into()]),
        ..PersonChange::default()
    };
    ledger.change_person("kid", bounds, Role::Admin).await.unwrap();
    let both = || [ledger.authenticate(&made.secret).unwrap(), ledger.session(&session.secret).unwrap()];
    for kid in both() {
        assert_eq!(
            (kid.may(Right::Infer), kid.allows_model("smollm"), kid.allows_model("qwen")),
            (Ok(()), true, false)
        );
    }
    time.store(NOON + 8 * HOUR, Ordering::Relaxed);
    // The key waits for the later of both.
    let shut = both().map(|kid| kid.may(Right::Infer));
    assert_eq!(shut, [Err(Denied::Hours(Some(NOON + 19 * HOUR))), Err(Denied::Hours(Some(NOON + 19 * HOUR)))]);
    assert_eq!(both().map(|kid| kid.may(Right::Account)), [Ok(()), Ok(())]);
    time.store(NOON + 19 * HOUR + 1, Ordering::Relaxed);
    assert_eq!(both().map(|kid| kid.may(Right::Infer)), [Err(Denied::Hours(Some(NOON + 22 * HOUR))), Ok(())]);
}

#[tokio::test]
async fn a_turned_key_keeps_its_account_and_the_old_secret_opens_until_its_time() {
    let (home, time) = home();
    let ledger = &home.ledger;
    key(ledger, "anna", KeyLimits::default()).await;
    let first = ledger.create_key(new_key("anna", Some("starter"))).await.unwrap();
    let anna = ledger.authenticate(&first.secret).unwrap();
    ledger.reserve(&anna, reserve(10, 90)).await.unwrap().settle(settlement(10, 20)).await.unwrap();
    let second = ledger.rotate_key(&first.public_id, HOUR).await.unwrap();
    assert_eq!(second.public_id, first.public_id);
    assert_ne!(second.secret, first.secret);
    let accounts = |secret: &str| {
        let caller = ledger.authenticate(secret).unwrap();
        caller.accounts().into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(accounts(&first.secret), accounts(&second.secret));
    time.store(NOON + HOUR, Ordering::Relaxed);
    assert!(matches!(ledger.authenticate(&first.secret), Err(AuthError::Unknown)));
    let third = ledger.rotate_key(&first.public_id, 0).await.unwrap();
    assert!(ledger.authenticate(&second.secret).is_err() && ledger.authenticate(&third.secret).is_ok());
    for bad in [-1, i64::MAX] {
        assert!(matches!(ledger.rotate_key(&first.public_id, bad).await, Err(LedgerError::Invalid { .. })));
    }
    ledger.revoke_key(&first.public_id).await.unwrap();
    assert!(matches!(ledger.rotate_key(&first.public_id, 5).await, Err(LedgerError::Conflict { .. })));
    assert!(matches!(ledger.rotate_key("nobody", 5).await, Err(LedgerError::UnknownKey(_))));
}

#[tokio::test]
async fn when_a_key_was_used_is_written_once_a_minute() {
    let (home, time) = home();
    let ledger = &home.ledger;
    let made = key(ledger, "anna", KeyLimits::default()).await;
    let used_at = || ledger.keys().unwrap()[0].used_at;
    ledger.authenticate(&made.secret).unwrap();
    // What was offered to the writer is done before what it is asked next.
    ledger.note_requests(false).await.unwrap();
    assert_eq!(used_at(), Some(NOON));
    time.store(NOON + 59, Ordering::Relaxed);
    ledger.authenticate(&made.secret).unwrap();
    ledger.note_requests(false).await.unwrap();
    assert_eq!(used_at(), Some(NOON));
    ledger.flush().await.unwrap();
    assert_eq!(used_at(), Some(NOON + 59));
    // One that does not open was not used.
    time.store(NOON + 500, Ordering::Relaxed);
    assert!(ledger.authenticate(&format!("{}x", &made.secret[..made.secret.len() - 1])).is_err());
    ledger.flush().await.unwrap();
    assert_eq!(used_at(), Some(NOON + 59));
}

#[tokio::test]
async fn sessions_are_their_persons_until_they_end() {
    let (home, time) = home();
    let ledger = &home.ledger;
    ledger.add_person("anna", Role::Member, "personal", Role::Owner).await.unwrap();
    let (first, ends) = ledger.open_session("anna", about()).await.unwrap();
    let (second, _) = ledger.open_session("anna", about()).await.unwrap();
    assert_eq!(ends, NOON + 30 * 24 * HOUR);
    let caller = ledger.session(&first.secret).unwrap();
    assert_eq!((caller.user_name.as_str(), caller.session.as_deref()), ("anna", Some(first.public_id.as_str())));
    ledger.reserve(&caller, reserve(10, 90)).await.unwrap().settle(settlement(10, 20)).await.unwrap();
    assert_eq!(balance(ledger, &ledger.session(&second.secret).unwrap()), (30, 0));
    // What sessions are counted under is no key: nobody sees, presents or revokes it.
    assert!(ledger.keys().unwrap().is_empty());
    assert!(matches!(ledger.revoke_key(&caller.key_id).await, Err(LedgerError::UnknownKey(_))));
    assert!(matches!(ledger.authenticate(&first.secret), Err(AuthError::Malformed)));
    let listed = ledger.sessions(Some("anna")).unwrap();
    assert_eq!((listed.len(), listed[0].agent.as_str()), (2, "Browser1"));
    assert!(matches!(ledger.end_session(&first.public_id, Some("bert")).await, Err(LedgerError::Missing { .. })));
    ledger.end_session(&first.public_id, Some("anna")).await.unwrap();
    assert!(matches!(ledger.session(&first.secret), Err(AuthError::SignedOut)));
    for forged in [
        "",
        "allerac-session-",
        &second.secret[..second.secret.len() - 1],
        &format!("{}A", &second.secret[..second.secret.len() - 1]),
    ] {
        assert!(forged == second.secret || matches!(ledger.session(forged), Err(AuthError::SignedOut)), "{forged}");
    }
    // Another password ends all but the one it was changed in.
    let (third, _) = ledger.open_session("anna", about()).await.unwrap();
    ledger.set_password("anna", Some("x".into()), (Some(third.public_id.clone()), None)).await.unwrap();
    assert!(ledger.session(&second.secret).is_err() && ledger.session(&third.secret).is_ok());
    time.store(ends + 10 * HOUR, Ordering::Relaxed);
    assert!(matches!(ledger.session(&third.secret), Err(AuthError::SignedOut)));
    // The oldest ends where there would be more than fifty.
    let (oldest, _) = ledger.open_session("anna", about()).await.unwrap();
    for _ in 0..50 {
        ledger.open_session("anna", about()).await.unwrap();
    }
    assert_eq!((ledger.sessions(None).unwrap().len(), ledger.session(&oldest.secret).is_err()), (50, true));
    home.check();
}

#[tokio::test]
async fn codes_of_a_second_factor_are_used_once() {
    let (home, _) = home();
    let ledger = &home.ledger;
    ledger.add_person("anna", Role::Member, "personal", Role::Owner).await.unwrap();
    let user = ledger.login("Anna").unwrap().unwrap().user;
    let begun = ledger.enrol("anna").await.unwrap();
    let again = ledger.enrol("anna").await.unwrap();
    assert_ne!(begun.nonce, again.nonce);
    assert!(!ledger.login("anna").unwrap().unwrap().second_factor);
    let codes = vec![[1; 32], [2; 32]];
    // The one that was begun first was replaced.
    assert!(ledger.confirm_second_factor("anna", (begun.nonce, 7), codes.clone()).await.is_err());
    ledger.confirm_second_factor("anna", (again.nonce, 7), codes).await.unwrap();
    assert!(ledger.login("anna").unwrap().unwrap().second_factor);
    let used = [
        ledger.use_step(user, 7).await.unwrap(),
        ledger.use_step(user, 8).await.unwrap(),
        ledger.use_step(user, 8).await.unwrap(),
    ];
    assert_eq!(used, [false, true, false]);
    let used = [[1; 32], [1; 32], [3; 32]];
    let mut opened = Vec::new();
    for code in used {
        opened.push(ledger.use_recovery_code(user, code).await.unwrap());
    }
    assert_eq!((opened, ledger.recovery_codes_left("anna").unwrap()), (vec![true, false, false], 1));
    assert!(matches!(ledger.enrol("anna").await, Err(LedgerError::Conflict { code: "second_factor_exists", .. })));
    ledger.remove_second_factor("anna").await.unwrap();
    assert!(!ledger.login("anna").unwrap().unwrap().second_factor);
}

#[tokio::test]
async fn an_invitation_is_taken_once() {
    let (home, time) = home();
    let ledger = &home.ledger;
    ledger.add_team("shop", "pro").await.unwrap();
    let new = |name: Option<&str>| Invitation {
        name: name.map(str::to_owned),
        role: Role::Child,
        plan: "starter".into(),
        team: Some("shop".into()),
        open_s: HOUR,
    };
    let made = ledger.invite(new(None), Role::Admin, "olga").await.unwrap();
    let invited = ledger.invited(&made.secret).unwrap();
    assert_eq!((invited.role, invited.plan.as_str(), invited.team.as_deref()), (Role::Child, "starter", Some("shop")));
    // Twenty at once: one of them is in.
    let all = (0..20).map(|number| {
        let (ledger, secret) = (ledger.clone(), made.secret.clone());
        tokio::spawn(async move {
            ledger.accept(&secret, &format!("kid{number}"), Proof::Password("hash".into())).await.is_ok()
        })
    });
    let mut taken = 0;
    for accepted in all.collect::<Vec<_>>() {
        taken += u32::from(accepted.await.unwrap());
    }
    assert_eq!((taken, ledger.users().unwrap().len()), (1, 1));
    assert_eq!(ledger.teams(None).unwrap()[0].members.len(), 1);
    assert!(matches!(ledger.invited(&made.secret), Err(LedgerError::Missing { .. })));
    assert!(matches!(ledger.revoke_invitation(&made.public_id, Role::Owner).await, Err(LedgerError::Conflict { .. })));
    // Whose name was given has it.
    let named = ledger.invite(new(Some("zoe")), Role::Admin, "olga").await.unwrap();
    assert_eq!(ledger.accept(&named.secret, "root", Proof::Password("hash".into())).await.unwrap(), "zoe");
    let late = ledger.invite(new(None), Role::Admin, "olga").await.unwrap();
    let back = ledger.invite(new(None), Role::Admin, "olga").await.unwrap();
    ledger.revoke_invitation(&back.public_id, Role::Admin).await.unwrap();
    time.store(NOON + HOUR, Ordering::Relaxed);
    for shut in [&late.secret, &back.secret, "", "allerac-invitation-x", &late.secret[1..]] {
        assert!(
            matches!(ledger.accept(shut, "x", Proof::Password("hash".into())).await, Err(LedgerError::Missing { .. })),
            "{shut}"
        );
    }
    let admin = Invitation { role: Role::Admin, ..new(None) };
    assert!(matches!(ledger.invite(admin, Role::Admin, "x").await, Err(LedgerError::Forbidden(_))));
    let negative = Invitation { open_s: -5, ..new(None) };
    assert!(matches!(ledger.invite(negative, Role::Owner, "x").await, Err(LedgerError::Invalid { .. })));
}

#[tokio::test]
async fn a_team_pays_for_its_keys_and_sessions_and_nobody_else_does() {
    let (home, _) = home();
    let ledger = &home.ledger;
    let own = key(ledger, "anna", KeyLimits::default()).await;
    ledger.add_team("shop", "starter").await.unwrap();
    assert!(reason(ledger.add_team("Anna", "pro").await).contains("already"));
    let of_team =
        || NewKey { limits: KeyLimits { team: Some("shop".into()), ..KeyLimits::default() }, ..new_key("anna", None) };
    assert!(reason(ledger.create_key(of_team()).await).contains("no member"));
    ledger.join_team("shop", "anna").await.unwrap();
    let made = ledger.create_key(of_team()).await.unwrap();
    let (session, _) = ledger.open_session("anna", about()).await.unwrap();
    ledger.charge_session(&session.public_id, "anna", Some("shop")).await.unwrap();
    for caller in [ledger.authenticate(&made.secret).unwrap(), ledger.session(&session.secret).unwrap()] {
        assert_eq!((caller.user_name.as_str(), caller.team.as_deref()), ("anna", Some("shop")));
        assert_eq!(caller.user_plan.name, "starter");
        ledger.reserve(&caller, reserve(10, 90)).await.unwrap().settle(settlement(10, 20)).await.unwrap();
    }
    let team = &ledger.teams(Some("anna")).unwrap()[0];
    assert_eq!(
        (team.quota.used, team.quota.limit, team.members.as_slice()),
        (60, Some(1_000_000), ["anna".to_owned()].as_slice())
    );
    let anna = ledger.authenticate(&own.secret).unwrap();
    assert_eq!(balance(ledger, &anna), (0, 0));
    // Persons and teams are not taken for each other.
    assert!(reason(ledger.create_key(new_key("shop", None)).await).contains("already"));
    assert!(ledger.login("shop").unwrap().is_none());
    assert!(ledger.open_session("shop", about()).await.is_err());
    assert!(ledger.charge_session(&session.public_id, "anna", Some("other")).await.is_err());
    ledger.charge_session(&session.public_id, "anna", None).await.unwrap();
    assert_eq!(ledger.session(&session.secret).unwrap().team, None);
    ledger.leave_team("shop", "anna").await.unwrap();
    assert!(matches!(ledger.authenticate(&made.secret), Err(AuthError::Revoked)));
    assert!(ledger.session(&session.secret).is_ok() && ledger.authenticate(&own.secret).is_ok());
    ledger.remove_team("shop").await.unwrap();
    assert!(ledger.teams(None).unwrap().is_empty());
    ledger.add_team("shop", "pro").await.unwrap();
    assert_eq!(ledger.teams(None).unwrap()[0].quota.used, 0);
    home.check();
    assert_eq!(
        ledger.verify_audit(None).unwrap().entries,
        u64::try_from(ledger.audit(None, 1000).unwrap().len()).unwrap()
    );
}

#[tokio::test]
async fn names_that_are_sql_or_headers_are_names_or_refused() {
    let (home, _) = home();
    let ledger = &home.ledger;
    let sql = "x'); DROP TABLE users; --";
    ledger.add_person(sql, Role::Member, "personal", Role::Owner).await.unwrap();
    assert_eq!(ledger.user(sql).unwrap().user, sql);
    assert!(ledger.login("' OR 1=1 --").unwrap().is_none());
    for bad in ["a\r\nSet-Cookie: x=y", "", " ", "a\0b", &"x".repeat(65)] {
        assert!(matches!(
            ledger.add_person(bad, Role::Member, "personal", Role::Owner).await,
            Err(LedgerError::InvalidName)
        ));
    }
    assert!(matches!(
        ledger.add_person("b", Role::Member, "gold", Role::Owner).await,
        Err(LedgerError::UnknownPlan(_))
    ));
    assert!(matches!(
        ledger.change_person("nobody", PersonChange::default(), Role::Owner).await,
        Err(LedgerError::UnknownUser(_))
    ));
}
