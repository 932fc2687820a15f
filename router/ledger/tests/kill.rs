//! Kills a process that reserves, counts and settles, at random moments, and checks what is left.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use allerac_ledger::{Ledger, NewKey, Outcome, Reserve, Settlement, UpstreamPolicy};
use jiff::tz::TimeZone;
use uuid::Uuid;

const DIRECTORY: &str = "ALLERAC_KILL_TEST_DIRECTORY";
/// Lines that the child prints before it is killed; each run stops at another place of the loop.
const LINES: [usize; 8] = [1, 2, 7, 20, 33, 58, 91, 150];

/// The child: prints `settled TOKENS` after each acknowledged settlement and `counted ID TOKENS` after each
/// count of the request that stays open.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let ledger = Ledger::open(directory.as_ref(), TimeZone::UTC).unwrap();
        let spec = NewKey { user: "anna".into(), label: String::new(), plan: None, upstreams: UpstreamPolicy::None };
        let key = ledger.create_key(spec).await.unwrap();
        let anna = ledger.authenticate(&key.secret).unwrap();
        let request = |prompt_tokens| Reserve {
            request_id: Uuid::now_v7(),
            model: "m".into(),
            endpoint: "test",
            served_by: "local".into(),
            prompt_tokens,
            max_output_tokens: 1000,
        };
        let mut open = ledger.reserve(&anna, request(5)).await.unwrap();
        for step in 1..=1000 {
            open.count(5, 0, step).unwrap();
            println!("\ncounted {step}");
            let other = ledger.reserve(&anna, request(3)).await.unwrap();
            let settlement =
                Settlement { prompt_tokens: 3, cached_tokens: 0, completion_tokens: step, outcome: Outcome::Completed };
            other.settle(settlement).await.unwrap();
            println!("\nsettled {step}");
        }
    });
}

#[test]
fn a_killed_process_loses_nothing_and_counts_nothing_twice() {
    for lines in LINES {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let said: Vec<String> = output
            .lines()
            .map(Result::unwrap)
            .filter(|line| line.starts_with("counted ") || line.starts_with("settled "))
            .take(lines)
            .collect();
        child.kill().unwrap();
        child.wait().unwrap();
        let last = |what: &str| -> u64 {
            let found = said.iter().rev().find_map(|line| line.strip_prefix(what));
            found.map_or(0, |number| number.parse().unwrap())
        };
        let (counted, settled) = (last("counted "), last("settled "));

        let ledger = Ledger::open(directory.path(), TimeZone::UTC).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let recovered = runtime.block_on(ledger.recover()).unwrap();
        assert_eq!(ledger.verify().unwrap().differences, []);
        assert_eq!(recovered.charged, 1, "the open request had started");
        let rows = ledger.usage(None).unwrap();
        let row = &rows[0];
        // Settlements that were acknowledged are there once; at most one more was on its way.
        let requests = row.requests - 1;
        assert!(requests == settled || requests == settled + 1, "{requests} of {settled}");
        assert_eq!(row.prompt_tokens, 5 + 3 * requests);
        let settled_tokens = requests * (requests + 1) / 2;
        let open_tokens = row.completion_tokens - settled_tokens;
        assert!(open_tokens == counted || open_tokens == counted + 1, "{open_tokens} of {counted}");
    }
}
