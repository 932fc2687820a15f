//! How many requests run at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests in flight on the whole box, waiting ones included. Each costs some kilobytes; a household
/// has a handful.
const IN_FLIGHT_MAX: usize = 512;

/// Counts the requests in flight.
#[derive(Debug, Clone)]
pub struct Limits {
    in_flight: Arc<Semaphore>,
}

/// One request in flight. It travels with the request and ends with it.
#[derive(Debug)]
pub struct Permit {
    _permit: OwnedSemaphorePermit,
}

impl Default for Limits {
    fn default() -> Self {
        Self { in_flight: Arc::new(Semaphore::new(IN_FLIGHT_MAX)) }
    }
}

impl Limits {
    /// Admits a request, or `None` when too many are in flight.
    #[must_use]
    pub fn admit(&self) -> Option<Permit> {
        let permit = Arc::clone(&self.in_flight).try_acquire_owned().ok()?;
        Some(Permit { _permit: permit })
    }

    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        IN_FLIGHT_MAX - self.in_flight.available_permits()
    }

    /// Waits until no request is in flight.
    pub async fn idle(&self) {
        let all = u32::try_from(IN_FLIGHT_MAX).expect("the limit is small");
        // The semaphore is never closed: there is no other outcome.
        drop(self.in_flight.acquire_many(all).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_is_given_back_when_it_is_dropped() {
        let limits = Limits::default();
        let permits: Vec<_> = (0..IN_FLIGHT_MAX).map(|_| limits.admit().unwrap()).collect();
        assert!(limits.admit().is_none());
        assert_eq!(limits.in_flight(), IN_FLIGHT_MAX);
        drop(permits);
        assert_eq!(limits.in_flight(), 0);
        assert!(limits.admit().is_some());
    }
}
