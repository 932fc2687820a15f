//! A life of a box that is cut short: a process that does what a server does to its books, at random, and says each thing
//! once it was promised. What it said is then looked for in the books.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::str::FromStr;

use allerac_ledger::{Ledger, Options, Price, Reserve};
use jiff::tz::TimeZone;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rusqlite::Connection;
use uuid::Uuid;

use super::{new_key, reserve, settlement};

/// Where the child finds its orders.
pub(crate) const DIRECTORY: &str = "ALLERAC_LIFE_DIRECTORY";
pub(crate) const SEED: &str = "ALLERAC_LIFE_SEED";
/// Things to do before it ends by itself, in each of its tasks.
pub(crate) const DEEDS: &str = "ALLERAC_LIFE_DEEDS";
/// Tasks at once.
pub(crate) const TASKS: &str = "ALLERAC_LIFE_TASKS";

/// A number from the environment, or another where there is none.
pub(crate) fn number<T: FromStr>(name: &str, otherwise: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Opens a ledger that is checked at each commit.
pub(crate) fn open(directory: &Path) -> Ledger {
    Ledger::open_with(directory, TimeZone::UTC, Options { check: true, ..Options::default() }).unwrap()
}

/// Says something in one write, so that a reader has all of it or nothing.
fn say(what: &str) {
    println!("\n{what}");
}

/// Another server, which computes every second request.
const FAR: &str = "upstream:far";

fn price() -> Price {
    Price { served_by: FAR.into(), model: "m".into(), input: 3, cached_input: None, output: 7 }
}

/// The child's whole life.
pub(crate) fn live() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let (seed, deeds, tasks) = (number(SEED, 0u64), number(DEEDS, u32::MAX), number(TASKS, 1u64));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let ledger = open(directory.as_ref());
        ledger.recover().await.unwrap();
        ledger.set_prices(&[price()], "eur").await.unwrap();
        ledger.set_upstream_budgets(&BTreeMap::from([(FAR.to_owned(), 1_000_000_000)])).await.unwrap();
        say("ready");
        let running: Vec<_> = (0..tasks)
            .map(|task| tokio::spawn(act(ledger.clone(), StdRng::seed_from_u64(seed * 100 + task), deeds)))
            .collect();
        for task in running {
            task.await.unwrap();
        }
        ledger.flush().await.unwrap();
    });
}

async fn act(ledger: Ledger, mut random: StdRng, deeds: u32) {
    let user = format!("user{}", random.random_range(0..3));
    let own_plan = if random.random_bool(0.5) { Some("pro") } else { None };
    let key = ledger.create_key(new_key(&user, own_plan)).await.unwrap();
    say(&format!("key {}", key.public_id));
    for _ in 0..deeds {
        match random.random_range(0..20) {
            0 => {
                let key = ledger.create_key(new_key(&user, None)).await.unwrap().public_id;
                say(&format!("key {key}"));
                ledger.revoke_key(&key).await.unwrap();
                say(&format!("revoked {key}"));
            }
            1 => {
                let limit = random.random_range(1_000_000_000..2_000_000_000);
                ledger.change_plan("pro", move |plan| plan.tokens_a_month = Some(limit)).await.unwrap();
                say(&format!("plan {limit}"));
            }
            _ => request(&ledger, &key.public_id, &mut random).await,
        }
    }
}

async fn request(ledger: &Ledger, key: &str, random: &mut StdRng) {
    let caller = ledger.principal(key).unwrap();
    let (prompt, steps) = (random.random_range(1..50), random.random_range(0..6));
    let served_by = if random.random_bool(0.5) { FAR } else { "local" }.to_owned();
    let wanted = Reserve { served_by, ..reserve(prompt, 10) };
    let id = wanted.request_id;
    say(&format!("begun {id}"));
    let mut reservation = ledger.reserve(&caller, wanted).await.unwrap();
    for step in 0..steps {
        reservation.count(prompt, 0, step).unwrap();
        say(&format!("counted {id} {prompt} {step}"));
    }
    let completion = u32::max(steps, 1) - 1;
    match random.random_range(0..4) {
        // The client left.
        0 => drop(reservation),
        1 if steps == 0 => {
            reservation.release().await.unwrap();
            say(&format!("released {id}"));
        }
        _ => {
            reservation.settle(settlement(prompt, completion)).await.unwrap();
            say(&format!("settled {id} {prompt} {completion}"));
        }
    }
}

/// What was said of a box, by all its lives.
#[derive(Debug, Default, Clone)]
pub(crate) struct Said {
    begun: BTreeSet<Uuid>,
    settled: BTreeMap<Uuid, (u32, u32)>,
    counted: BTreeMap<Uuid, (u32, u32)>,
    released: BTreeSet<Uuid>,
    keys: BTreeSet<String>,
    revoked: BTreeSet<String>,
}

impl Said {
    pub(crate) fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let tokens = |at: usize| words[at].parse::<u32>().unwrap();
        match words[0] {
            "begun" => drop(self.begun.insert(words[1].parse().unwrap())),
            "settled" => drop(self.settled.insert(words[1].parse().unwrap(), (tokens(2), tokens(3)))),
            "counted" => drop(self.counted.insert(words[1].parse().unwrap(), (tokens(2), tokens(3)))),
            "released" => drop(self.released.insert(words[1].parse().unwrap())),
            "key" => drop(self.keys.insert(words[1].to_owned())),
            "revoked" => drop(self.revoked.insert(words[1].to_owned())),
            _ => {}
        }
    }

    pub(crate) fn settlements(&self) -> usize {
        self.settled.len()
    }

    /// Looks for all of it in the books of a box that was started again. What was counted and not settled is there
    /// after a kill, to the token; the power may have taken some of it.
    pub(crate) fn check(&self, ledger: &Ledger, directory: &Path, power_was_cut: bool) {
        let verified = ledger.verify().unwrap();
        assert_eq!((verified.differences, verified.open), (vec![], 0));
        ledger.verify_audit(None).unwrap();
        let books = Connection::open(directory.join("ledger.db")).unwrap();
        let by_price = "SELECT count(*) FROM usage WHERE cost <> CASE served_by WHEN ?1 THEN 3 * prompt_tokens
            + 7 * completion_tokens ELSE 0 END";
        let wrong: i64 = books.query_row(by_price, [FAR], |row| row.get(0)).unwrap();
        assert_eq!(wrong, 0, "requests cost something else than their tokens");
        let mut usage = books.prepare("SELECT request_id, prompt_tokens, completion_tokens FROM usage").unwrap();
        let rows = usage.query_map([], |row| Ok((row.get::<_, String>(0)?, (row.get(1)?, row.get(2)?)))).unwrap();
        let mut charged: BTreeMap<Uuid, (u32, u32)> = BTreeMap::new();
        for row in rows {
            let (id, cost) = row.unwrap();
            assert_eq!(charged.insert(id.parse().unwrap(), cost), None, "{id} is charged twice");
        }
        for (id, cost) in &self.settled {
            assert_eq!(charged.get(id), Some(cost), "{id} was settled");
        }
        for (id, (prompt, completion)) in self.counted.iter().filter(|(id, _)| !self.settled.contains_key(id)) {
            match charged.get(id) {
                // One more may have been counted than was said.
                Some((cost, output)) => {
                    assert_eq!(cost, prompt, "{id} was counted");
                    assert!(output == completion || *output == completion + 1 || power_was_cut, "{id}: {output}");
                    assert!(*output <= completion + 1);
                }
                None => assert!(power_was_cut, "{id} was counted and is not charged"),
            }
        }
        assert!(self.released.iter().all(|id| !charged.contains_key(id)), "a released request is charged");
        assert!(charged.keys().all(|id| self.begun.contains(id)), "a request is charged that never was");
        let states: BTreeMap<String, Option<i64>> =
            ledger.keys().unwrap().into_iter().map(|key| (key.id, key.revoked_at)).collect();
        assert!(self.keys.iter().all(|key| states.contains_key(key)), "a key was lost");
        assert!(self.revoked.iter().all(|key| states[key].is_some()), "a revoked key opens again");
    }
}
