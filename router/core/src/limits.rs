//! How many requests run at once, on the whole box and for each account, and how much each account may ask in a minute.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::rate::{Gauges, Limited, Rates, Refused};

/// Requests in flight on the whole box, waiting ones included. Each costs some kilobytes; a household
/// has a handful.
const IN_FLIGHT_MAX: usize = 512;

/// Counts requests and tokens. Clones share what is counted.
#[derive(Debug, Clone)]
pub struct Limits {
    in_flight: Arc<Semaphore>,
    rates: Arc<Mutex<Rates>>,
    began: Instant,
}

/// One request in flight. It travels with the request and ends with it.
#[derive(Debug)]
pub struct Permit {
    _permit: OwnedSemaphorePermit,
    /// Whom it is counted with.
    accounts: Vec<String>,
    rates: Arc<Mutex<Rates>>,
}

/// A request that is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAdmitted {
    /// Too many are in flight on the box.
    Full,
    /// An account has asked too much.
    Refused(Refused),
}

/// Tokens that were counted before they were used. Dropped, it corrects them to what was used.
#[derive(Debug)]
pub struct TakenTokens {
    limits: Limits,
    accounts: Vec<String>,
    step: u64,
    taken: u64,
    used: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
        Self { in_flight, rates: Arc::default(), began: Instant::now() }
    }
}

impl Limits {
    /// Admits a request and counts it with these accounts, or says why not.
    ///
    /// # Errors
    /// [`NotAdmitted`]; then it was not counted.
    pub fn admit(&self, accounts: &[Limited]) -> Result<Permit, NotAdmitted> {
        let permit = Arc::clone(&self.in_flight).try_acquire_owned().map_err(|_| NotAdmitted::Full)?;
        self.rates().begin(accounts, self.now()).map_err(NotAdmitted::Refused)?;
        let accounts = accounts.iter().map(|limited| limited.account.clone()).collect();
        Ok(Permit { _permit: permit, accounts, rates: Arc::clone(&self.rates) })
    }

    /// Counts tokens with these accounts before they are used.
    ///
    /// # Errors
    /// [`Refused`]; then they were not counted.
    pub fn take_tokens(&self, accounts: &[Limited], tokens: u64) -> Result<TakenTokens, Refused> {
        let step = self.rates().take(accounts, tokens, self.now())?;
        let accounts = accounts.iter().map(|limited| limited.account.clone()).collect();
        Ok(TakenTokens { limits: self.clone(), accounts, step, taken: tokens, used: 0 })
    }

    /// How far the limits of these accounts are used.
    #[must_use]
    pub fn gauges(&self, accounts: &[Limited]) -> Gauges {
        self.rates().gauges(accounts, self.now())
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

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn rates(&self) -> MutexGuard<'_, Rates> {
        lock(&self.rates)
    }
}

fn lock(rates: &Mutex<Rates>) -> MutexGuard<'_, Rates> {
    rates.lock().expect("no code panics while it holds what is counted")
}

impl Drop for Permit {
    fn drop(&mut self) {
        lock(&self.rates).end(self.accounts.iter());
    }
}

impl TakenTokens {
    /// Says how many were used so far.
    pub fn count(&mut self, used: u64) {
        self.used = used;
    }
}

impl Drop for TakenTokens {
    fn drop(&mut self) {
        let correction = (self.step, self.taken, self.used);
        self.limits.rates().correct(self.accounts.iter(), correction, self.limits.now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate::RateLimits;

    #[test]
    fn a_permit_is_given_back_when_it_is_dropped() {
        let limits = Limits::default();
        let permits: Vec<_> = (0..IN_FLIGHT_MAX).map(|_| limits.admit(&[]).unwrap()).collect();
        assert_eq!(limits.admit(&[]).unwrap_err(), NotAdmitted::Full);
        assert_eq!(limits.in_flight(), IN_FLIGHT_MAX);
        drop(permits);
        assert_eq!(limits.in_flight(), 0);
        assert!(limits.admit(&[]).is_ok());
    }

    #[test]
    fn of_many_threads_as_many_get_in_as_may() {
        let limits = Limits::default();
        let few = RateLimits { requests_a_minute: Some(50), tokens_a_minute: Some(70), concurrency: None };
        let anna = [Limited { account: "user:1".into(), limits: few }];
        let (mut admitted, mut taken) = (Vec::new(), Vec::new());
        std::thread::scope(|scope| {
            let ask = || scope.spawn(|| (limits.admit(&anna).ok(), limits.take_tokens(&anna, 2).ok()));
            let asking: Vec<_> = (0..200).map(|_| ask()).collect();
            for thread in asking {
                let (permit, tokens) = thread.join().unwrap();
                admitted.extend(permit);
                taken.extend(tokens);
            }
        });
        assert_eq!((admitted.len(), taken.len()), (50, 35));
        drop(taken);
        assert_eq!(limits.gauges(&anna).tokens.unwrap().remaining, 70);
    }
}
