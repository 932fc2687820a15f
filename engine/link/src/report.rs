//! What an engine did, over all the processes that it was.

use allerac_engine_core::Stats;
use allerac_engine_core::stats::{Counters, Gauges};
use tokio::sync::watch;

/// What an engine did so far. A process that is killed takes along what it did since it told last, about a second.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// What the process that runs now holds, and what all of them did: the counters never fall.
    pub stats: Stats,
    /// Processes that ended by themselves.
    pub crashes: u64,
    /// The process that runs now.
    pub process: Option<u32>,
    /// Why the graphics processor that it was to compute on is not used any more.
    pub gpu_failure: Option<String>,
}

/// Adds up what processes tell.
#[derive(Debug)]
pub(crate) struct Reporter {
    report: watch::Sender<Report>,
    /// What processes did that are gone.
    before: Counters,
}

impl Reporter {
    /// Goes on from what the report says already; of the graphics processor nothing is known yet.
    pub(crate) fn new(report: watch::Sender<Report>) -> Self {
        report.send_modify(|report| report.gpu_failure = None);
        let before = report.borrow().stats.counters.clone();
        Self { report, before }
    }

    /// A process begins.
    pub(crate) fn process_began(&self, process: Option<u32>) {
        self.report.send_modify(|report| report.process = process);
    }

    /// Processes do without the graphics processor from now on.
    pub(crate) fn gpu_failed(&self, reason: &str) {
        self.report.send_modify(|report| report.gpu_failure = Some(reason.to_owned()));
    }

    /// Takes what the process did since it began.
    pub(crate) fn note(&self, stats: &Stats) {
        let mut counters = self.before.clone();
        counters.add(&stats.counters);
        self.report.send_modify(|report| report.stats = Stats { gauges: stats.gauges, counters });
    }

    /// The process is gone, with all that it held.
    pub(crate) fn process_ended(&mut self, has_crashed: bool) {
        let before = &mut self.before;
        self.report.send_modify(|report| {
            report.stats.gauges = Gauges::default();
            report.process = None;
            report.crashes += u64::from(has_crashed);
            before.clone_from(&report.stats.counters);
        });
    }
}
