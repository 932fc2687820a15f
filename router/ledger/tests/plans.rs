//! Plans that the administrator changes while the box runs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::atomic::{AtomicI64, Ordering};

use allerac_ledger::{
    Clock, Counts, Increase, Ledger, LedgerError, Plan, ReserveError, UpstreamPolicy, Urgency, Weight,
};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use support::{Home, new_key, reserve, settlement};

fn plan(name: &str, tokens_a_month: u64) -> Plan {
    Plan { tokens_a_month: Some(tokens_a_month), ..Plan::open(name) }
}

/// Uses so many tokens of a prompt at once; what is free where they do not fit.
async fn spend(ledger: &Ledger, key: &str, tokens: u32) -> Result<(), u64> {
    let caller = ledger.principal(key).unwrap();
    match ledger.reserve(&caller, reserve(tokens, 0)).await {
        Ok(reservation) => {
            reservation.settle(settlement(tokens, 0)).await.unwrap();
            Ok(())
        }
        Err(ReserveError::QuotaExceeded { free, .. }) => Err(free),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn the_presets_are_those_of_the_product() {
    let home = Home::new();
    let plans = home.ledger.plans().unwrap();
    let shown: Vec<_> = plans
        .iter()
        .map(|row| (row.plan.name.as_str(), row.plan.tokens_a_month, row.plan.parameters_below, row.plan.upstreams))
        .collect();
    let expected = [
        ("starter", Some(1_000_000), Some(9_000_000_000), false),
        ("personal", Some(10_000_000), Some(15_000_000_000), false),
        ("pro", Some(50_000_000), None, true),
        ("unlimited", None, None, true),
    ];
    assert_eq!(shown, expected);
    let classes = plans.iter().map(|row| row.plan.class);
    assert!(classes.eq([Urgency::Chat, Urgency::Voice, Urgency::Voice, Urgency::Voice]));
    assert!(plans.iter().all(|row| row.plan.counts == Counts::Both && !row.plan.carry_over));
}

#[tokio::test]
async fn a_plan_is_made_changed_and_removed() {
    let home = Home::new();
    let ledger = &home.ledger;
    let mut kids = plan("kids", 500);
    kids.models = vec!["qwen-*".into()];
    kids.requests_a_minute = Some(20);
    ledger.add_plan(kids.clone()).await.unwrap();
    assert_eq!(ledger.plan("kids").unwrap(), kids);
    assert!(matches!(ledger.add_plan(kids.clone()).await, Err(LedgerError::PlanExists(_))));
    let changed = ledger.change_plan("kids", |plan| plan.soft_tokens_a_month = Some(400)).await.unwrap();
    kids.soft_tokens_a_month = Some(400);
    assert_eq!((&changed, &ledger.plan("kids").unwrap()), (&kids, &kids));
    // What cannot be changes nothing.
    let wrong = ledger.change_plan("kids", |plan| plan.soft_tokens_a_month = Some(501)).await;
    assert!(matches!(wrong, Err(LedgerError::InvalidPlan(_))));
    assert_eq!(ledger.plan("kids").unwrap(), kids);

    let key = ledger.create_key(new_key("kim", Some("kids"))).await.unwrap();
    let refused = ledger.remove_plan("kids").await;
    assert!(matches!(refused, Err(LedgerError::PlanInUse { users: 1, keys: 0, .. })), "{refused:?}");
    ledger.set_user_plan("kim", "starter").await.unwrap();
    ledger.remove_plan("kids").await.unwrap();
    assert!(matches!(ledger.remove_plan("kids").await, Err(LedgerError::UnknownPlan(_))));
    assert!(matches!(ledger.remove_plan("personal").await, Err(LedgerError::PlanNeeded("personal"))));
    assert!(matches!(ledger.set_user_plan("kim", "kids").await, Err(LedgerError::UnknownPlan(_))));
    assert!(matches!(ledger.set_user_plan("nobody", "pro").await, Err(LedgerError::UnknownUser(_))));
    assert!(matches!(ledger.set_key_plan("nobody", None).await, Err(LedgerError::UnknownKey(_))));
    assert_eq!(ledger.principal(&key.public_id).unwrap().user_plan.name, "starter");
}

#[tokio::test]
async fn a_changed_plan_holds_from_the_next_request_and_keeps_what_was_used() {
    let home = Home::new();
    let ledger = &home.ledger;
    ledger.add_plan(plan("p", 100)).await.unwrap();
    let key = ledger.create_key(new_key("anna", Some("p"))).await.unwrap().public_id;
    spend(ledger, &key, 90).await.unwrap();
    assert_eq!(spend(ledger, &key, 11).await, Err(10));
    // As another process does it.
    let other = home.open_again();
    other.change_plan("p", |plan| plan.tokens_a_month = Some(150)).await.unwrap();
    assert_eq!(spend(ledger, &key, 61).await, Err(60));
    spend(ledger, &key, 60).await.unwrap();
    // Below what was used there is nothing left, and nothing negative.
    other.change_plan("p", |plan| plan.tokens_a_month = Some(20)).await.unwrap();
    assert_eq!(spend(ledger, &key, 1).await, Err(0));
    let quota = ledger.quota(&ledger.principal(&key).unwrap()).unwrap();
    assert_eq!((quota.limit, quota.used, quota.reserved, quota.free), (Some(20), 150, 0, Some(0)));
    ledger.set_user_plan("anna", "starter").await.unwrap();
    let quota = ledger.quota(&ledger.principal(&key).unwrap()).unwrap();
    assert_eq!((quota.limit, quota.used, quota.free), (Some(1_000_000), 150, Some(999_850)));
    ledger.change_plan("starter", |plan| plan.tokens_a_month = None).await.unwrap();
    spend(ledger, &key, u32::MAX).await.unwrap();
    home.check();
}

#[tokio::test]
async fn tokens_count_as_the_plan_says_at_the_time_of_the_request() {
    let home = Home::new();
    let ledger = &home.ledger;
    let used = |key: &str| ledger.quota(&ledger.principal(key).unwrap()).unwrap().used;
    for (name, counts, expected) in [("i", Counts::Input, 7), ("o", Counts::Output, 5), ("b", Counts::Both, 12)] {
        ledger.add_plan(Plan { counts, ..plan(name, 1000) }).await.unwrap();
        let key = ledger.create_key(new_key(name, Some(name))).await.unwrap().public_id;
        let reservation = ledger.reserve(&ledger.principal(&key).unwrap(), reserve(7, 500)).await.unwrap();
        reservation.settle(settlement(7, 5)).await.unwrap();
        assert_eq!(used(&key), expected, "{name}");
    }
    let weights = vec![Weight { model: "m".into(), input_thousandths: 500, output_thousandths: 3000 }];
    ledger.add_plan(Plan { counts: Counts::Weighted, weights, ..plan("w", 100) }).await.unwrap();
    let key = ledger.create_key(new_key("w", Some("w"))).await.unwrap().public_id;
    // 3.5 + 93, rounded up, of 100.
    let caller = ledger.principal(&key).unwrap();
    let reservation = ledger.reserve(&caller, reserve(7, 31)).await.unwrap();
    assert!(matches!(ledger.reserve(&caller, reserve(8, 0)).await, Err(ReserveError::QuotaExceeded { free: 3, .. })));
    // What was promised by one rule is settled by it.
    ledger.change_plan("w", |plan| (plan.counts, plan.weights) = (Counts::Both, Vec::new())).await.unwrap();
    reservation.settle(settlement(7, 10)).await.unwrap();
    assert_eq!(used(&key), 34);
    home.check();
}

#[tokio::test]
async fn past_the_soft_limit_requests_wait_for_others() {
    let home = Home::new();
    let ledger = &home.ledger;
    ledger.add_plan(Plan { soft_tokens_a_month: Some(50), ..plan("p", 100) }).await.unwrap();
    let key = ledger.create_key(new_key("anna", Some("p"))).await.unwrap().public_id;
    let state = || {
        let caller = ledger.principal(&key).unwrap();
        (caller.past_soft_limit, caller.urgency())
    };
    spend(ledger, &key, 49).await.unwrap();
    assert_eq!(state(), (false, Urgency::Voice));
    spend(ledger, &key, 1).await.unwrap();
    assert_eq!(state(), (true, Urgency::Batch));
    spend(ledger, &key, 50).await.unwrap();
    assert_eq!(spend(ledger, &key, 1).await, Err(0));
}

#[tokio::test]
async fn both_plans_narrow_a_key() {
    let home = Home::new();
    let ledger = &home.ledger;
    let narrow = Plan { models: vec!["qwen-*".into()], class: Urgency::Batch, ..plan("narrow", 100) };
    ledger.add_plan(narrow).await.unwrap();
    let all = allerac_ledger::NewKey { upstreams: UpstreamPolicy::All, ..new_key("anna", Some("pro")) };
    let key = ledger.create_key(all).await.unwrap().public_id;
    let caller = || ledger.principal(&key).unwrap();
    assert!(caller().allows_model("phi") && caller().allows_upstream("gpu") && caller().urgency() == Urgency::Voice);
    ledger.set_key_plan(&key, Some("narrow")).await.unwrap();
    assert!(!caller().allows_model("phi") && caller().allows_model("qwen-7b") && caller().urgency() == Urgency::Batch);
    spend(ledger, &key, 100).await.unwrap();
    assert_eq!(spend(ledger, &key, 1).await, Err(0));
    ledger.set_key_plan(&key, None).await.unwrap();
    spend(ledger, &key, 1).await.unwrap();
    // A plan that goes without other servers takes them from keys that could use them.
    ledger.change_plan("pro", |plan| plan.upstreams = false).await.unwrap();
    assert!(!caller().allows_upstream("gpu"));
    home.check();
}

/// A box whose clock the test sets.
fn with_clock(start: &str, zone: &str) -> (Home, impl Fn(&str) + use<>) {
    let seconds = |text: &str| text.parse::<Timestamp>().unwrap().as_second();
    let now = std::sync::Arc::new(AtomicI64::new(seconds(start)));
    let shown = std::sync::Arc::clone(&now);
    let clock = Clock::new(move || Timestamp::from_second(shown.load(Ordering::SeqCst)).unwrap());
    let home = Home::with_clock(clock, TimeZone::get(zone).unwrap());
    (home, move |text: &str| now.store(seconds(text), Ordering::SeqCst))
}

#[tokio::test]
async fn increases_end() {
    let (home, set) = with_clock("2026-11-10T12:00:00Z", "UTC");
    let ledger = &home.ledger;
    ledger.add_plan(plan("p", 100)).await.unwrap();
    let key = ledger.create_key(new_key("anna", Some("p"))).await.unwrap().public_id;
    let ends_at = "2026-11-20T00:00:00Z".parse::<Timestamp>().unwrap().as_second();
    for (tokens, ends_at) in [(0, ends_at), (5, ends_at - 86_400 * 30), (u64::MAX, ends_at)] {
        let refused = ledger.increase("anna", Increase { tokens, ends_at }).await;
        assert!(matches!(refused, Err(LedgerError::InvalidIncrease(_))), "{refused:?}");
    }
    assert!(matches!(ledger.increase("bert", Increase { tokens: 1, ends_at }).await, Err(LedgerError::UnknownUser(_))));
    spend(ledger, &key, 100).await.unwrap();
    ledger.increase("anna", Increase { tokens: 30, ends_at }).await.unwrap();
    ledger.increase("anna", Increase { tokens: 20, ends_at: ends_at + 1 }).await.unwrap();
    assert_eq!(spend(ledger, &key, 51).await, Err(50));
    spend(ledger, &key, 10).await.unwrap();
    set("2026-11-19T23:59:59Z");
    assert_eq!(spend(ledger, &key, 51).await, Err(40));
    set("2026-11-20T00:00:00Z");
    assert_eq!(spend(ledger, &key, 51).await, Err(10));
    let user = &ledger.users().unwrap()[0];
    assert_eq!((user.quota.limit, user.quota.used, user.increases.len()), (Some(120), 110, 1));
    assert_eq!(ledger.end_increases("anna").await.unwrap(), 1);
    assert_eq!(spend(ledger, &key, 1).await, Err(0));
    home.check();
}

#[tokio::test]
async fn what_a_month_leaves_is_carried_over_where_the_plan_says_so() {
    let (home, set) = with_clock("2026-09-10T12:00:00Z", "UTC");
    let ledger = &home.ledger;
    ledger.add_plan(Plan { carry_over: true, ..plan("c", 100) }).await.unwrap();
    let anna = ledger.create_key(new_key("anna", Some("c"))).await.unwrap().public_id;
    let kim = ledger.create_key(new_key("kim", Some("starter"))).await.unwrap().public_id;
    // Nobody has anything left of a month before they came.
    assert_eq!(spend(ledger, &anna, 101).await, Err(100));
    spend(ledger, &anna, 70).await.unwrap();
    spend(ledger, &kim, 1).await.unwrap();
    set("2026-10-01T00:00:00Z");
    assert_eq!(spend(ledger, &anna, 200).await, Err(130));
    assert_eq!(spend(ledger, &kim, 1_000_001).await, Err(1_000_000));
    spend(ledger, &anna, 90).await.unwrap();
    // 10 are left of October's own 100; what was carried over is not carried on.
    set("2026-11-01T00:00:00Z");
    assert_eq!(spend(ledger, &anna, 200).await, Err(110));
    // Whoever used nothing has all of it.
    set("2026-12-31T23:59:59Z");
    assert_eq!(spend(ledger, &anna, 201).await, Err(200));
    home.check();
}

#[tokio::test]
async fn months_begin_in_the_owners_time_zone_also_where_clocks_change() {
    // Berlin's clocks go back on 25 October at 3:00; the month ends at 23:00 UTC then.
    let (home, set) = with_clock("2026-10-25T00:59:59Z", "Europe/Berlin");
    let ledger = &home.ledger;
    ledger.add_plan(plan("p", 100)).await.unwrap();
    let key = ledger.create_key(new_key("anna", Some("p"))).await.unwrap().public_id;
    let state = || ledger.quota(&ledger.principal(&key).unwrap()).unwrap();
    spend(ledger, &key, 60).await.unwrap();
    set("2026-10-31T22:59:59Z");
    assert_eq!(
        (state().used, state().renews_at),
        (60, "2026-10-31T23:00:00Z".parse::<Timestamp>().unwrap().as_second())
    );
    // What began in a month is charged to it, however late it ends.
    let caller = ledger.principal(&key).unwrap();
    let late = ledger.reserve(&caller, reserve(10, 20)).await.unwrap();
    set("2026-10-31T23:00:00Z");
    assert_eq!((state().used, state().reserved, state().free), (0, 0, Some(100)));
    late.settle(settlement(10, 5)).await.unwrap();
    assert_eq!(state().used, 0);
    // The clock jumps back: the month is October again, with all that was used in it.
    set("2026-10-31T22:59:00Z");
    assert_eq!((state().used, state().reserved, state().free), (75, 0, Some(25)));
    assert_eq!(spend(ledger, &key, 26).await, Err(25));
    // And far ahead, and back before anything was.
    set("2031-01-01T00:00:00Z");
    spend(ledger, &key, 100).await.unwrap();
    set("1999-01-01T00:00:00Z");
    spend(ledger, &key, 100).await.unwrap();
    home.check();
}
