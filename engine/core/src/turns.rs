//! Whose turn it is: a batch is computed with one adapter, so answers under different ones are computed in turns.

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::request::AdapterId;

/// Steps of a turn of answers while others wait for theirs. A change takes llama.cpp about as long as a step of a small model: more
/// steps waste less, fewer let the others stutter less.
const STEPS: u32 = 4;
/// Steps of a turn of what nobody waits for, which has few.
const BATCH_STEPS: u32 = 1;

/// Whose turn it is among those that somebody waits for, and among those that nobody does.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    urgent: Turn,
    batch: Turn,
}

/// Who had the last step, and for how long.
#[derive(Debug, Default)]
struct Turn {
    adapter: AdapterId,
    steps: u32,
}

impl Turns {
    /// The adapter of this step's answers, of those that any are computed with; they come round one after the other.
    pub(crate) fn next(&mut self, wanted: &BTreeSet<AdapterId>) -> Option<AdapterId> {
        self.urgent.next(wanted, STEPS)
    }

    /// The same for one of the few steps that is for what nobody waits for.
    pub(crate) fn next_of_batch(&mut self, wanted: &BTreeSet<AdapterId>) -> Option<AdapterId> {
        self.batch.next(wanted, BATCH_STEPS)
    }
}

impl Turn {
    fn next(&mut self, wanted: &BTreeSet<AdapterId>, steps: u32) -> Option<AdapterId> {
        let others = wanted.len() - usize::from(wanted.contains(&self.adapter));
        if wanted.contains(&self.adapter) && (self.steps < steps || others == 0) {
            // Whoever was alone for long has had their turn when others come.
            self.steps = self.steps.saturating_add(1);
            return Some(self.adapter);
        }
        let mut after = wanted.range((Bound::Excluded(self.adapter), Bound::Unbounded));
        let next = *after.next().or_else(|| wanted.first())?;
        *self = Self { adapter: next, steps: 1 };
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(turns: &mut Turns, wanted: &[u64], steps: usize) -> Vec<u64> {
        let wanted = wanted.iter().copied().map(AdapterId).collect();
        (0..steps).filter_map(|_| Some(turns.next(&wanted)?.0)).collect()
    }

    #[test]
    fn everybody_has_as_many_steps() {
        let mut all = Turns::default();
        assert_eq!(turns(&mut all, &[0, 3, 9], 14), [0, 0, 0, 0, 3, 3, 3, 3, 9, 9, 9, 9, 0, 0]);
        // One that ends gives the rest of its turn away.
        assert_eq!(turns(&mut all, &[3, 9], 6), [3, 3, 3, 3, 9, 9]);
        assert_eq!(turns(&mut all, &[], 1), []);
    }

    #[test]
    fn who_was_alone_makes_room_at_once() {
        let mut all = Turns::default();
        assert_eq!(turns(&mut all, &[5], 100), [5; 100]);
        assert_eq!(turns(&mut all, &[0, 5], 6), [0, 0, 0, 0, 5, 5]);
    }
}
