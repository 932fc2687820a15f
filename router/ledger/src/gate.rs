//! Lets so many in at once; others wait for a while.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How many are inside.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    inside: Mutex<usize>,
    left: Condvar,
}

/// Somebody inside; leaves when dropped.
pub(crate) struct Inside<'g>(&'g Gate);

impl Gate {
    /// Enters when fewer than `most` are inside; `None` where nobody left within the time.
    pub(crate) fn enter(&self, most: usize, wait: Duration) -> Option<Inside<'_>> {
        let inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.left.wait_timeout_while(inside, wait, |inside| *inside >= most);
        let (mut inside, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() && *inside >= most {
            return None;
        }
        *inside += 1;
        Some(Inside(self))
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        *self.0.inside.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_too_many_waits_until_somebody_leaves() {
        let gate = Gate::default();
        let first = gate.enter(2, Duration::ZERO).unwrap();
        let second = gate.enter(2, Duration::ZERO).unwrap();
        assert!(gate.enter(2, Duration::from_millis(5)).is_none());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| gate.enter(2, Duration::from_secs(60)).is_some());
            drop(first);
            assert!(waiting.join().unwrap());
        });
        drop(second);
        assert!(gate.enter(1, Duration::ZERO).is_some());
    }
}
