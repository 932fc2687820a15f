//! Whom the engine's time went to: the time of a step is shared by its tokens.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::request::RequestId;

/// What was done for a request since that was told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Which.
    pub id: RequestId,
    /// Its share of the time of steps.
    pub time: Duration,
    /// Its share of the time of processors.
    pub cpu: Duration,
}

/// Shares of steps until they are told. Bounded by the requests of the steps between.
#[derive(Debug, Default)]
pub struct WorkLog(Vec<(RequestId, u64)>);

impl WorkLog {
    /// Notes a step that took so long, with so many tokens of each of these requests.
    pub fn note(&mut self, took: Duration, tokens: &[(RequestId, u64)]) {
        let weights: Vec<u64> = tokens.iter().map(|(_, tokens)| *tokens).collect();
        for ((id, _), part) in tokens.iter().zip(share(nanos(took), &weights)) {
            match self.0.iter_mut().find(|(known, _)| known == id) {
                Some((_, time)) => *time = time.saturating_add(part),
                None => self.0.push((*id, part)),
            }
        }
    }

    /// Whether nothing was noted since the last time.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes what was noted. `cpu` is what processors spent on it, which is shared as the time is.
    pub fn take(&mut self, cpu: Duration) -> Vec<Work> {
        let noted = std::mem::take(&mut self.0);
        let times: Vec<u64> = noted.iter().map(|(_, time)| *time).collect();
        let cpu = share(nanos(cpu), &times);
        let work = |((id, time), cpu): ((RequestId, u64), u64)| Work {
            id,
            time: Duration::from_nanos(time),
            cpu: Duration::from_nanos(cpu),
        };
        noted.into_iter().zip(cpu).map(work).collect()
    }
}

/// Divides a whole by weights, to the last unit: the parts add up to it, unless there is no weight at all.
///
/// Each part ends where its weight ends on the whole, rounded down, so no part is off by more than one.
#[must_use]
pub fn share(whole: u64, weights: &[u64]) -> Vec<u64> {
    let sum = weights.iter().fold(0u64, |sum, weight| sum.saturating_add(*weight));
    let (mut before, mut given) = (0u64, 0u64);
    let part = |weight: &u64| {
        before = before.saturating_add(*weight);
        let upto = u128::from(whole) * u128::from(before) / u128::from(sum.max(1));
        let upto = u64::try_from(upto).unwrap_or(whole);
        let part = upto - given;
        given = upto;
        part
    };
    weights.iter().map(part).collect()
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_step_is_shared_by_tokens_and_processors_by_time() {
        let mut log = WorkLog::default();
        let (a, b) = (RequestId(1), RequestId(2));
        log.note(Duration::from_nanos(100), &[(a, 3), (b, 1)]);
        log.note(Duration::from_nanos(7), &[(b, 5)]);
        let work = |id, time, cpu| Work { id, time: Duration::from_nanos(time), cpu: Duration::from_nanos(cpu) };
        assert_eq!(log.take(Duration::from_nanos(214)), [work(a, 75, 150), work(b, 32, 64)]);
        assert!(log.is_empty() && log.take(Duration::from_nanos(9)).is_empty());
    }

    #[test]
    fn parts_follow_their_weights() {
        assert_eq!(share(10, &[1, 1, 1]), [3, 3, 4]);
        assert_eq!(share(10, &[0, 5, 0]), [0, 10, 0]);
        assert_eq!((share(10, &[0, 0]), share(10, &[])), (vec![0, 0], vec![]));
        assert_eq!(share(u64::MAX, &[u64::MAX, 1]), [u64::MAX, 0]);
    }

    proptest! {
        #[test]
        fn parts_add_up(whole in 0u64.., weights in prop::collection::vec(0u64..1 << 56, 1..40)) {
            let parts = share(whole, &weights);
            let sum: u64 = weights.iter().sum();
            prop_assert_eq!(parts.iter().sum::<u64>(), if sum == 0 { 0 } else { whole });
            for (part, weight) in parts.iter().zip(&weights).filter(|_| sum > 0) {
                let exact = u128::from(whole) * u128::from(*weight) / u128::from(sum);
                prop_assert!(u128::from(*part).abs_diff(exact) <= 1);
            }
        }
    }
}
