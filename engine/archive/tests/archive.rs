//! The archive over a real file: what was kept comes back as it was, or not at all.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "numbers here are small, or noise")]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use allerac_engine_archive::{BLOCK_BYTES, DiskParams, Key, KvArchive, Params};
use allerac_engine_core::archive::{AfterPrompt, Tier};
use allerac_engine_core::request::{AdapterId, Class, SamplingParams, Scope};
use allerac_engine_core::{Archive, Fetched, Generate, Kept, RequestId, TokenId};
use proptest::prelude::*;

const BLOCK: u64 = BLOCK_BYTES as u64;
const LATER: Duration = Duration::from_secs(3600);

fn file(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

struct Opened {
    archive: KvArchive,
    woken: Receiver<()>,
}

fn open_with(path: &Path, purpose: &str, memory_bytes_max: u64, disk_bytes_max: u64) -> Opened {
    let (wake, woken) = channel();
    let key = Key::derive(&[7; 32], purpose);
    let disk = DiskParams { file: file(path), key, bytes_max: disk_bytes_max, write_after: LATER };
    let params = Params { memory_bytes_max, disk: Some(disk), can_cut: true };
    Opened {
        archive: KvArchive::new(params, move || {
            let _ = wake.send(());
        }),
        woken,
    }
}

fn open(path: &Path) -> Opened {
    open_with(path, "a model", 1 << 30, 1 << 30)
}

impl Opened {
    /// What is known of a prompt, brought from wherever it is.
    fn get(&mut self, salt: u64, tokens: &[u32]) -> Option<Print> {
        self.get_from(salt, tokens).map(|(print, _)| print)
    }

    /// The same, and where it was.
    fn get_from(&mut self, salt: u64, tokens: &[u32]) -> Option<(Print, Tier)> {
        let found = self.archive.find(&request(salt, tokens))?;
        loop {
            match self.archive.fetch(found.entry) {
                Fetched::Here(kept, tier) => return Some((Print::of(&kept), tier)),
                Fetched::Gone => return None,
                Fetched::Coming => self.woken.recv().unwrap(),
            }
        }
    }
}

/// An entry, short enough to be printed.
#[derive(Debug, Clone, PartialEq)]
struct Print {
    salt: u64,
    tokens: Vec<TokenId>,
    after_prompt: Option<AfterPrompt>,
    bytes: usize,
    sum: u64,
}

impl Print {
    fn of(kept: &Kept) -> Self {
        let Kept { scope, tokens, after_prompt, state, .. } = kept.clone();
        let sum = state.iter().fold(1, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        Self { salt: scope.salt, tokens, after_prompt, bytes: state.len(), sum }
    }
}

fn request(salt: u64, tokens: &[u32]) -> Generate {
    Generate {
        id: RequestId(1),
        salt,
        adapter: AdapterId::NONE,
        class: Class::Chat,
        prompt: tokens.iter().copied().map(TokenId).collect(),
        common: 0,
        max_tokens: 1,
        sampling: SamplingParams::default(),
        stop: Vec::new(),
        control_words: false,
        prediction: Vec::new(),
        top_logprobs: None,
        score_prompt: false,
    }
}

/// A sequence whose KV takes so many bytes.
fn kept(salt: u64, tokens: &[u32], bytes: usize) -> Kept {
    let seed = tokens.iter().fold(salt, |seed, token| seed.wrapping_mul(31).wrapping_add(u64::from(*token)));
    let state = (0..bytes).map(|place| (seed.wrapping_mul(place as u64 + 1) >> 7) as u8).collect();
    let after_prompt = Some(AfterPrompt { length: tokens.len() as u32, logits: vec![0.5, -1.0, seed as f32] });
    let scope = Scope { salt, adapter: AdapterId::NONE };
    Kept { scope, common: 0, tokens: request(salt, tokens).prompt, after_prompt, state }
}

#[test]
fn it_comes_back_after_a_restart_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kv");
    let large = kept(1, &[1, 2, 3], 3 * BLOCK_BYTES + 5);
    let small = kept(2, &[1, 2, 4], 10);
    let mut first = open(&path);
    first.archive.keep(large.clone());
    first.archive.keep(small.clone());
    assert_eq!(first.get(1, &[1, 2, 3, 9]), Some(Print::of(&large)));
    drop(first);
    let mut second = open(&path);
    assert_eq!(second.get(1, &[1, 2, 3, 9]), Some(Print::of(&large)));
    assert_eq!(second.get(2, &[1, 2, 4]), Some(Print::of(&small)));
    assert_eq!(second.get(3, &[1, 2, 4]), None, "another owner's timing tells nothing");
    drop(second);
    // Written for another model, or by another version: it is of no use, and makes room.
    let mut third = open_with(&path, "another model", 1 << 30, 4 * BLOCK);
    assert_eq!(third.archive.stats().entries, 0);
    let other = kept(1, &[5, 6], 3 * BLOCK_BYTES);
    third.archive.keep(other.clone());
    drop(third);
    assert_eq!(open_with(&path, "another model", 1 << 30, 4 * BLOCK).get(1, &[5, 6]), Some(Print::of(&other)));
    assert!(path.metadata().unwrap().len() <= 5 * BLOCK);
    let text = std::fs::read(&path).unwrap();
    assert!(!text.windows(64).any(|bytes| bytes == &large.state[..64]), "what is written cannot be read");
}

#[test]
fn what_is_damaged_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let whole = kept(1, &[1, 2, 3], 2 * BLOCK_BYTES);
    for place in [0, 9, 33, 37, 41, 45, 60, 200, BLOCK + 9, BLOCK + 5000, 2 * BLOCK + 100] {
        let path = folder.path().join(place.to_string());
        let mut first = open(&path);
        first.archive.keep(whole.clone());
        drop(first);
        let mut byte = [0];
        file(&path).read_exact_at(&mut byte, place).unwrap();
        file(&path).write_all_at(&[byte[0] ^ 0x40], place).unwrap();
        let mut second = open(&path);
        assert_eq!(second.get(1, &[1, 2, 3]), None, "a bit at {place}");
        // Its room is used again.
        second.archive.keep(whole.clone());
        drop(second);
        assert_eq!(open(&path).get(1, &[1, 2, 3]), Some(Print::of(&whole)), "a bit at {place}");
    }
    for length in [0, 100, BLOCK + 100, 2 * BLOCK + 50] {
        let path = folder.path().join(format!("short-{length}"));
        let mut first = open(&path);
        first.archive.keep(whole.clone());
        drop(first);
        file(&path).set_len(length).unwrap();
        assert_eq!(open(&path).get(1, &[1, 2, 3]), None, "{length} bytes");
    }
}

#[test]
fn a_file_of_nonsense_is_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kv");
    let nonsense: Vec<u8> =
        (0..3 * BLOCK_BYTES as u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(&path, &nonsense).unwrap();
    // A header that promises more blocks than there can be.
    let mut header = b"ALLRKV\0\x02".to_vec();
    header.extend([1; 24]);
    header.extend([0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 17, 0, 0, 0, 17, 0, 0, 0]);
    file(&path).write_all_at(&header, 0).unwrap();
    let mut opened = open(&path);
    assert_eq!(opened.archive.stats().entries, 0);
    let whole = kept(1, &[1, 2, 3], 4 * BLOCK_BYTES);
    opened.archive.keep(whole.clone());
    drop(opened);
    assert_eq!(open(&path).get(1, &[1, 2, 3]), Some(Print::of(&whole)));
}

#[test]
fn the_file_is_bounded_and_the_oldest_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kv");
    let entry = |first: u32| kept(1, &[first, 2, 3], BLOCK_BYTES);
    let mut opened = open_with(&path, "a model", 1 << 30, 6 * BLOCK);
    for first in 1..=3 {
        opened.archive.keep(entry(first));
    }
    assert_eq!(opened.archive.stats().disk_bytes, 6 * BLOCK);
    assert_eq!(opened.get(1, &[1, 2, 3]), Some(Print::of(&entry(1))));
    opened.archive.keep(entry(4));
    let known = |opened: &mut Opened| [1, 2, 3, 4].map(|first| opened.get(1, &[first, 2, 3]).is_some());
    assert_eq!(known(&mut opened), [true, false, true, true]);
    drop(opened);
    assert_eq!(known(&mut open_with(&path, "a model", 1 << 30, 6 * BLOCK)), [true, false, true, true]);
    assert!(path.metadata().unwrap().len() <= 6 * BLOCK);
    // More than the whole file is kept in memory only.
    let mut opened = open_with(&path, "a model", 1 << 30, 6 * BLOCK);
    opened.archive.keep(kept(1, &[9, 9], 7 * BLOCK_BYTES));
    assert!(opened.get(1, &[9, 9]).is_some());
    drop(opened);
    assert_eq!(open(&path).get(1, &[9, 9]), None);
}

#[test]
fn what_memory_has_no_room_for_comes_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kv");
    let entry = |first: u32| kept(1, &[first, 2, 3], 1000);
    let mut opened = open_with(&path, "a model", 2500, 1 << 30);
    for first in 1..=5 {
        opened.archive.keep(entry(first));
        assert!(opened.archive.stats().memory_bytes <= 2500);
    }
    for first in 1..=5 {
        assert_eq!(opened.get(1, &[first, 2, 3]), Some(Print::of(&entry(first))));
        assert!(opened.archive.stats().memory_bytes <= 2500);
    }
    // Without a disk what has no room is lost.
    let params = Params { memory_bytes_max: 2500, disk: None, can_cut: true };
    let mut opened = Opened { archive: KvArchive::new(params, || ()), woken: channel().1 };
    for first in 1..=5 {
        opened.archive.keep(entry(first));
    }
    let known = [1, 2, 3, 4, 5].map(|first| opened.get(1, &[first, 2, 3]).is_some());
    assert_eq!(known, [false, false, false, true, true]);
}

#[test]
fn what_is_brought_from_disk_was_there_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kv");
    let tier = |opened: &mut Opened, first: u32| opened.get_from(1, &[first, 2, 3]).map(|(_, tier)| tier);
    let mut opened = open_with(&path, "a model", 1500, 1 << 30);
    opened.archive.keep(kept(1, &[1, 2, 3], 1000));
    assert_eq!(tier(&mut opened, 1), Some(Tier::Memory));
    // It loses its place in memory, and comes back.
    opened.archive.keep(kept(1, &[4, 2, 3], 1000));
    assert_eq!([tier(&mut opened, 1), tier(&mut opened, 1)], [Some(Tier::Disk), Some(Tier::Memory)]);
    assert_eq!(tier(&mut opened, 4), Some(Tier::Disk));
    assert_eq!(tier(&mut opened, 1), Some(Tier::Disk));
    // Asked for by one, used by another later.
    assert_eq!(tier(&mut opened, 4), Some(Tier::Disk));
    let found = opened.archive.find(&request(1, &[1, 2, 3])).unwrap();
    assert!(matches!(opened.archive.fetch(found.entry), Fetched::Coming));
    opened.woken.recv().unwrap();
    assert_eq!([tier(&mut opened, 1), tier(&mut opened, 1)], [Some(Tier::Disk), Some(Tier::Memory)]);
    drop(opened);
    assert_eq!(tier(&mut open(&path), 1), Some(Tier::Disk), "after a restart");
}

#[test]
fn a_conversation_that_goes_on_is_kept_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kv");
    let mut opened = open(&path);
    opened.archive.keep(kept(1, &[1, 2], 10));
    opened.archive.keep(kept(1, &[1, 2, 3], 10));
    opened.archive.keep(kept(1, &[1, 2, 4], 10));
    opened.archive.keep(kept(2, &[1, 2], 10));
    assert_eq!(opened.archive.stats().entries, 3);
    opened.archive.keep(kept(1, &[1], 10));
    assert_eq!(opened.archive.stats().entries, 3);
    drop(opened);
    assert_eq!(open(&path).archive.stats().entries, 3);
}

#[test]
fn one_engine_at_a_time_has_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kv");
    let mut first = open(&path);
    // It goes on after a while and keeps in memory.
    let mut second = open(&path);
    second.archive.keep(kept(1, &[1, 2, 3], 10));
    assert_eq!(second.get(1, &[1, 2, 3]), Some(Print::of(&kept(1, &[1, 2, 3], 10))));
    first.archive.keep(kept(1, &[4, 5], 10));
    drop(first);
    // Now it gets the file.
    let until = Instant::now() + Duration::from_secs(30);
    while second.archive.stats().entries < 2 {
        assert!(Instant::now() < until, "it does not get the file");
        std::thread::yield_now();
        second.get(1, &[9]);
    }
    assert_eq!(second.get(1, &[4, 5]), Some(Print::of(&kept(1, &[4, 5], 10))));
    drop(second);
    let mut third = open(&path);
    assert_eq!(third.get(1, &[4, 5]), Some(Print::of(&kept(1, &[4, 5], 10))));
}

#[test]
fn a_file_that_is_removed_meanwhile_is_missed_by_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kv");
    let mut opened = open_with(&path, "a model", 15, 1 << 30);
    opened.archive.keep(kept(1, &[1, 2, 3], 10));
    std::fs::remove_file(&path).unwrap();
    opened.archive.keep(kept(1, &[4, 5], 10));
    assert_eq!(opened.get(1, &[1, 2, 3]), Some(Print::of(&kept(1, &[1, 2, 3], 10))));
    drop(opened);
    assert_eq!(open(&path).archive.stats().entries, 0);
}

#[derive(Debug, Clone)]
enum Action {
    Keep(u64, Vec<u32>, usize),
    Get(u64, Vec<u32>),
    Reopen,
}

fn action() -> impl Strategy<Value = Action> {
    let tokens = || proptest::collection::vec(1u32..4, 1..6);
    prop_oneof![
        4 => (0u64..2, tokens(), 0usize..3000).prop_map(|(salt, tokens, bytes)| Action::Keep(salt, tokens, bytes)),
        4 => (0u64..2, tokens()).prop_map(|(salt, tokens)| Action::Get(salt, tokens)),
        1 => Just(Action::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn whatever_happens_what_comes_back_was_kept(actions in proptest::collection::vec(action(), 1..60)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kv");
        let reopen = || open_with(&path, "a model", 4000, 4 * BLOCK);
        let mut opened = reopen();
        let mut all = Vec::new();
        for action in actions {
            match action {
                Action::Keep(salt, tokens, bytes) => {
                    let kept = kept(salt, &tokens, bytes);
                    opened.archive.keep(kept.clone());
                    all.push(Print::of(&kept));
                }
                Action::Get(salt, tokens) => {
                    if let Some(got) = opened.get(salt, &tokens) {
                        prop_assert_eq!(got.salt, salt);
                        prop_assert_eq!(got.tokens[0].0, tokens[0]);
                        prop_assert!(all.contains(&got));
                    }
                }
                Action::Reopen => {
                    drop(opened);
                    opened = reopen();
                }
            }
            let stats = opened.archive.stats();
            prop_assert!(stats.memory_bytes <= 4000 && stats.disk_bytes <= 4 * BLOCK);
            prop_assert!(path.metadata().unwrap().len() <= 4 * BLOCK);
        }
    }
}
