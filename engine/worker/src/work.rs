//! Tells the router whom the time of steps and of processors went to.

use std::time::{Duration, Instant};

use allerac_engine_core::Work;
use allerac_engine_link::protocol::FromEngine;
use rustix::time::{ClockId, clock_gettime};

/// How often it is told while requests go on. The box's energy is shared by it several times a second.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// What was told when.
pub(crate) struct Teller {
    told: Instant,
    /// The time of processors that was shared already, or that went to nobody's request.
    cpu: Duration,
}

impl Teller {
    pub(crate) fn new() -> Self {
        Self { told: Instant::now(), cpu: cpu() }
    }

    /// Work begins: what processors did until now, to load or to archive, is nobody's.
    pub(crate) fn begin(&mut self) {
        (self.told, self.cpu) = (Instant::now(), cpu());
    }

    /// What to tell after a step: all of it where a request ends with it, for its end closes its account; else now
    /// and then.
    pub(crate) fn after_step(
        &mut self,
        request_ends: bool,
        take: impl FnOnce(Duration) -> Vec<Work>,
    ) -> Option<FromEngine> {
        if !request_ends && self.told.elapsed() < TELL_EVERY {
            return None;
        }
        let before = self.cpu;
        self.begin();
        let work = take(self.cpu.saturating_sub(before));
        (!work.is_empty()).then_some(FromEngine::Work(work))
    }
}

/// What processors spent on this process.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
