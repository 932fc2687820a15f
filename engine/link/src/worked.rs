//! What engines did for one request, for whoever accounts for what that took.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use allerac_engine_core::Work;

/// What engines did for one request so far, over all that it asks of them. It only grows.
#[derive(Debug, Default)]
pub struct Worked {
    time_ns: AtomicU64,
    cpu_ns: AtomicU64,
    /// Generations and encodings that have not ended.
    running: AtomicU32,
}

impl Worked {
    /// Its share of the time of steps.
    #[must_use]
    pub fn time(&self) -> Duration {
        Duration::from_nanos(self.time_ns.load(Ordering::Relaxed))
    }

    /// Its share of the time of processors.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu_ns.load(Ordering::Relaxed))
    }

    /// Whether an engine has it, at work or in its queue.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed) > 0
    }

    /// Counts what an engine told.
    pub fn add(&self, time: Duration, cpu: Duration) {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.time_ns.fetch_add(nanos(time), Ordering::Relaxed);
        self.cpu_ns.fetch_add(nanos(cpu), Ordering::Relaxed);
    }
}

/// Holds a request as running for as long as an engine has it.
#[derive(Debug)]
pub(crate) struct Running(Arc<Worked>);

impl Running {
    pub(crate) fn new(worked: Arc<Worked>) -> Self {
        worked.running.fetch_add(1, Ordering::Relaxed);
        Self(worked)
    }

    pub(crate) fn note(&self, work: &Work) {
        self.0.add(work.time, work.cpu);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}
