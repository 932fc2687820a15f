//! What came in a minute. It is counted in steps of half a second and forgotten when the whole step is sixty seconds past.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::rate::Gauge;

/// The length of a step, in milliseconds.
const STEP_MS: u64 = 500;
/// Steps in a minute.
const MINUTE_STEPS: u64 = 120;

/// What came in the last minute, by steps.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Window {
    /// Oldest first: the step's number and what came in it.
    steps: VecDeque<(u64, u64)>,
    total: u64,
}

pub(crate) fn step(now: Duration) -> u64 {
    u64::try_from(now.as_millis() / u128::from(STEP_MS)).unwrap_or(u64::MAX)
}

/// When a step is forgotten.
fn expiry(step: u64) -> Duration {
    Duration::from_millis((step + MINUTE_STEPS + 1) * STEP_MS)
}

impl Window {
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn forget(&mut self, now: Duration) {
        while let Some((oldest, amount)) = self.steps.front().copied() {
            if expiry(oldest) > now {
                return;
            }
            self.total -= amount;
            self.steps.pop_front();
        }
    }

    pub(crate) fn add(&mut self, now: Duration, amount: u64) {
        let step = step(now);
        self.total += amount;
        match self.steps.back_mut() {
            // A clock that stands, or was read before another's: what came late counts as of now.
            Some((last, sum)) if *last >= step => *sum += amount,
            _ => self.steps.push_back((step, amount)),
        }
    }

    /// Takes back some of what came in a step, if it is not forgotten yet.
    pub(crate) fn take_back(&mut self, step: u64, amount: u64) {
        let found = self.steps.iter_mut().rev().find(|(number, _)| *number <= step);
        if let Some((_, sum)) = found {
            let taken = amount.min(*sum);
            *sum -= taken;
            self.total -= taken;
        }
    }

    /// How long until so much more fits; `None` where it never does.
    pub(crate) fn wait(&self, now: Duration, amount: u64, limit: u64) -> Option<Duration> {
        let mut left = (self.total + amount).checked_sub(limit)?;
        if amount > limit {
            return None;
        }
        for (step, sum) in &self.steps {
            left = left.saturating_sub(*sum);
            if left == 0 {
                return Some(expiry(*step).saturating_sub(now));
            }
        }
        None
    }

    pub(crate) fn gauge(&self, now: Duration, limit: u64) -> Gauge {
        let last = self.steps.iter().rev().find(|(_, sum)| *sum > 0);
        let reset = last.map_or(Duration::ZERO, |(step, _)| expiry(*step).saturating_sub(now));
        Gauge { limit, remaining: limit.saturating_sub(self.total), reset }
    }
}
