//! The ledger as its users see it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use allerac_ledger::{
    AuthError, Clock, CreatedKey, Ledger, LedgerError, NewKey, ReserveError, ServeLock, UpstreamPolicy,
};
use jiff::tz::TimeZone;
use proptest::prelude::*;
use support::{balance, new_key, principal, reserve, settlement};

fn open(directory: &Path) -> Ledger {
    support::open(directory, TimeZone::UTC, Clock::default())
}

/// The books are what the journal adds up to.
#[track_caller]
fn check(ledger: &Ledger) {
    assert_eq!(ledger.verify().unwrap().differences, []);
}

#[tokio::test]
async fn a_box_is_claimed_once() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    assert!(!ledger.is_claimed().unwrap());
    let key: CreatedKey = ledger.claim(" Anna ").await.unwrap();
    let owner = ledger.authenticate(&key.secret).unwrap();
    assert_eq!((owner.user_name.as_str(), owner.user_plan.name.as_str()), ("Anna", "unlimited"));
    assert!(!owner.allows_upstream("any"));
    assert!(ledger.is_claimed().unwrap());
    assert!(matches!(ledger.claim("Bert").await, Err(LedgerError::AlreadyClaimed)));
}

#[tokio::test]
async fn keys_open_until_they_are_revoked_by_any_process() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let other_process = open(directory.path());
    let key = other_process.create_key(new_key("anna", None)).await.unwrap();
    assert_eq!(ledger.authenticate(&key.secret).unwrap().user_plan.name, "personal");
    let mut wrong = key.secret.clone();
    wrong.replace_range(wrong.len() - 2.., "AA");
    assert!(matches!(ledger.authenticate(&wrong), Err(AuthError::Unknown)));
    let unknown = key.secret.replace(&key.public_id, "aaaaaaaaaaaa");
    assert!(matches!(ledger.authenticate(&unknown), Err(AuthError::Unknown)));
    other_process.revoke_key(&key.public_id).await.unwrap();
    assert!(matches!(ledger.authenticate(&key.secret), Err(AuthError::Revoked)));
    assert!(matches!(ledger.revoke_key("nobody").await, Err(LedgerError::UnknownKey(_))));
    assert_eq!(ledger.keys().unwrap()[0].id, key.public_id);
}

#[tokio::test]
async fn nothing_of_a_secret_is_on_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let key = ledger.create_key(new_key("anna", None)).await.unwrap();
    let secret = &key.secret[key.secret.len() - 43..];
    for file in std::fs::read_dir(directory.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
    }
}

#[tokio::test]
async fn plans_decide_what_a_key_may_leave_the_box_for() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let named = |user: &str, plan: Option<&str>| NewKey {
        upstreams: UpstreamPolicy::Named(vec!["gpu".into()]),
        ..new_key(user, plan)
    };
    let refused = ledger.create_key(named("anna", Some("personal"))).await;
    assert!(matches!(refused, Err(LedgerError::PlanForbidsUpstreams { plan }) if plan == "personal"));
    let unknown = ledger.create_key(new_key("carl", Some("gold"))).await;
    assert!(matches!(unknown, Err(LedgerError::UnknownPlan(plan)) if plan == "gold"));
    let key = ledger.create_key(named("bert", Some("pro"))).await.unwrap();
    let bert = ledger.authenticate(&key.secret).unwrap();
    assert!(bert.allows_upstream("gpu") && !bert.allows_upstream("other"));
    assert!(bert.allows_parameters(70_000_000_000));
    let anna = principal(&ledger, "anna", Some("starter")).await;
    assert!(anna.allows_parameters(8_030_000_000) && !anna.allows_parameters(14_700_000_000));
}

#[tokio::test]
async fn a_reservation_fits_to_the_token() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let anna = principal(&ledger, "anna", Some("starter")).await;
    let first = ledger.reserve(&anna, reserve(400_000, 599_999)).await.unwrap();
    assert_eq!(balance(&ledger, &anna), (0, 999_999));
    let refused = ledger.reserve(&anna, reserve(1, 1)).await.unwrap_err();
    let ReserveError::QuotaExceeded { limit, free, requested, renews_at } = refused else { panic!("{refused}") };
    assert_eq!((limit, free, requested), (1_000_000, 1, 2));
    assert!(renews_at > jiff::Timestamp::now().as_second());
    let second = ledger.reserve(&anna, reserve(1, 0)).await.unwrap();
    first.settle(settlement(400_000, 10)).await.unwrap();
    second.settle(settlement(1, 0)).await.unwrap();
    assert_eq!(balance(&ledger, &anna), (400_011, 0));
    check(&ledger);
}

#[tokio::test]
async fn a_keys_own_plan_limits_it_beside_the_users() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let wide = principal(&ledger, "anna", Some("personal")).await;
    let narrow = principal(&ledger, "anna", Some("starter")).await;
    let reservation = ledger.reserve(&narrow, reserve(900_000, 0)).await.unwrap();
    reservation.settle(settlement(900_000, 0)).await.unwrap();
    assert!(ledger.reserve(&narrow, reserve(200_000, 0)).await.is_err());
    let reservation = ledger.reserve(&wide, reserve(200_000, 0)).await.unwrap();
    reservation.settle(settlement(200_000, 0)).await.unwrap();
    assert_eq!(balance(&ledger, &wide), (1_100_000, 0));
    check(&ledger);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_come_together_exactly_those_that_fit_get_in() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let anna = principal(&ledger, "anna", Some("starter")).await;
    let attempts = (0..64).map(|_| {
        let (ledger, anna) = (ledger.clone(), anna.clone());
        tokio::spawn(async move { ledger.reserve(&anna, reserve(50_000, 50_000)).await })
    });
    let mut made = Vec::new();
    for attempt in attempts.collect::<Vec<_>>() {
        made.extend(attempt.await.unwrap().ok());
    }
    assert_eq!(made.len(), 10);
    assert_eq!(balance(&ledger, &anna), (0, 1_000_000));
}

#[tokio::test]
async fn a_dropped_reservation_settles_what_was_counted() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let anna = principal(&ledger, "anna", None).await;
    let mut reservation = ledger.reserve(&anna, reserve(10, 100)).await.unwrap();
    reservation.count(10, 4, 7).unwrap();
    drop(reservation);
    // The next write comes after it in the same lane.
    drop(ledger.reserve(&anna, reserve(1, 1)).await.unwrap());
    let rows = ledger.usage(None).unwrap();
    assert_eq!((rows[0].prompt_tokens, rows[0].cached_tokens, rows[0].completion_tokens), (10, 4, 7));
    check(&ledger);
}

#[tokio::test]
async fn what_was_open_is_charged_what_was_counted() {
    let directory = tempfile::tempdir().unwrap();
    let anna = {
        let ledger = open(directory.path());
        let anna = principal(&ledger, "anna", None).await;
        let mut started = ledger.reserve(&anna, reserve(10, 100)).await.unwrap();
        started.count(10, 0, 33).unwrap();
        let waiting = ledger.reserve(&anna, reserve(20, 100)).await.unwrap();
        // As a killed process does: neither is dropped.
        std::mem::forget((started, waiting));
        anna
    };
    let ledger = open(directory.path());
    assert_eq!(balance(&ledger, &anna), (0, 230));
    let recovered = ledger.recover().await.unwrap();
    assert_eq!((recovered.charged, recovered.released), (1, 1));
    assert_eq!(balance(&ledger, &anna), (43, 0));
    let again = ledger.recover().await.unwrap();
    assert_eq!((again.charged, again.released), (0, 0));
    check(&ledger);
}

#[tokio::test]
async fn only_one_server_has_a_data_directory() {
    let directory = tempfile::tempdir().unwrap();
    let held = ServeLock::acquire(directory.path()).unwrap();
    let Err(LedgerError::InUse(occupied)) = ServeLock::acquire(directory.path()) else { panic!("taken twice") };
    assert_eq!(occupied.process, Some(std::process::id()));
    drop(held);
    ServeLock::acquire(directory.path()).unwrap();
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Ledger::open(&file.join("data"), TimeZone::UTC).unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot write to {}", file.join("data").display())), "{error}");
}

#[derive(Debug, Clone)]
enum Step {
    Reserve(u32, u32),
    Settle(usize, u32, u32),
    Drop(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u32..300_000, 0u32..300_000).prop_map(|(prompt, output)| Step::Reserve(prompt, output)),
        (any::<usize>(), 0u32..300_000, 0u32..300_000).prop_map(|(which, p, o)| Step::Settle(which, p, o)),
        any::<usize>().prop_map(Step::Drop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn used_reserved_and_free_always_make_the_limit(steps in proptest::collection::vec(step(), 1..40)) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let ledger = open(directory.path());
            let anna = principal(&ledger, "anna", Some("starter")).await;
            // A model of the account: (tokens set aside, reservation).
            let (mut used, mut running) = (0u64, Vec::new());
            for step in steps {
                match step {
                    Step::Reserve(prompt, output) => {
                        let wanted = u64::from(prompt) + u64::from(output);
                        let reserved: u64 = running.iter().map(|(tokens, _)| *tokens).sum();
                        let fits = (used + reserved).saturating_add(wanted) <= 1_000_000;
                        let made = ledger.reserve(&anna, reserve(prompt, output)).await;
                        assert_eq!(made.is_ok(), fits);
                        running.extend(made.ok().map(|reservation| (wanted, reservation)));
                    }
                    Step::Settle(which, prompt, output) if !running.is_empty() => {
                        let (_, reservation) = running.swap_remove(which % running.len());
                        reservation.settle(settlement(prompt, output)).await.unwrap();
                        used += u64::from(prompt) + u64::from(output);
                    }
                    Step::Drop(which) if !running.is_empty() => {
                        drop(running.swap_remove(which % running.len()));
                        // Any later write is behind it.
                        ledger.revoke_key("nobody").await.unwrap_err();
                    }
                    Step::Settle(..) | Step::Drop(_) => {}
                }
                let reserved: u64 = running.iter().map(|(tokens, _)| *tokens).sum();
                assert_eq!(balance(&ledger, &anna), (used, reserved));
                check(&ledger);
            }
        });
    }
}

#[tokio::test]
async fn a_request_that_runs_again_is_charged_for_the_last_time() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let anna = principal(&ledger, "anna", None).await;
    let request = reserve(10, 100);
    for (prompt_tokens, completion_tokens) in [(10, 40), (10, 7)] {
        let reservation = ledger.reserve(&anna, request.clone()).await.unwrap();
        reservation.settle(settlement(prompt_tokens, completion_tokens)).await.unwrap();
        assert_eq!(balance(&ledger, &anna), (u64::from(prompt_tokens + completion_tokens), 0));
        check(&ledger);
    }
    // One that does not begin again costs what it did before.
    ledger.reserve(&anna, request.clone()).await.unwrap().release().await.unwrap();
    assert_eq!(balance(&ledger, &anna), (17, 0));
    assert_eq!(ledger.usage(None).unwrap().iter().map(|row| row.requests).sum::<u64>(), 1);
    check(&ledger);
}

#[tokio::test]
async fn a_key_is_found_by_its_public_id_until_it_is_revoked() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let key = ledger.create_key(new_key("anna", None)).await.unwrap();
    assert_eq!(ledger.principal(&key.public_id).unwrap().user_name, "anna");
    ledger.revoke_key(&key.public_id).await.unwrap();
    assert!(matches!(ledger.principal(&key.public_id), Err(AuthError::Revoked)));
    assert!(matches!(ledger.principal("nobody"), Err(AuthError::Unknown)));
}
