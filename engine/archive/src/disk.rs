//! The thread that reads and writes the file, so that the engine never waits for a disk.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use allerac_engine_core::{EntryId, Kept};

use crate::blocks::{BlockFile, Description, Place};
use crate::seal::Key;

/// Where entries are written.
#[derive(Debug)]
pub struct DiskParams {
    /// Open to be read and written; made when it was missing.
    pub file: File,
    /// What everything is sealed with.
    pub key: Key,
    /// The most that the file may grow to.
    pub bytes_max: u64,
    /// How long an entry waits to be written. A conversation that goes on meanwhile is written once, not at each
    /// turn: that spares the disk.
    pub write_after: Duration,
}

pub(crate) enum Order {
    /// To be written some time.
    Write(EntryId, Arc<Kept>),
    /// To be written now, if it is to be written.
    Hurry(EntryId),
    Read(EntryId),
    Remove(EntryId),
}

/// What the thread did.
pub(crate) enum Done {
    /// An entry that an earlier process wrote, and the blocks it takes.
    Found(EntryId, Description, u32),
    /// All of these were found; so many blocks can be had in all. None where the file cannot be used.
    Opened(u32),
    Written(EntryId),
    /// It could not be written.
    Lost(EntryId),
    Read(EntryId, Option<Arc<Kept>>),
}

/// A handle to the thread. Dropping it writes what waits and ends the thread.
///
/// The lanes have no bound of their own: the entries are bounded, and each has at most one order of a kind under way.
pub(crate) struct Disk {
    orders: Option<Sender<Order>>,
    done: Receiver<Done>,
    /// Whether the thread has the file; it may wait for it for ever.
    is_open: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    /// Starts the thread. `wake` is called whenever something was read.
    pub(crate) fn start(params: DiskParams, wake: impl Fn() + Send + 'static) -> io::Result<Self> {
        let (orders, incoming) = channel();
        let (outgoing, done) = channel();
        let is_open = Arc::new(AtomicBool::new(false));
        let opened = Arc::clone(&is_open);
        let run = move || match open(params, &outgoing, &opened) {
            Ok(mut writer) => writer.run(&incoming, &outgoing, wake),
            Err(error) => {
                tracing::warn!("known prompts are not kept on disk: {error}");
                let _ = outgoing.send(Done::Opened(0));
            }
        };
        let thread = std::thread::Builder::new().name("archive".into()).spawn(run)?;
        Ok(Self { orders: Some(orders), done, is_open, thread: Some(thread) })
    }

    /// What was done since, if anything was.
    pub(crate) fn done(&self) -> Option<Done> {
        self.done.try_recv().ok()
    }

    /// Waits for what is done next; `None` when the thread has ended, or nothing was done in time.
    pub(crate) fn wait(&self, until: Instant) -> Option<Done> {
        self.done.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
    }

    /// Tells the thread what to do; `false` when it has ended.
    pub(crate) fn order(&self, order: Order) -> bool {
        self.orders.as_ref().is_some_and(|orders| orders.send(order).is_ok())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take().filter(|_| self.is_open.load(Ordering::Relaxed)) {
            let _ = thread.join();
        }
    }
}

/// Locks and reads the file.
fn open(params: DiskParams, outgoing: &Sender<Done>, is_open: &AtomicBool) -> io::Result<Writer> {
    // While another engine has the file this one does without, which it then takes over.
    params.file.lock()?;
    is_open.store(true, Ordering::Relaxed);
    let write_after = params.write_after;
    let (blocks, found) = BlockFile::open(params.file, params.key, params.bytes_max)?;
    let room = found.iter().map(|(_, place)| place.blocks()).sum::<u32>() + blocks.room();
    let mut places = HashMap::new();
    for (id, (description, place)) in (0..).map(EntryId).zip(found) {
        let _ = outgoing.send(Done::Found(id, description, place.blocks()));
        places.insert(id, place);
    }
    let _ = outgoing.send(Done::Opened(room));
    Ok(Writer { blocks, places, waiting: HashMap::new(), write_after, has_failed: false })
}

/// The thread's own state.
struct Writer {
    blocks: BlockFile,
    places: HashMap<EntryId, Place>,
    /// What is to be written, and when.
    waiting: HashMap<EntryId, (Instant, Arc<Kept>)>,
    write_after: Duration,
    /// Whether a failure was told; one is enough.
    has_failed: bool,
}

impl Writer {
    /// Follows orders until there are no more, then writes what waits.
    fn run(&mut self, incoming: &Receiver<Order>, outgoing: &Sender<Done>, wake: impl Fn()) {
        loop {
            let next = self.waiting.iter().map(|(id, (when, _))| (*when, *id)).min();
            let order = match next {
                None => incoming.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some((when, _)) => incoming.recv_timeout(when.saturating_duration_since(Instant::now())),
            };
            match (order, next) {
                (Ok(order), _) => self.follow(order, outgoing, &wake),
                (Err(_), Some((_, id))) => self.write(id, outgoing),
                (Err(_), None) => return,
            }
        }
    }

    fn follow(&mut self, order: Order, outgoing: &Sender<Done>, wake: impl Fn()) {
        match order {
            Order::Write(id, kept) => {
                self.waiting.insert(id, (Instant::now() + self.write_after, kept));
            }
            Order::Hurry(id) => self.write(id, outgoing),
            Order::Read(id) => {
                let kept = self.places.get(&id).and_then(|place| self.blocks.read(place)).map(Arc::new);
                let _ = outgoing.send(Done::Read(id, kept));
                wake();
            }
            Order::Remove(id) => {
                self.waiting.remove(&id);
                if let Some(place) = self.places.remove(&id) {
                    self.blocks.remove(&place);
                }
            }
        }
    }

    fn write(&mut self, id: EntryId, outgoing: &Sender<Done>) {
        let Some((_, kept)) = self.waiting.remove(&id) else { return };
        let done = match self.blocks.write(&kept) {
            Ok(place) => {
                self.places.insert(id, place);
                self.has_failed = false;
                Done::Written(id)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.has_failed, true) {
                    tracing::warn!("a known prompt is not kept on disk: {error}");
                }
                Done::Lost(id)
            }
        };
        let _ = outgoing.send(done);
    }
}
