//! An engine for as long as a request needs it.

use std::ops::Deref;
use std::time::{Duration, Instant};

use allerac_engine_link::{Engine, EngineStatus};
use tokio::sync::mpsc;

use super::keeper::Command;
use super::terms::Key;

/// Below this share loaded, how fast it goes on is not yet known.
const SHARE_MIN: f32 = 0.05;

/// An engine that stays in memory until this is dropped.
#[derive(Debug)]
pub struct Lease {
    engine: Engine,
    load: Load,
    _held: Held,
}

/// When its model began to be loaded, and how long that is likely to take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) began: Instant,
    pub(crate) time: Duration,
}

/// Gives the engine back when it is dropped, by a place in the keeper's lane that was taken beforehand.
#[derive(Debug)]
struct Held {
    key: Key,
    number: u64,
    release: Option<mpsc::OwnedPermit<Command>>,
}

impl Lease {
    pub(crate) fn new(engine: Engine, load: Load, key: Key, number: u64, release: mpsc::OwnedPermit<Command>) -> Self {
        Self { engine, load, _held: Held { key, number, release: Some(release) } }
    }

    /// How long the model is likely to take until it is loaded; `None` where it is.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        match self.engine.status() {
            EngineStatus::Loading { progress } => Some(rest(progress, self.load.began.elapsed(), self.load.time)),
            EngineStatus::Restarting { .. } => Some(self.load.time),
            EngineStatus::Ready(_) | EngineStatus::Failed { .. } | EngineStatus::Stopped => None,
        }
    }
}

impl Deref for Lease {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(permit) = self.release.take() {
            permit.send(Command::Release { key: self.key.clone(), number: self.number });
        }
    }
}

/// What is left of a load that is so far: by how fast it went until now, else by how long it was expected to take.
fn rest(progress: f32, elapsed: Duration, expected: Duration) -> Duration {
    if progress >= SHARE_MIN {
        elapsed.mul_f32((1.0 / progress - 1.0).clamp(0.0, 1.0 / SHARE_MIN))
    } else {
        expected.saturating_sub(elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_follows_from_what_was_measured() {
        let s = Duration::from_secs;
        assert_eq!(rest(0.0, s(3), s(10)), s(7));
        assert_eq!(rest(0.0, s(30), s(10)), s(0));
        assert_eq!(rest(0.25, s(3), s(10)), s(9));
        assert_eq!(rest(1.0, s(3), s(10)), s(0));
        assert!(rest(f32::NAN, s(3), s(10)) == s(7));
    }
}
