//! Keeps the KV of sequences that have no place in an engine's context any more: in memory, then in one sealed file,
//! from where they come back even after a restart.
//!
//! [`KvArchive`] decides what is kept; a thread of its own reads and writes ([`disk`]); [`blocks`] is the file's
//! format, [`seal`] its encryption.

mod blocks;
mod disk;
mod seal;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use allerac_engine_core::archive::{ArchiveStats, Tier};
use allerac_engine_core::prefix::Prefixes;
use allerac_engine_core::{Archive, EntryId, Fetched, Found, Generate, Kept};

pub use blocks::BLOCK_BYTES;
use blocks::BlockFile;
pub use disk::DiskParams;
use disk::{Disk, Done, Order};
pub use seal::Key;

/// Sequences that are kept at most, wherever.
const ENTRIES_MAX: usize = 4096;
/// How long a start waits for an engine that is about to end and still has the file.
const OPEN_WAIT_MAX: Duration = Duration::from_secs(5);
/// The names of new entries begin here; those below are for what is found on disk.
const FIRST_NEW: u64 = 1 << 32;

/// Bounds of an archive.
#[derive(Debug)]
pub struct Params {
    /// The most memory for KV, in bytes. What is being written may take as much again.
    pub memory_bytes_max: u64,
    /// Where entries are written; nowhere when the box has no place for them.
    pub disk: Option<DiskParams>,
    /// Whether a sequence can be cut, so that one that goes on after another makes the other superfluous.
    pub can_cut: bool,
}

/// Keeps KV in memory and on disk.
pub struct KvArchive {
    known: Prefixes<EntryId>,
    entries: HashMap<EntryId, Entry>,
    memory_bytes_max: u64,
    can_cut: bool,
    disk: Option<Disk>,
    /// Blocks that the file may have in all, and those taken or promised to what is to be written.
    blocks_max: u32,
    blocks: u32,
    next_id: u64,
    ticks: u64,
}

/// What is known of an entry besides its tokens.
struct Entry {
    length: u32,
    bytes: u64,
    memory: Option<Arc<Kept>>,
    /// Whether what is in memory was brought from disk and not used since.
    is_brought: bool,
    disk: OnDisk,
    /// Blocks that it takes, or will.
    blocks: u32,
    /// Whether it is being read.
    is_coming: bool,
    last_used: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnDisk {
    No,
    /// The thread has it, and will write it.
    Waiting,
    Yes,
}

impl KvArchive {
    /// An archive with what is on disk. `wake` is called when something was brought from there, by another thread.
    pub fn new(params: Params, wake: impl Fn() + Send + 'static) -> Self {
        let disk = params.disk.and_then(|disk| {
            let started = Disk::start(disk, wake);
            started.inspect_err(|error| tracing::warn!("known prompts are not kept on disk: {error}")).ok()
        });
        let mut this = Self {
            known: Prefixes::default(),
            entries: HashMap::new(),
            memory_bytes_max: params.memory_bytes_max,
            can_cut: params.can_cut,
            disk,
            blocks_max: 0,
            blocks: 0,
            next_id: FIRST_NEW,
            ticks: 0,
        };
        let until = Instant::now() + OPEN_WAIT_MAX;
        while let Some(done) = this.disk.as_ref().and_then(|disk| disk.wait(until)) {
            let is_open = matches!(done, Done::Opened(_));
            this.note(done);
            if is_open {
                break;
            }
        }
        this
    }

    /// Takes note of what the thread has done.
    fn catch_up(&mut self) {
        while let Some(done) = self.disk.as_ref().and_then(Disk::done) {
            self.note(done);
        }
    }

    fn note(&mut self, done: Done) {
        match done {
            Done::Found(id, description, blocks) => {
                let blocks::Description { scope, common, tokens, .. } = description;
                let length = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
                self.known.insert(id, scope, common, &tokens);
                self.ticks += 1;
                self.blocks += blocks;
                let bytes = u64::from(blocks) * BLOCK_BYTES as u64;
                let (memory, disk, last_used) = (None, OnDisk::Yes, self.ticks);
                self.entries.insert(
                    id,
                    Entry { length, bytes, memory, is_brought: false, disk, blocks, is_coming: false, last_used },
                );
            }
            Done::Opened(blocks) => self.blocks_max = blocks,
            Done::Written(id) => {
                // One that was removed while it was written has its removal on the way.
                if let Some(entry) = self.entries.get_mut(&id) {
                    entry.disk = OnDisk::Yes;
                }
            }
            Done::Lost(id) => {
                // The file does not grow any more.
                self.blocks_max = self.blocks_max.min(self.blocks);
                self.blocks -= self.entries.get_mut(&id).map_or(0, |entry| {
                    entry.disk = OnDisk::No;
                    std::mem::take(&mut entry.blocks)
                });
                if self.entries.get(&id).is_some_and(|entry| entry.memory.is_none()) {
                    self.forget(id);
                }
            }
            Done::Read(id, None) => self.forget(id),
            Done::Read(id, Some(kept)) => {
                let bytes = kept.state.len() as u64;
                self.make_memory(bytes);
                if let Some(entry) = self.entries.get_mut(&id) {
                    (entry.memory, entry.bytes) = (Some(kept), bytes);
                    (entry.is_brought, entry.is_coming) = (true, false);
                }
            }
        }
    }

    fn memory_bytes(&self) -> u64 {
        self.entries.values().filter(|entry| entry.memory.is_some()).map(|entry| entry.bytes).sum()
    }

    /// Drops copies in memory, least recently used first, until so many more bytes fit.
    fn make_memory(&mut self, bytes: u64) {
        while self.memory_bytes() + bytes > self.memory_bytes_max {
            let in_memory = self.entries.iter().filter(|(_, entry)| entry.memory.is_some());
            let Some((_, id)) = in_memory.map(|(id, entry)| (entry.last_used, *id)).min() else { return };
            let entry = self.entries.get_mut(&id).expect("the entry was found above");
            match entry.disk {
                OnDisk::No => self.forget(id),
                OnDisk::Yes => entry.memory = None,
                OnDisk::Waiting => {
                    entry.memory = None;
                    self.order(Order::Hurry(id));
                }
            }
        }
    }

    /// Drops entries on disk, least recently used first, until so many more blocks can be written; `false` when they
    /// never can.
    fn make_blocks(&mut self, blocks: u32) -> bool {
        if blocks > self.blocks_max {
            return false;
        }
        while self.blocks + blocks > self.blocks_max {
            let on_disk = self.entries.iter().filter(|(_, entry)| entry.blocks > 0);
            let Some((_, id)) = on_disk.map(|(id, entry)| (entry.last_used, *id)).min() else { return false };
            self.forget(id);
        }
        true
    }

    fn order(&self, order: Order) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.order(order))
    }

    /// Drops what a new sequence goes on after: the new one has it all. `false` when an old one has all of the new.
    fn supersede(&mut self, kept: &Kept) -> bool {
        if !self.can_cut {
            return true;
        }
        let length = u32::try_from(kept.tokens.len()).unwrap_or(u32::MAX);
        for (id, common) in self.known.of_owner(kept.scope, &kept.tokens) {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            if common == length {
                self.ticks += 1;
                entry.last_used = self.ticks;
                return false;
            }
            if common == entry.length {
                self.forget(id);
            }
        }
        true
    }
}

impl Archive for KvArchive {
    fn find(&mut self, request: &Generate) -> Option<Found> {
        self.catch_up();
        let at_hand = |id: &EntryId| self.entries.get(id).is_some_and(|entry| entry.memory.is_some());
        let found = self.known.common(request).into_iter();
        let (entry, common) = found.max_by_key(|(id, common)| (*common, at_hand(id), *id))?;
        Some(Found { entry, common, length: self.entries.get(&entry)?.length })
    }

    fn fetch(&mut self, id: EntryId) -> Fetched {
        self.catch_up();
        self.ticks += 1;
        let Some(entry) = self.entries.get_mut(&id) else { return Fetched::Gone };
        entry.last_used = self.ticks;
        if let Some(kept) = &entry.memory {
            let is_brought = std::mem::take(&mut entry.is_brought);
            return Fetched::Here(Arc::clone(kept), if is_brought { Tier::Disk } else { Tier::Memory });
        }
        if !std::mem::replace(&mut entry.is_coming, true) && !self.order(Order::Read(id)) {
            self.forget(id);
            return Fetched::Gone;
        }
        Fetched::Coming
    }

    fn keep(&mut self, kept: Kept) {
        self.catch_up();
        if !self.supersede(&kept) || self.entries.len() >= ENTRIES_MAX {
            return;
        }
        let blocks = BlockFile::blocks_of(&kept).filter(|blocks| self.make_blocks(*blocks)).unwrap_or(0);
        let bytes = kept.state.len() as u64;
        let fits = bytes <= self.memory_bytes_max;
        if !fits && blocks == 0 {
            return;
        }
        self.make_memory(bytes.min(self.memory_bytes_max));
        (self.next_id, self.ticks, self.blocks) = (self.next_id + 1, self.ticks + 1, self.blocks + blocks);
        let id = EntryId(self.next_id);
        self.known.insert(id, kept.scope, kept.common, &kept.tokens);
        let length = u32::try_from(kept.tokens.len()).unwrap_or(u32::MAX);
        let kept = Arc::new(kept);
        let disk = if blocks > 0 { OnDisk::Waiting } else { OnDisk::No };
        let memory = fits.then(|| Arc::clone(&kept));
        let last_used = self.ticks;
        self.entries
            .insert(id, Entry { length, bytes, memory, is_brought: false, disk, blocks, is_coming: false, last_used });
        if blocks > 0 {
            self.order(Order::Write(id, kept));
            if !fits {
                self.order(Order::Hurry(id));
            }
        }
    }

    fn forget(&mut self, id: EntryId) {
        self.known.remove(id);
        if let Some(entry) = self.entries.remove(&id) {
            self.blocks -= entry.blocks;
            self.order(Order::Remove(id));
        }
    }

    fn stats(&self) -> ArchiveStats {
        ArchiveStats {
            entries: self.entries.len() as u64,
            memory_bytes: self.memory_bytes(),
            disk_bytes: u64::from(self.blocks) * BLOCK_BYTES as u64,
        }
    }
}
