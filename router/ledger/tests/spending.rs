//! Money for other servers: budgets of plans and of servers hold to the billionth, whatever happens.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use allerac_ledger::{
    BudgetState, Clock, Ledger, NewKey, Outcome, Plan, Price, Principal, Reserve, ReserveError, Settlement,
    UpstreamPolicy,
};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use support::{Home, new_key, reserve, settlement};

const FAR: &str = "upstream:far";

fn price(input: u32, cached_input: Option<u32>, output: u32) -> Price {
    Price { served_by: FAR.into(), model: "m".into(), input, cached_input, output }
}

/// A box where a token of a prompt costs 3 elsewhere (1 if it is known there), one of output 7, and where the plan
/// `metered` has so much for it.
async fn prepare(ledger: &Ledger, budget: u64) {
    ledger.set_prices(&[price(3, Some(1), 7)], "usd").await.unwrap();
    ledger.add_plan(metered("metered", budget)).await.unwrap();
}

fn metered(name: &str, budget: u64) -> Plan {
    Plan { upstream_budget_billionths: Some(budget), ..Plan::open(name) }
}

async fn member(ledger: &Ledger, user: &str, plan: &str) -> Principal {
    let key = NewKey { upstreams: UpstreamPolicy::All, ..new_key(user, Some(plan)) };
    let key = ledger.create_key(key).await.unwrap();
    ledger.authenticate(&key.secret).unwrap()
}

fn far(prompt: u32, output: u32) -> Reserve {
    Reserve { served_by: FAR.into(), ..reserve(prompt, output) }
}

/// Limit, used, reserved and free of a person.
fn stands(ledger: &Ledger, user: &str) -> (Option<u64>, u64, u64, Option<u64>) {
    parts(ledger.user(user).unwrap().spending)
}

fn parts(BudgetState { limit, used, reserved, free }: BudgetState) -> (Option<u64>, u64, u64, Option<u64>) {
    (limit, used, reserved, free)
}

fn server(ledger: &Ledger) -> (Option<u64>, u64, u64, Option<u64>) {
    let [far] = &ledger.upstream_budgets().unwrap()[..] else { panic!("one server") };
    assert_eq!(far.upstream, "far");
    parts(far.state)
}

async fn budget_of_far(ledger: &Ledger, billionths: u64) {
    ledger.set_upstream_budgets(&BTreeMap::from([(FAR.to_owned(), billionths)])).await.unwrap();
}

#[tokio::test]
async fn money_is_set_aside_and_settled_to_the_billionth() {
    let home = Home::new();
    let ledger = &home.ledger;
    prepare(ledger, 100).await;
    let anna = member(ledger, "anna", "metered").await;
    // 10 * 3 + 10 * 7.
    let first = ledger.reserve(&anna, far(10, 10)).await.unwrap();
    assert!(first.bounds_output());
    assert_eq!(stands(ledger, "anna"), (Some(100), 0, 100, Some(0)));
    let refused = ledger.reserve(&anna, far(1, 0)).await.unwrap_err();
    let ReserveError::BudgetExceeded { upstream, limit, free, requested, currency, renews_at } = refused else {
        panic!("{refused}")
    };
    assert_eq!((upstream, limit, free, requested, currency.as_str()), (None, 100, 0, 3, "usd"));
    assert!(renews_at > Timestamp::now().as_second());
    // What is computed here costs nothing elsewhere.
    let here = ledger.reserve(&anna, reserve(1000, 1000)).await.unwrap();
    assert!(!here.bounds_output());
    here.settle(settlement(1000, 1)).await.unwrap();
    let known = Settlement { prompt_tokens: 10, cached_tokens: 4, completion_tokens: 5, outcome: Outcome::Completed };
    first.settle(known).await.unwrap();
    assert_eq!(stands(ledger, "anna"), (Some(100), 57, 0, Some(43)));
    assert_eq!(server(ledger), (None, 57, 0, None));
    // 43 = 5 * 3 + 4 * 7: to the last one.
    let last = ledger.reserve(&anna, far(5, 4)).await.unwrap();
    assert_eq!(stands(ledger, "anna"), (Some(100), 57, 43, Some(0)));
    last.release().await.unwrap();
    assert_eq!(stands(ledger, "anna"), (Some(100), 57, 0, Some(43)));
    home.check();
}

#[tokio::test]
async fn a_server_that_does_more_than_was_asked_is_paid_where_nothing_was_set_aside() {
    let home = Home::new();
    let ledger = &home.ledger;
    prepare(ledger, 100).await;
    ledger.set_prices(&[price(0, None, 7)], "usd").await.unwrap();
    let anna = member(ledger, "anna", "metered").await;
    ledger.reserve(&anna, far(10, 0)).await.unwrap().settle(settlement(10, 5)).await.unwrap();
    assert_eq!(stands(ledger, "anna"), (Some(100), 35, 0, Some(65)));
    assert_eq!(server(ledger), (None, 35, 0, None));
    home.check();
}

#[tokio::test]
async fn neither_plans_nor_prices_that_change_forget_what_was_spent() {
    let home = Home::new();
    let ledger = &home.ledger;
    prepare(ledger, 100).await;
    ledger.add_plan(metered("other", 200)).await.unwrap();
    let anna = member(ledger, "anna", "metered").await;
    let running = ledger.reserve(&anna, far(10, 0)).await.unwrap();
    ledger.set_prices(&[price(30, None, 70)], "usd").await.unwrap();
    // It costs what it was begun at.
    running.settle(settlement(10, 0)).await.unwrap();
    assert_eq!(stands(ledger, "anna"), (Some(100), 30, 0, Some(70)));
    // Cached tokens cost as much as others where nothing else is said.
    let running = ledger.reserve(&anna, far(2, 0)).await.unwrap();
    running.settle(Settlement { cached_tokens: 2, ..settlement(2, 0) }).await.unwrap();
    assert_eq!(stands(ledger, "anna"), (Some(100), 90, 0, Some(10)));
    ledger.set_user_plan("anna", "other").await.unwrap();
    assert_eq!(stands(ledger, "anna"), (Some(200), 90, 0, Some(110)));
    ledger.change_plan("other", |plan| plan.upstream_budget_billionths = Some(50)).await.unwrap();
    assert_eq!(stands(ledger, "anna"), (Some(50), 90, 0, Some(0)));
    ledger.change_plan("other", |plan| plan.upstream_budget_billionths = None).await.unwrap();
    assert_eq!(stands(ledger, "anna"), (None, 90, 0, None));
    // Where nothing is limited it is counted all the same, and answers may be as long as they are.
    let free = ledger.reserve(&ledger.principal(&anna.key_id).unwrap(), far(1, 1)).await.unwrap();
    assert!(!free.bounds_output());
    free.settle(settlement(1, 1)).await.unwrap();
    assert_eq!(stands(ledger, "anna"), (None, 190, 0, None));
    ledger.set_prices(&[], "usd").await.unwrap();
    ledger.reserve(&anna, far(9, 9)).await.unwrap().settle(settlement(9, 9)).await.unwrap();
    assert_eq!(stands(ledger, "anna"), (None, 190, 0, None));
    home.check();
}

#[tokio::test]
async fn a_servers_own_budget_is_for_all_and_a_keys_plan_holds_beside_its_users() {
    let home = Home::new();
    let ledger = &home.ledger;
    prepare(ledger, 1000).await;
    ledger.add_plan(metered("narrow", 40)).await.unwrap();
    budget_of_far(ledger, 100).await;
    let (anna, kim) = (member(ledger, "anna", "metered").await, member(ledger, "kim", "metered").await);
    let narrow = member(ledger, "kim", "narrow").await;
    let short = |error| match error {
        ReserveError::BudgetExceeded { upstream, limit, free, .. } => (upstream, limit, free),
        other => panic!("{other}"),
    };
    assert_eq!(short(ledger.reserve(&narrow, far(14, 0)).await.unwrap_err()), (None, 40, 40));
    ledger.reserve(&narrow, far(13, 0)).await.unwrap().settle(settlement(13, 0)).await.unwrap();
    let running = ledger.reserve(&anna, far(20, 0)).await.unwrap();
    assert_eq!(server(ledger), (Some(100), 39, 60, Some(1)));
    let refused = short(ledger.reserve(&kim, far(1, 0)).await.unwrap_err());
    assert_eq!(refused, (Some("far".to_owned()), 100, 1));
    // A refusal sets nothing aside of anybody's.
    assert_eq!(stands(ledger, "kim"), (Some(1000), 39, 0, Some(961)));
    running.settle(settlement(1, 0)).await.unwrap();
    ledger.reserve(&kim, far(1, 0)).await.unwrap().settle(settlement(1, 0)).await.unwrap();
    assert_eq!(server(ledger), (Some(100), 45, 0, Some(55)));
    home.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_race_for_the_last_money_exactly_those_that_fit_get_in() {
    let home = Home::new();
    prepare(&home.ledger, 1_000_000).await;
    // Ten of a hundred each by the server's budget, whoever asks; for an eleventh one billionth is missing.
    budget_of_far(&home.ledger, 1099).await;
    let people = [member(&home.ledger, "anna", "metered").await, member(&home.ledger, "kim", "metered").await];
    let attempts = (0..200).map(|number| {
        let (ledger, caller) = (home.ledger.clone(), people[number % 2].clone());
        tokio::spawn(async move { ledger.reserve(&caller, far(10, 10)).await })
    });
    let mut made = Vec::new();
    for attempt in attempts.collect::<Vec<_>>() {
        match attempt.await.unwrap() {
            Ok(reservation) => made.push(reservation),
            Err(ReserveError::BudgetExceeded { limit: 1099, .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((made.len(), server(&home.ledger)), (10, (Some(1099), 0, 1000, Some(99))));
    for reservation in made {
        reservation.settle(settlement(10, 10)).await.unwrap();
    }
    assert_eq!(server(&home.ledger), (Some(1099), 1000, 0, Some(99)));
    home.check();
}

#[tokio::test]
async fn what_a_crash_leaves_costs_what_was_counted() {
    let home = Home::new();
    prepare(&home.ledger, 1000).await;
    let anna = member(&home.ledger, "anna", "metered").await;
    let mut started = home.ledger.reserve(&anna, far(10, 100)).await.unwrap();
    started.count(10, 4, 33).unwrap();
    let waiting = home.ledger.reserve(&anna, far(10, 10)).await.unwrap();
    // As a killed process does: neither is dropped.
    std::mem::forget((started, waiting));
    let ledger = home.open_again();
    assert_eq!(stands(&ledger, "anna"), (Some(1000), 0, 830, Some(170)));
    ledger.recover().await.unwrap();
    let spent = 6 * 3 + 4 + 33 * 7;
    assert_eq!(stands(&ledger, "anna"), (Some(1000), spent, 0, Some(1000 - spent)));
    ledger.recover().await.unwrap();
    assert_eq!(server(&ledger), (None, spent, 0, None));
    home.check();
}

#[tokio::test]
async fn what_began_before_midnight_is_paid_by_the_month_before() {
    // An hour before December in Vienna.
    let now = Arc::new(AtomicI64::new(1_796_076_000));
    let clock = Clock::new({
        let now = Arc::clone(&now);
        move || Timestamp::from_second(now.load(Ordering::SeqCst)).unwrap()
    });
    let home = Home::with_clock(clock, TimeZone::get("Europe/Vienna").unwrap());
    let ledger = &home.ledger;
    prepare(ledger, 100).await;
    let anna = member(ledger, "anna", "metered").await;
    assert_eq!(ledger.month(), "2026-11");
    let running = ledger.reserve(&anna, far(10, 10)).await.unwrap();
    now.fetch_add(3600, Ordering::SeqCst);
    assert_eq!(ledger.month(), "2026-12");
    assert_eq!(stands(ledger, "anna"), (Some(100), 0, 0, Some(100)));
    let december = ledger.reserve(&anna, far(10, 10)).await.unwrap();
    running.settle(settlement(10, 9)).await.unwrap();
    assert_eq!(stands(ledger, "anna"), (Some(100), 0, 100, Some(0)));
    // The clock is set back, and forth again.
    now.fetch_sub(1800, Ordering::SeqCst);
    assert_eq!(stands(ledger, "anna"), (Some(100), 93, 0, Some(7)));
    now.fetch_add(1800, Ordering::SeqCst);
    december.settle(settlement(1, 0)).await.unwrap();
    assert_eq!(stands(ledger, "anna"), (Some(100), 3, 0, Some(97)));
    home.check();
}

#[tokio::test]
async fn a_request_that_runs_again_is_paid_for_the_last_time() {
    let home = Home::new();
    let ledger = &home.ledger;
    prepare(ledger, 1000).await;
    let anna = member(ledger, "anna", "metered").await;
    let asked = far(10, 10);
    for (completion, spent) in [(10, 100), (1, 37)] {
        let reservation = ledger.reserve(&anna, asked.clone()).await.unwrap();
        reservation.settle(settlement(10, completion)).await.unwrap();
        assert_eq!(stands(ledger, "anna"), (Some(1000), spent, 0, Some(1000 - spent)));
        home.check();
    }
    // Here this time: what was spent elsewhere is taken back there.
    let here = ledger.reserve(&anna, Reserve { served_by: "local".into(), ..asked }).await.unwrap();
    here.settle(settlement(10, 1)).await.unwrap();
    assert_eq!((stands(ledger, "anna").1, server(ledger).1), (0, 0));
    home.check();
}

#[tokio::test]
async fn somebody_is_told_once_when_a_budget_is_nearly_spent() {
    let home = Home::new();
    let ledger = &home.ledger;
    prepare(ledger, 1000).await;
    budget_of_far(ledger, 300).await;
    ledger.alert_at(&[50, 80, 100]).await.unwrap();
    let anna = member(ledger, "anna", "metered").await;
    for _ in 0..3 {
        if let Ok(reservation) = ledger.reserve(&anna, far(50, 0)).await {
            reservation.settle(settlement(50, 0)).await.unwrap();
        }
    }
    let told = ledger.due_alerts(&["ops".into()], |_, kind| kind == "budget.reached").await.unwrap();
    let told: Vec<_> = told
        .iter()
        .map(|told| &told.alert.detail)
        .map(|told| {
            let number = |name: &str| told[name].as_i64().unwrap();
            (
                told["upstream"].as_str(),
                number("percent"),
                number("used_billionths"),
                told["refused"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(told, [(Some("far"), 50, 150, false), (Some("far"), 100, 300, false)]);
    ledger.reserve(&anna, far(67, 0)).await.unwrap_err();
    ledger.set_upstream_budgets(&BTreeMap::new()).await.unwrap();
    ledger.reserve(&anna, far(234, 0)).await.unwrap_err();
    let told = ledger.due_alerts(&["ops".into()], |_, kind| kind == "budget.reached").await.unwrap();
    let (last, whose) = (&told.last().unwrap().alert.detail, "anna");
    assert_eq!(
        (last["user"].as_str(), last["percent"].as_i64(), last["refused"].as_bool()),
        (Some(whose), Some(100), Some(true))
    );
    assert_eq!((last["budget_billionths"].as_i64(), last["currency"].as_str()), (Some(1000), Some("usd")));
    assert_eq!(told.len(), 3);
}

#[tokio::test]
async fn spending_that_was_changed_by_hand_does_not_add_up() {
    let home = Home::new();
    if support::server::database(home.folder.path()).is_some() {
        return;
    }
    prepare(&home.ledger, 1000).await;
    let anna = member(&home.ledger, "anna", "metered").await;
    home.ledger.reserve(&anna, far(10, 10)).await.unwrap().settle(settlement(10, 10)).await.unwrap();
    std::mem::forget(home.ledger.reserve(&anna, far(1, 0)).await.unwrap());
    let books = rusqlite::Connection::open(home.folder.path().join("ledger.db")).unwrap();
    books.execute_batch("UPDATE spending SET used = 99, reserved = 2").unwrap();
    let off = home.ledger.verify().unwrap().differences.into_iter();
    let off: Vec<_> = off.map(|off| (off.account, off.what, off.books, off.journal)).collect();
    let of = |account: &str, what, books, journal| (account.to_owned(), what, books, journal);
    let expected = [
        of("upstream:far", "money used", 99, 100),
        of("upstream:far", "money reserved", 2, 3),
        of("user anna", "money used", 99, 100),
        of("user anna", "money reserved", 2, 3),
    ];
    assert_eq!(off, expected);
}

#[tokio::test]
async fn the_presets_bound_what_leaves_the_box() {
    let home = Home::new();
    let budgets = home.ledger.plans().unwrap().into_iter();
    let budgets: Vec<_> = budgets.map(|row| (row.plan.name, row.plan.upstream_budget_billionths)).collect();
    let of = |name: &str, budget| (name.to_owned(), budget);
    let expected = [of("starter", None), of("personal", None), of("pro", Some(20_000_000_000)), of("unlimited", None)];
    assert_eq!(budgets, expected);
}

/// What may happen to a box.
#[derive(Debug, Clone)]
enum Step {
    /// Something is asked, and counted on the way.
    Begin {
        prompt: u32,
        output: u32,
        counted: u32,
    },
    Settle {
        which: usize,
        output: u32,
    },
    Drop {
        which: usize,
    },
    /// All that runs is lost, and the box starts again.
    Crash,
    Reprice {
        input: u32,
        output: u32,
    },
    Budget {
        billionths: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u32..50, 0u32..50, 0u32..50)
            .prop_map(|(prompt, output, counted)| Step::Begin { prompt, output, counted: counted.min(output) }),
        3 => (any::<usize>(), 0u32..50).prop_map(|(which, output)| Step::Settle { which, output }),
        1 => any::<usize>().prop_map(|which| Step::Drop { which }),
        1 => Just(Step::Crash),
        1 => (0u32..20, 0u32..20).prop_map(|(input, output)| Step::Reprice { input, output }),
        1 => (0u64..20_000).prop_map(|billionths| Step::Budget { billionths }),
    ]
}

/// What a running request was promised.
struct Running {
    reservation: allerac_ledger::Reservation,
    reserved: u64,
    price: (u64, u64),
    prompt: u32,
    output: u32,
    counted: u32,
}

impl Running {
    fn cost(&self, output: u32) -> u64 {
        self.price.0 * u64::from(self.prompt) + self.price.1 * u64::from(output)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn used_reserved_and_free_always_make_the_budget(steps in proptest::collection::vec(step(), 1..60)) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let home = Home::new();
            let mut ledger = home.ledger.clone();
            prepare(&ledger, 5000).await;
            let anna = member(&ledger, "anna", "metered").await;
            let (mut used, mut budget, mut price, mut running) = (0u64, 5000u64, (3u64, 7u64), Vec::<Running>::new());
            for step in steps {
                let reserved: u64 = running.iter().map(|one| one.reserved).sum();
                match step {
                    Step::Begin { prompt, output, counted } => {
                        let wanted = price.0 * u64::from(prompt) + price.1 * u64::from(output);
                        let fits = wanted == 0 || used + reserved + wanted <= budget;
                        let caller = ledger.principal(&anna.key_id).unwrap();
                        let made = ledger.reserve(&caller, far(prompt, output)).await;
                        assert_eq!(made.is_ok(), fits);
                        if let Ok(mut reservation) = made {
                            reservation.count(prompt, 0, counted).unwrap();
                            running.push(Running { reservation, reserved: wanted, price, prompt, output, counted });
                        }
                    }
                    Step::Settle { which, output } if !running.is_empty() => {
                        let one = running.swap_remove(which % running.len());
                        let output = output.min(one.output);
                        used += one.cost(output);
                        one.reservation.settle(settlement(one.prompt, output)).await.unwrap();
                    }
                    Step::Drop { which } if !running.is_empty() => {
                        let one = running.swap_remove(which % running.len());
                        used += one.cost(one.counted);
                        drop(one);
                        // Any later write is behind it.
                        ledger.revoke_key("nobody").await.unwrap_err();
                    }
                    Step::Crash => {
                        for one in running.drain(..) {
                            used += one.cost(one.counted);
                            std::mem::forget(one);
                        }
                        ledger = home.open_again();
                        ledger.recover().await.unwrap();
                    }
                    Step::Reprice { input, output } => {
                        price = (input.into(), output.into());
                        ledger.set_prices(&[self::price(input, None, output)], "usd").await.unwrap();
                    }
                    Step::Budget { billionths } => {
                        budget = billionths;
                        let change = move |plan: &mut Plan| plan.upstream_budget_billionths = Some(billionths);
                        ledger.change_plan("metered", change).await.unwrap();
                    }
                    Step::Settle { .. } | Step::Drop { .. } => {}
                }
                let reserved: u64 = running.iter().map(|one| one.reserved).sum();
                let free = budget.saturating_sub(used + reserved);
                assert_eq!(stands(&ledger, "anna"), (Some(budget), used, reserved, Some(free)));
                home.check();
            }
        });
    }
}
