//! Measures what paying costs: `cargo run --release -p allerac-http --example books_speed [FOLDER]`. Prints, and never
//! fails on time. FOLDER is on the disk whose flushes are to be measured; what is measured without a disk is in memory.

#![allow(clippy::unwrap_used, clippy::cast_precision_loss, reason = "a benchmark, not a product")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use allerac_ledger::{
    KeyLimits, Ledger, NewKey, Options, Outcome, Part, Reserve, Settlement, UpstreamPolicy, Wanted, Width,
};
use allerac_router_core::{Limited, Limits, RateLimits};
use jiff::tz::TimeZone;
use rusqlite::Connection;
use uuid::Uuid;

/// Requests a second.
const RATE: u32 = 1000;
/// Requests at that rate.
const REQUESTS: u32 = 10_000;
/// Settled requests for each way to commit.
const ROWS: u32 = 3000;
/// Requests at once where commits are shared.
const AT_ONCE: u32 = 256;
/// Rows of usage that are looked at.
const USAGE_ROWS: u32 = 1_000_000;
/// Keys that are looked among.
const KEYS: u32 = 10_000;

fn main() {
    let disk = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        for check in [false, true] {
            println!("each commit checked: {check}");
            paying(Path::new("/dev/shm"), "in memory", check).await;
        }
        paying(&disk, "on the disk", false).await;
        sharing(&disk).await;
        looking(&disk).await;
        finding(&disk).await;
    });
}

struct Place {
    ledger: Ledger,
    folder: tempfile::TempDir,
    keys: Vec<String>,
}

async fn place(parent: &Path, check: bool, keys: u32) -> Place {
    let folder = tempfile::tempdir_in(parent).unwrap();
    let options = Options { check, ..Options::default() };
    let ledger = Ledger::open_with(folder.path(), TimeZone::UTC, options).unwrap();
    let tasks: Vec<_> = (0..keys)
        .map(|number| {
            let ledger = ledger.clone();
            let user = format!("user{}", number / 4);
            let new = NewKey {
                user,
                label: String::new(),
                plan: None,
                upstreams: UpstreamPolicy::None,
                limits: KeyLimits::default(),
            };
            tokio::spawn(async move { ledger.create_key(new).await.unwrap().secret })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.push(task.await.unwrap());
    }
    ledger.change_plan("personal", |plan| plan.tokens_a_month = None).await.unwrap();
    Place { ledger, folder, keys: all }
}

/// Authenticates, admits, sets aside, counts and settles; how long that took until all but the settlement was durable,
/// and what the settlement took to be handed over.
async fn pay(ledger: &Ledger, limits: &Limits, key: &str) -> Duration {
    let begun = Instant::now();
    let caller = ledger.authenticate(key).unwrap();
    let few = RateLimits { requests_a_minute: Some(1_000_000), tokens_a_minute: Some(u64::MAX / 4), concurrency: None };
    let limited: Vec<Limited> =
        caller.accounts().into_iter().map(|(account, _)| Limited { account, limits: few }).collect();
    let permit = limits.admit(&limited).await.unwrap();
    let mut minute = limits.take_tokens(&limited, 200).await.unwrap();
    let request = Reserve {
        request_id: Uuid::now_v7(),
        model: "m".into(),
        endpoint: "chat.completions",
        served_by: "local".into(),
        prompt_tokens: 100,
        max_output_tokens: 100,
    };
    let mut reservation = ledger.reserve(&caller, request).await.unwrap();
    reservation.count(100, 0, 10).unwrap();
    minute.count(110);
    let cost = Settlement { prompt_tokens: 100, cached_tokens: 0, completion_tokens: 10, outcome: Outcome::Completed };
    let settled = reservation.settle(cost);
    let took = begun.elapsed();
    drop(permit);
    drop(settled);
    took
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| {
        let index = (share * (times.len() - 1) as f64).round();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let time = times[index as usize];
        time.as_secs_f64() * 1e6
    };
    println!("{what}: p50 {:.0} us, p90 {:.0} us, p99 {:.0} us, p99.9 {:.0} us", at(0.5), at(0.9), at(0.99), at(0.999));
}

async fn paying(parent: &Path, what: &str, check: bool) {
    let place = place(parent, check, 100).await;
    let limits = Limits::default();
    let mut due = tokio::time::interval(Duration::from_secs(1) / RATE);
    // A machine that was busy elsewhere is not asked for what it missed.
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(AT_ONCE as usize));
    let mut asked = Vec::new();
    for number in 0..REQUESTS {
        due.tick().await;
        let (ledger, limits) = (place.ledger.clone(), limits.clone());
        let key = place.keys[number as usize % place.keys.len()].clone();
        let place = std::sync::Arc::clone(&places).acquire_owned().await.unwrap();
        asked.push(tokio::spawn(async move {
            let took = pay(&ledger, &limits, &key).await;
            drop(place);
            took
        }));
    }
    let mut times = Vec::new();
    for task in asked {
        times.push(task.await.unwrap());
    }
    place.ledger.flush().await.unwrap();
    assert_eq!(place.ledger.verify().unwrap().differences, []);
    show(&format!("  paying {what} at {RATE} requests a second"), times);
}

/// Rows a second with a commit for each, and with commits that are shared.
async fn sharing(disk: &Path) {
    let place = place(disk, false, 100).await;
    let limits = Limits::default();
    let alone = Instant::now();
    for number in 0..ROWS / 10 {
        pay(&place.ledger, &limits, &place.keys[number as usize % place.keys.len()]).await;
        place.ledger.flush().await.unwrap();
    }
    let alone = f64::from(ROWS / 10) / alone.elapsed().as_secs_f64();
    let together = Instant::now();
    let tasks: Vec<_> = (0..AT_ONCE)
        .map(|task| {
            let (ledger, limits) = (place.ledger.clone(), limits.clone());
            let key = place.keys[task as usize % place.keys.len()].clone();
            tokio::spawn(async move {
                for _ in 0..ROWS / 100 {
                    pay(&ledger, &limits, &key).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    place.ledger.flush().await.unwrap();
    let together = f64::from(AT_ONCE * (ROWS / 100)) / together.elapsed().as_secs_f64();
    // What the disk itself takes for a small durable write.
    let file = std::fs::File::create(place.folder.path().join("probe")).unwrap();
    let flush = Instant::now();
    for number in 0..200u64 {
        std::os::unix::fs::FileExt::write_all_at(&file, &[7; 4096], number * 4096).unwrap();
        file.sync_data().unwrap();
    }
    let flush = flush.elapsed().as_secs_f64() / 200.0 * 1e3;
    println!(
        "paid requests a second on the disk: {alone:.0} one after the other, {together:.0} from {AT_ONCE} at once: \
         {:.1} times; a durable write of 4 KiB: {flush:.2} ms",
        together / alone
    );
}

async fn looking(disk: &Path) {
    let place = place(disk, false, 100).await;
    fill(&place.folder.path().join("ledger.db"));
    let timed = |what: &str, work: &dyn Fn() -> usize| {
        let begun = Instant::now();
        let found = work();
        println!("  {what}: {:.1} ms, {found} rows", begun.elapsed().as_secs_f64() * 1e3);
    };
    println!("with {USAGE_ROWS} settled requests:");
    for _ in 0..2 {
        timed("usage of a month", &|| place.ledger.usage(Some("2026-06")).unwrap().len());
        timed("usage of all months", &|| place.ledger.usage(None).unwrap().len());
        timed("usage of all months, by month", &|| place.ledger.usage_by_month(None).unwrap().len());
        for (what, width, limit) in [
            ("31 days by user and model", Width::Day, 31),
            ("a week by the hour", Width::Hour, 168),
            ("a day by the minute", Width::Minute, 1440),
        ] {
            let by = vec![Part::User, Part::Model];
            let (endpoints, users, keys, models) = (vec!["chat.completions"], vec![], vec![], vec![]);
            // The first of June.
            let from = 1_780_272_000;
            let wanted = Wanted { width, from, to: None, limit, by, endpoints, users, keys, models };
            let rows = || place.ledger.buckets(&wanted).unwrap().0.iter().map(|bucket| bucket.sums.len()).sum();
            timed(what, &rows);
        }
        timed("users with what they have left", &|| place.ledger.users().unwrap().len());
    }
    timed("verification", &|| place.ledger.verify().unwrap().differences.len());
    let limits = Limits::default();
    let mut times = Vec::new();
    for number in 0..2000 {
        times.push(pay(&place.ledger, &limits, &place.keys[number % place.keys.len()]).await);
        place.ledger.flush().await.unwrap();
    }
    show("  paying", times);
}

/// A year's requests of 100 keys with three models, as they would have been settled.
fn fill(database: &Path) {
    let connection = Connection::open(database).unwrap();
    connection
        .execute_batch(&format!(
            "BEGIN;
             INSERT INTO usage (request_id, key_id, user_id, key_account, model, endpoint, served_by, prompt_tokens,
                cached_tokens, completion_tokens, outcome, day, month, created_at, settled_at, user_charge)
             WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {USAGE_ROWS})
             SELECT 'r' || n, 1 + n % 100, (SELECT user_id FROM keys WHERE id = 1 + n % 100), 0,
                'model' || (n / 100) % 3, 'chat.completions', 'local', 100, 10, 50, 'completed',
                date('2026-01-01', (n * 365 / {USAGE_ROWS}) || ' days'),
                strftime('%Y-%m', '2026-01-01', (n * 365 / {USAGE_ROWS}) || ' days'), 1767225600 + n * 31, 1, 150 FROM numbers;
             INSERT INTO usage_daily (month, day, key_id, model, served_by, endpoint, requests, prompt_tokens,
                cached_tokens, completion_tokens, cost) SELECT month, day, key_id, model, served_by, endpoint, count(*), sum(prompt_tokens),
                sum(cached_tokens), sum(completion_tokens), 0 FROM usage GROUP BY month, day, key_id, model, served_by, endpoint;
             INSERT INTO usage_monthly (month, key_id, model, requests, prompt_tokens, cached_tokens,
                completion_tokens) SELECT month, key_id, model, count(*), sum(prompt_tokens), sum(cached_tokens),
                sum(completion_tokens) FROM usage GROUP BY month, key_id, model;
             INSERT INTO balances (account, month, used) SELECT 'user:' || user_id, month, sum(user_charge) FROM usage
                GROUP BY user_id, month;
             COMMIT;"
        ))
        .unwrap();
}

/// Authentication among few keys, and among many.
async fn finding(disk: &Path) {
    for keys in [10, KEYS] {
        let place = place(disk, false, keys).await;
        let mut times = Vec::new();
        for number in 0..20_000 {
            let begun = Instant::now();
            place.ledger.authenticate(&place.keys[(number * 7919) % place.keys.len()]).unwrap();
            times.push(begun.elapsed());
        }
        show(&format!("authentication among {keys} keys"), times);
    }
}
