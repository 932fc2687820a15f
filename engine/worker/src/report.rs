//! Tells the router now and then what the engine did.

use std::time::{Duration, Instant};

use allerac_engine_core::{Backend, Engine, Stats};
use allerac_engine_link::protocol::FromEngine;

use crate::serve::Outbox;

/// Often enough to look at, and to lose little with a process that is killed.
pub(crate) const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Sends what changed, and waits for nobody: a report that finds the lane full is dropped, and the next one says
/// all that it would have said.
pub(crate) struct Reporter {
    outbox: Outbox,
    sent: Stats,
    due: Instant,
    has_told_all: bool,
}

impl Reporter {
    pub(crate) fn new(outbox: &Outbox) -> Self {
        Self { outbox: outbox.clone(), sent: Stats::default(), due: Instant::now(), has_told_all: false }
    }

    /// Between two steps: reports once a second.
    pub(crate) fn working<B: Backend>(&mut self, engine: &Engine<B>) {
        let now = Instant::now();
        if now >= self.due {
            self.due = now + REPORT_EVERY;
            self.report(engine);
        }
    }

    /// Before a wait for work: reports at once, for nothing will change for a while.
    pub(crate) fn idle<B: Backend>(&mut self, engine: &Engine<B>) {
        self.report(engine);
    }

    /// Whether the last report was sent, or there was nothing to send.
    pub(crate) fn has_told_all(&self) -> bool {
        self.has_told_all
    }

    fn report<B: Backend>(&mut self, engine: &Engine<B>) {
        let stats = engine.stats();
        self.has_told_all =
            stats == self.sent || self.outbox.try_send(vec![FromEngine::Stats(Box::new(stats.clone()))]).is_ok();
        if self.has_told_all {
            self.sent = stats;
        }
    }
}
