//! Cuts the power: whatever a process wrote to its files is recorded (by strace), and the files are put together again as
//! they may lie on the disk at any moment. What was synced by then is there. Of the rest nothing is there, or all, or any
//! of its sectors; of names made or removed since their folder was synced, the first few.
//!
//! `ALLERAC_POWER_CUTS=10000 cargo test --release -p allerac-ledger --test power` for as many; `ALLERAC_SEED` for others.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};
use support::life::{DEEDS, DIRECTORY, SEED, Said, live, number, open};

/// Cuts where nobody asks for more.
const CUTS: usize = 400;
/// Cuts of one life. It has some hundreds of moments, each with many outcomes.
const CUTS_OF_LIFE: usize = 100;
/// Things that a life does before it ends, well or not.
const DEEDS_OF_LIFE: &str = "12";
/// Lives of one box, so that its books stay small.
const LIVES_MAX: usize = 10;
/// What a disk writes whole or not at all, in bytes.
const SECTOR: usize = 512;

#[test]
fn child() {
    live();
}

/// What a process did that matters.
#[derive(Debug, Clone)]
enum Deed {
    Make(String),
    Remove(String),
    Write { name: String, offset: usize, data: Vec<u8> },
    Resize { name: String, length: usize },
    SyncFile(String),
    SyncFolder,
    Say(String),
}

/// Something that a file system has yet to bring to the disk.
#[derive(Debug, Clone)]
enum Pending {
    Write { offset: usize, data: Vec<u8> },
    Resize(usize),
}

#[derive(Debug, Clone, Default)]
struct File {
    synced: Vec<u8>,
    pending: Vec<Pending>,
}

/// A change of the names in the folder.
#[derive(Debug, Clone)]
enum Naming {
    Make(String, usize),
    Remove(String),
}

/// The data directory as the disk and the file system have it.
#[derive(Debug, Clone, Default)]
struct Disk {
    files: Vec<File>,
    /// Names on the disk, and the files they stand for.
    names: BTreeMap<String, usize>,
    naming: Vec<Naming>,
}

/// How much of what was not synced is on the disk.
#[derive(Debug, Clone, Copy)]
enum Luck {
    Nothing,
    Everything,
    /// Each sector with this probability.
    Some(f64),
}

impl Disk {
    /// What lies in a folder, all of it on the disk.
    fn of(folder: &Path) -> Self {
        let mut disk = Self::default();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            disk.names.insert(name_of(&path), disk.files.len());
            disk.files.push(File { synced: std::fs::read(&path).unwrap(), pending: Vec::new() });
        }
        disk
    }

    /// Names as the running system sees them.
    fn current(&self) -> BTreeMap<String, usize> {
        let mut names = self.names.clone();
        self.naming.iter().for_each(|naming| apply(&mut names, naming));
        names
    }

    fn file(&mut self, name: &str) -> Option<&mut File> {
        let file = *self.current().get(name)?;
        Some(&mut self.files[file])
    }

    fn do_deed(&mut self, deed: &Deed) {
        match deed {
            Deed::Make(name) => {
                if !self.current().contains_key(name) {
                    self.naming.push(Naming::Make(name.clone(), self.files.len()));
                    self.files.push(File::default());
                }
            }
            Deed::Remove(name) => self.naming.push(Naming::Remove(name.clone())),
            Deed::Write { name, offset, data } => {
                let write = Pending::Write { offset: *offset, data: data.clone() };
                self.file(name).unwrap().pending.push(write);
            }
            Deed::Resize { name, length } => self.file(name).unwrap().pending.push(Pending::Resize(*length)),
            Deed::SyncFile(name) => {
                let file = self.file(name).unwrap();
                let pending = std::mem::take(&mut file.pending);
                pending.iter().for_each(|change| change.apply(&mut file.synced));
            }
            Deed::SyncFolder => {
                self.names = self.current();
                self.naming.clear();
            }
            Deed::Say(_) => {}
        }
    }

    /// Writes the files as they may be found when the power is back.
    fn write_to(&self, folder: &Path, luck: Luck, random: &mut StdRng) {
        let mut names = self.names.clone();
        let namings = match luck {
            Luck::Nothing => 0,
            Luck::Everything => self.naming.len(),
            Luck::Some(_) => random.random_range(0..=self.naming.len()),
        };
        self.naming[..namings].iter().for_each(|naming| apply(&mut names, naming));
        for (name, file) in names {
            let file = &self.files[file];
            let mut bytes = file.synced.clone();
            for change in &file.pending {
                change.survive(&mut bytes, luck, random);
            }
            std::fs::write(folder.join(name), bytes).unwrap();
        }
    }
}

fn apply(names: &mut BTreeMap<String, usize>, naming: &Naming) {
    match naming {
        Naming::Make(name, file) => drop(names.insert(name.clone(), *file)),
        Naming::Remove(name) => drop(names.remove(name)),
    }
}

impl Pending {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write { offset, data } => put(bytes, *offset, data),
            Self::Resize(length) => bytes.resize(*length, 0),
        }
    }

    fn survive(&self, bytes: &mut Vec<u8>, luck: Luck, random: &mut StdRng) {
        match (luck, self) {
            (Luck::Nothing, _) => {}
            (Luck::Everything, change) => change.apply(bytes),
            (Luck::Some(share), Self::Resize(_)) => {
                if random.random_bool(share) {
                    self.apply(bytes);
                }
            }
            (Luck::Some(share), Self::Write { offset, data }) => {
                let mut at = *offset;
                let end = offset + data.len();
                while at < end {
                    let next = ((at / SECTOR + 1) * SECTOR).min(end);
                    if random.random_bool(share) {
                        put(bytes, at, &data[at - offset..next - offset]);
                    }
                    at = next;
                }
            }
        }
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(data);
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Runs a life to its end and returns what it did.
fn record(folder: &Path, seed: u64) -> Vec<Deed> {
    let log = tempfile::NamedTempFile::new().unwrap();
    let calls = "openat,pwrite64,write,fsync,fdatasync,ftruncate,unlink,rename,pwritev,writev,fallocate";
    let ran = Command::new("strace")
        .args(["-f", "-y", "-xx", "-s", "10000000", "-e", &format!("trace={calls}"), "-o"])
        .arg(log.path())
        .arg(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .envs([(SEED, seed.to_string()), (DEEDS, DEEDS_OF_LIFE.into())])
        .env(DIRECTORY, folder)
        .stdout(Stdio::piped())
        .output()
        .expect("strace runs; install it: apt-get install strace");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    parse(&std::fs::read_to_string(log.path()).unwrap(), folder)
}

/// Reads a log of strace. Calls that another thread's interrupted count where they ended.
fn parse(log: &str, folder: &Path) -> Vec<Deed> {
    let (mut deeds, mut begun) = (Vec::new(), BTreeMap::new());
    for line in log.lines() {
        let (thread, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        if let Some(start) = call.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, start.to_owned());
        } else if let Some(rest) = call.strip_prefix("<... ") {
            let start: String = begun.remove(thread).unwrap_or_default();
            let (_, end) = rest.split_once(" resumed>").unwrap();
            deeds.extend(deed(&format!("{start}{end}"), folder));
        } else {
            deeds.extend(deed(call, folder));
        }
    }
    deeds
}

fn deed(call: &str, folder: &Path) -> Option<Deed> {
    let (name, arguments) = call.split_once('(')?;
    let (arguments, result) = arguments.rsplit_once(" = ")?;
    if result.starts_with('-') {
        return None;
    }
    let arguments = arguments.trim_end().strip_suffix(')')?;
    // Strings and paths are written in hexadecimal: no comma, quote or bracket is part of one.
    let text = || Some(bytes_of(arguments.split('"').nth(1)?));
    let path = |bytes: Vec<u8>| PathBuf::from(String::from_utf8(bytes).ok()?).into();
    let opened = || -> Option<PathBuf> { path(bytes_of(arguments.split_once('<')?.1.split_once('>')?.0)) };
    let named = || -> Option<PathBuf> { path(text()?) };
    let ours = |path: PathBuf| Some(name_of(&path)).filter(|_| path.parent() == Some(folder));
    let last = || arguments.rsplit(", ").next()?.parse::<usize>().ok();
    match name {
        "openat" if arguments.contains("O_CREAT") => Some(Deed::Make(ours(named()?)?)),
        "unlink" => Some(Deed::Remove(ours(named()?)?)),
        "pwrite64" => Some(Deed::Write { name: ours(opened()?)?, offset: last()?, data: text()? }),
        "ftruncate" => Some(Deed::Resize { name: ours(opened()?)?, length: last()? }),
        "fsync" | "fdatasync" if opened()? == folder => Some(Deed::SyncFolder),
        "fsync" | "fdatasync" => Some(Deed::SyncFile(ours(opened()?)?)),
        "write" if arguments.starts_with("1<") => Some(Deed::Say(String::from_utf8(text()?).ok()?)),
        "write" => ours(opened()?).map(|file| panic!("{file} is written without a place: teach this test")),
        "rename" | "pwritev" | "writev" | "fallocate" if call.contains(&hex_of(folder)) => {
            panic!("{name} is new here: teach this test")
        }
        _ => None,
    }
}

fn bytes_of(text: &str) -> Vec<u8> {
    text.split("\\x").skip(1).map(|digits| u8::from_str_radix(&digits[..2], 16).unwrap()).collect()
}

fn hex_of(path: &Path) -> String {
    path.to_str().unwrap().bytes().map(|byte| format!("\\x{byte:02x}")).collect()
}

/// A folder in memory where there is one: what is replayed needs no disk.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let (cuts, seed) = (number("ALLERAC_POWER_CUTS", CUTS), number("ALLERAC_SEED", 1u64));
    let mut random = StdRng::seed_from_u64(seed);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut done, mut lives, mut moments, mut syncs, mut settled) = (0, 0, 0, 0, 0);
    while done < cuts {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().canonicalize().unwrap().join("data");
        std::fs::create_dir(&folder).unwrap();
        let mut said = Said::default();
        for _ in 0..LIVES_MAX.min((cuts - done).div_ceil(CUTS_OF_LIFE)) {
            lives += 1;
            let before = Disk::of(&folder);
            let deeds = record(&folder, seed * 1_000_000 + lives);
            moments += deeds.len();
            syncs += deeds.iter().filter(|deed| matches!(deed, Deed::SyncFile(_))).count();
            let wanted = CUTS_OF_LIFE.min(cuts - done);
            let mut chosen: Vec<usize> = (0..=deeds.len()).choose_multiple(&mut random, wanted);
            chosen.sort_unstable();
            done += chosen.len();
            said = cut(before, &deeds, &chosen, said, (&mut random, &runtime));
        }
        settled += said.settlements();
    }
    println!(
        "{done} cuts in {lives} lives with {moments} moments and {syncs} syncs, {settled} acknowledged settlements"
    );
    assert!(settled > 0 && syncs > 0, "nothing was settled or synced: the test sees nothing");
}

/// Cuts the power at the chosen moments of a life; what was said up to its end.
fn cut(
    mut disk: Disk,
    deeds: &[Deed],
    chosen: &[usize],
    mut said: Said,
    (random, runtime): (&mut StdRng, &tokio::runtime::Runtime),
) -> Said {
    let mut chosen = chosen.iter().peekable();
    for moment in 0..=deeds.len() {
        if chosen.next_if_eq(&&moment).is_some() {
            let luck = match random.random_range(0..4) {
                0 => Luck::Nothing,
                1 => Luck::Everything,
                _ => Luck::Some(random.random_range(0.05..0.95)),
            };
            let folder = scratch();
            disk.write_to(folder.path(), luck, random);
            let ledger = open(folder.path());
            runtime.block_on(ledger.recover()).unwrap();
            said.check(&ledger, folder.path(), true);
        }
        let Some(deed) = deeds.get(moment) else { continue };
        disk.do_deed(deed);
        if let Deed::Say(text) = deed {
            text.lines().for_each(|line| said.hear(line));
        }
    }
    said
}
