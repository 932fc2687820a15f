//! Kills a process that works on the books at random moments, again and again on the same box, and checks what is left.
//! `ALLERAC_KILLS=1000 cargo test --release -p allerac-ledger --test kill` for as many; `ALLERAC_SEED` for other moments.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::life::{DIRECTORY, SEED, Said, TASKS, live, number, open};

/// Kills where nobody asks for more.
const KILLS: u64 = 60;
/// Lives of one box: its books are read whole after each.
const LIVES_MAX: u64 = 20;
/// How long a life may last once it has begun, in microseconds.
const LIFE_US_MAX: u64 = 25_000;
/// Requests at once.
const AT_ONCE: &str = "4";

#[test]
fn child() {
    live();
}

/// Lets a process live for a while, and hears what it says.
fn cut_short(directory: &Path, seed: u64, after: Duration, said: &mut Said) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(SEED, seed.to_string())
        .env(TASKS, AT_ONCE)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let (sender, lines) = mpsc::channel();
    let listening = std::thread::spawn(move || {
        let mut line = String::new();
        // A line without an end was not said.
        while output.read_line(&mut line).is_ok_and(|read| read > 0) && line.ends_with('\n') {
            let _ = sender.send(line.trim_end().to_owned());
            line.clear();
        }
    });
    // Its start is killed too: recovery must bear that.
    let starts = !seed.is_multiple_of(4);
    while starts && lines.recv().is_ok_and(|line| line != "ready") {}
    let (_keep, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(after);
    child.kill().unwrap();
    child.wait().unwrap();
    listening.join().unwrap();
    lines.try_iter().for_each(|line| said.hear(&line));
}

#[test]
fn a_killed_process_loses_nothing_and_counts_nothing_twice() {
    let (kills, seed) = (number("ALLERAC_KILLS", KILLS), number("ALLERAC_SEED", 1));
    let mut random = StdRng::seed_from_u64(seed);
    let (mut done, mut settled) = (0, 0);
    while done < kills {
        let directory = tempfile::tempdir().unwrap();
        let mut said = Said::default();
        for _ in 0..LIVES_MAX.min(kills - done) {
            done += 1;
            let after = Duration::from_micros(random.random_range(0..LIFE_US_MAX));
            cut_short(directory.path(), seed * 1_000_000 + done, after, &mut said);
            let ledger = open(directory.path());
            tokio::runtime::Runtime::new().unwrap().block_on(ledger.recover()).unwrap();
            said.check(&ledger, directory.path(), false);
        }
        settled += said.settlements();
    }
    println!("{done} kills, {settled} acknowledged settlements");
    assert!(settled as u64 > kills, "hardly anything was settled: the test sees nothing");
}
