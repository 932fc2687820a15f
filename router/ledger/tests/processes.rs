//! Two processes on one ledger.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use allerac_ledger::{KeyLimits, Ledger, NewKey, UpstreamPolicy};
use jiff::tz::TimeZone;

const DIRECTORY: &str = "ALLERAC_PROCESS_TEST_DIRECTORY";
/// Processes that open a new directory at once.
const TOGETHER: usize = 8;

fn new_key(user: &str) -> NewKey {
    NewKey {
        user: user.into(),
        label: String::new(),
        plan: None,
        upstreams: UpstreamPolicy::None,
        limits: KeyLimits::default(),
    }
}

/// Another process: told `open` on its stdin it opens the ledger; for each line `NAME` after that it makes a key for
/// that user and says `made NAME`.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut lines = std::io::stdin().lines();
    assert_eq!(lines.next().unwrap().unwrap(), "open");
    let ledger = Ledger::open(directory.as_ref(), TimeZone::UTC).unwrap();
    println!("\nmade open");
    for name in lines {
        let name = name.unwrap();
        if name == "open again" {
            drop(Ledger::open(directory.as_ref(), TimeZone::UTC).unwrap());
            println!("\nmade {name}");
            continue;
        }
        runtime.block_on(ledger.create_key(new_key(&name))).unwrap();
        println!("\nmade {name}");
    }
}

struct Other {
    child: Child,
    input: ChildStdin,
    output: BufReader<std::process::ChildStdout>,
}

impl Other {
    fn start(directory: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture"])
            .env(DIRECTORY, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, input, output: BufReader::new(output) }
    }

    fn ask(&mut self, what: &str) {
        writeln!(self.input, "{what}").unwrap();
    }

    fn wait_for(&mut self, what: &str) {
        let wanted = format!("made {what}");
        assert!(self.output.by_ref().lines().any(|line| line.unwrap() == wanted), "the other process ended early");
    }

    /// Closes its stdin: it closes the ledger and ends.
    fn end(mut self) {
        drop(self.input);
        assert!(self.child.wait().unwrap().success());
    }
}

fn users(directory: &Path) -> Vec<String> {
    let ledger = Ledger::open(directory, TimeZone::UTC).unwrap();
    ledger.keys().unwrap().into_iter().map(|key| key.user).collect()
}

/// A shared lock of a process on a file, as the kernel lists it. The bytes are those by which `SQLite` locks a
/// database (`SHARED_FIRST` and `SHARED_SIZE` in its `os.h`).
fn holds_shared_lock(process: u32, file: &Path) -> bool {
    let inode = std::fs::metadata(file).unwrap().ino();
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    let file_and_bytes = format!(":{inode} 1073741826 1073742335");
    locks.lines().any(|line| line.contains(&format!(" READ {process} ")) && line.ends_with(&file_and_bytes))
}

/// `SQLite`'s locks belong to the process and the file: one descriptor closed carelessly gives all of them up. A tool
/// that opens and closes the database then takes itself for the last one and removes the log that is still in use.
#[test]
fn a_running_process_keeps_its_lock_on_the_database() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("ledger.db");
    let mut server = Other::start(directory.path());
    server.ask("open");
    server.wait_for("open");
    assert!(holds_shared_lock(server.child.id(), &database));
    server.ask("open again");
    server.wait_for("open again");
    assert!(holds_shared_lock(server.child.id(), &database));
    server.end();
}

#[test]
fn a_process_that_leaves_takes_nothing_of_another_along() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Other::start(directory.path());
    server.ask("open");
    server.wait_for("open");
    server.ask("anna");
    server.wait_for("anna");
    let other = rusqlite::Connection::open(directory.path().join("ledger.db")).unwrap();
    let keys: i64 = other.query_row("SELECT count(*) FROM keys", [], |row| row.get(0)).unwrap();
    assert_eq!(keys, 1);
    other.close().unwrap();
    server.ask("bert");
    server.wait_for("bert");
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    assert_eq!(users(directory.path()), ["anna", "bert"]);
}

#[test]
fn processes_that_open_a_new_directory_at_once_all_succeed() {
    let directory = tempfile::tempdir().unwrap();
    let mut others: Vec<Other> = (0..TOGETHER).map(|_| Other::start(directory.path())).collect();
    for other in &mut others {
        other.ask("open");
    }
    for (index, other) in others.iter_mut().enumerate() {
        other.wait_for("open");
        other.ask(&format!("user{index}"));
    }
    for (index, other) in others.iter_mut().enumerate() {
        other.wait_for(&format!("user{index}"));
    }
    others.into_iter().for_each(Other::end);
    let mut users = users(directory.path());
    users.sort();
    assert_eq!(users, (0..TOGETHER).map(|index| format!("user{index}")).collect::<Vec<_>>());
}
