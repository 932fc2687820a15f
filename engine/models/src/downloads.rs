//! How files are fetched: from which hub, as whom, how fast, when; and what is told of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::ModelsError;
use crate::hub::Hub;
use crate::pace::{Meter, Pace};

/// Connections for one file where nothing else is configured: a single one seldom fills a line to a far server.
pub const CONNECTIONS: usize = 4;

/// How files are fetched. Clones share the pace.
#[derive(Debug, Clone)]
pub struct Downloads {
    /// Which hub, and as whom.
    pub hub: Hub,
    /// How fast, and when.
    pub pace: Pace,
    /// Connections for one file.
    pub connections: usize,
}

impl Default for Downloads {
    fn default() -> Self {
        Self { hub: Hub::default(), pace: Pace::default(), connections: CONNECTIONS }
    }
}

/// How far a download is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes here.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
    /// How fast they come, once that is known. What was here before is not counted.
    pub bytes_per_second: Option<u64>,
    /// It waits for the hours in which files are fetched.
    pub starts_in: Option<Duration>,
    /// The digest of the file that is being fetched, as far as it is known.
    pub sha256: Option<Arc<str>>,
}

impl Progress {
    /// How long the rest takes at this rate.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        let rate = self.bytes_per_second.filter(|rate| *rate > 0)?;
        Some(Duration::from_secs(self.total.saturating_sub(self.done) / rate))
    }
}

/// Tells of several files as of one.
pub(crate) struct Teller<'a> {
    tell: &'a mut (dyn FnMut(Progress) + Send),
    sha256: Option<Arc<str>>,
    /// What is here of files that are whole.
    before: u64,
    total: u64,
    meter: Option<Meter>,
}

impl<'a> Teller<'a> {
    pub(crate) fn new(tell: &'a mut (dyn FnMut(Progress) + Send), sha256: &str, total: u64) -> Self {
        Self { tell, sha256: Some(sha256.into()), before: 0, total, meter: None }
    }

    /// So many bytes of the present file are there; `size_bytes` where it is another one than was expected, a package.
    pub(crate) fn at(&mut self, done: u64, size_bytes: Option<u64>) {
        let done = self.before + done;
        let now = Instant::now();
        let bytes_per_second = self.meter.get_or_insert_with(|| Meter::new(done, now)).at(done, now);
        let total = size_bytes.unwrap_or(self.total);
        (self.tell)(Progress { done, total, bytes_per_second, starts_in: None, sha256: self.sha256.clone() });
    }

    /// A file is whole.
    pub(crate) fn ended(&mut self, size_bytes: u64) {
        self.before += size_bytes;
    }

    /// It waits.
    pub(crate) fn waits(&mut self, starts_in: Duration) {
        let (total, sha256) = (self.total, self.sha256.clone());
        (self.tell)(Progress { done: self.before, total, starts_in: Some(starts_in), sha256, bytes_per_second: None });
    }
}

/// Whether there is room for so many bytes more, with a hundredth of the disk to spare.
pub(crate) fn check_room(root: &Path, what: &str, needs_bytes: u64) -> Result<(), ModelsError> {
    /// What is left to others at most.
    const SPARE_BYTES_MAX: u64 = 512 << 20;
    let disk = rustix::fs::statvfs(root).map_err(|error| ModelsError::file("measure", root)(error.into()))?;
    let spare = (disk.f_blocks.saturating_mul(disk.f_frsize) / 100).min(SPARE_BYTES_MAX);
    let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize).saturating_sub(spare);
    if needs_bytes <= free_bytes {
        return Ok(());
    }
    Err(ModelsError::NoRoom { what: what.to_owned(), needs_bytes, free_bytes, path: root.to_owned() })
}
