//! Books that several servers share, while the database crashes. Needs a server of PostgreSQL of its own:
//! `scripts/with-postgres.sh cargo test --release -p allerac-ledger --test shared_crash -- --include-ignored`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::process::Command;
use std::time::Duration;

use support::server::Replica;
use support::{balance, principal, reserve, settlement};

/// Stops the database at once, as a crash does, and starts it again.
fn restart_database() {
    let folder = std::env::var("ALLERAC_TEST_POSTGRES_FOLDER").unwrap();
    let status = Command::new("bash").arg(format!("{folder}/restart.sh")).status().unwrap();
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a server"]
async fn a_database_that_crashes_loses_nothing_that_was_promised_and_counts_nothing_twice() {
    let books = tempfile::tempdir().unwrap();
    let servers: Vec<Replica> = (0..3).map(|_| Replica::open(&books)).collect();
    let anna = principal(&servers[0].ledger, "anna", None).await;
    let end = std::time::Instant::now() + Duration::from_secs(6);
    let asking: Vec<_> = (0..24)
        .map(|number| {
            let (ledger, anna) = (servers[number % 3].ledger.clone(), anna.clone());
            tokio::spawn(async move {
                let (mut promised, mut kept) = (0, 0);
                while std::time::Instant::now() < end {
                    match ledger.reserve(&anna, reserve(3, 4)).await {
                        Ok(reservation) => {
                            kept += 5;
                            // What cannot be written now is tried again until it can.
                            if reservation.settle(settlement(3, 2)).await.is_ok() {
                                promised += 5;
                            }
                        }
                        Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                }
                (promised, kept)
            })
        })
        .collect();
    let restarting = tokio::task::spawn_blocking(|| {
        for _ in 0..2 {
            std::thread::park_timeout(Duration::from_millis(1500));
            restart_database();
        }
    });
    let (mut promised, mut kept) = (0_u64, 0_u64);
    for task in asking {
        let (this_promised, this_kept) = task.await.unwrap();
        (promised, kept) = (promised + this_promised, kept + this_kept);
    }
    restarting.await.unwrap();
    for server in &servers {
        server.ledger.flush().await.unwrap();
    }
    let (used, reserved) = balance(&servers[0].ledger, &anna);
    eprintln!("{promised} tokens promised, {kept} asked to be kept, {used} in the books");
    assert!(promised > 500, "hardly anything was settled: the test sees nothing");
    assert!(promised <= used && used == kept, "{promised} promised, {kept} kept, {used} in the books");
    assert_eq!(reserved, 0);
    assert_eq!(servers[0].ledger.verify().unwrap().differences, []);
}
