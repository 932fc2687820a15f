//! Books that were changed by hand do not add up, and it is said where and by how much.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use allerac_ledger::{Difference, LedgerError};
use rusqlite::Connection;
use support::{Home, principal, reserve, settlement};

/// Two users; one of them has a key with a plan of its own. A settled request of each key, and an open one.
async fn busy() -> (Home, Connection, [String; 2]) {
    let home = Home::new();
    let anna = principal(&home.ledger, "anna", None).await;
    let narrow = principal(&home.ledger, "anna", Some("starter")).await;
    for caller in [&anna, &narrow] {
        let reservation = home.ledger.reserve(caller, reserve(10, 20)).await.unwrap();
        reservation.settle(settlement(10, 5)).await.unwrap();
    }
    std::mem::forget(home.ledger.reserve(&narrow, reserve(3, 4)).await.unwrap());
    let books = Connection::open(home.folder.path().join("ledger.db")).unwrap();
    let month = jiff::Timestamp::now().strftime("%Y-%m").to_string();
    (home, books, [narrow.key_id, month])
}

#[tokio::test]
async fn all_that_is_well_is_counted() {
    let (home, ..) = busy().await;
    let verified = home.ledger.verify().unwrap();
    assert_eq!((verified.accounts, verified.requests, verified.open), (2, 2, 1));
    assert_eq!(verified.differences, []);
}

#[tokio::test]
async fn each_sum_that_is_off_is_named() {
    let (_, _, [_, month]) = busy().await;
    type Off = (String, &'static str, i64, i64);
    let user = |what, books, journal| ("user anna".to_owned(), what, books, journal);
    type Case = (&'static str, Box<dyn Fn(&str) -> Vec<Off>>);
    let cases: Vec<Case> = vec![
        ("UPDATE balances SET used = 29 WHERE account LIKE 'user%'", Box::new(move |_| vec![user("used", 29, 30)])),
        (
            "UPDATE balances SET reserved = 17 WHERE account LIKE 'key%'",
            Box::new(|key| vec![(format!("key {key}"), "reserved", 17, 7)]),
        ),
        (
            "DELETE FROM balances WHERE account LIKE 'key%'",
            Box::new(|key| vec![(format!("key {key}"), "used", 0, 15), (format!("key {key}"), "reserved", 0, 7)]),
        ),
        (
            "INSERT INTO balances (account, month, used) VALUES ('user:9', strftime('%Y-%m', 'now'), 5)",
            Box::new(|_| vec![("user:9".to_owned(), "used", 5, 0)]),
        ),
        (
            "DELETE FROM reservations",
            Box::new(move |key| vec![(format!("key {key}"), "reserved", 7, 0), user("reserved", 7, 0)]),
        ),
    ];
    for (change, expected) in cases {
        let (home, books, [key, _]) = busy().await;
        books.execute(change, []).unwrap();
        let found = home.ledger.verify().unwrap().differences;
        let expected = expected(&key).into_iter().map(|(account, what, books, journal)| {
            let month = month.clone();
            Difference { account, month, what, books, journal }
        });
        assert_eq!(found, expected.collect::<Vec<_>>(), "{change}");
    }
}

#[tokio::test]
async fn sums_of_days_are_held_beside_the_journal_too() {
    let (home, books, [key, _]) = busy().await;
    books.execute("UPDATE usage_daily SET completion_tokens = 8, requests = 3 WHERE key_id = 2", []).unwrap();
    let found = home.ledger.verify().unwrap().differences;
    let what: Vec<_> = found.iter().map(|off| (off.what, off.off_by())).collect();
    assert_eq!(what, [("requests", 2), ("completion tokens", 3)]);
    assert!(found.iter().all(|off| off.account.starts_with(&key) && off.account.ends_with("with m")));
}

#[tokio::test]
async fn a_damaged_file_is_said_to_be() {
    let (home, books, _) = busy().await;
    // A name that nothing is under: as after a lost page.
    books.execute_batch("PRAGMA foreign_keys = off; DELETE FROM users").unwrap();
    assert!(matches!(home.ledger.verify(), Err(LedgerError::Damaged(_))));
}

/// A commit that does not add up does not happen.
#[tokio::test]
async fn tests_have_every_commit_checked() {
    let (home, books, _) = busy().await;
    books
        .execute_batch("CREATE TRIGGER thief AFTER INSERT ON usage BEGIN UPDATE balances SET used = used - 1; END;")
        .unwrap();
    let anna = home.ledger.principal(&home.ledger.keys().unwrap()[0].id).unwrap();
    let reservation = home.ledger.reserve(&anna, reserve(1, 1)).await.unwrap();
    let refused = reservation.settle(settlement(1, 1)).await.unwrap_err();
    assert!(matches!(refused, LedgerError::Inconsistent(_)), "{refused}");
    // It is tried again until it can be.
    books.execute_batch("DROP TRIGGER thief").unwrap();
    home.ledger.flush().await.unwrap();
    while home.ledger.quota(&anna).unwrap().reserved > 7 {
        home.ledger.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    home.check();
}
