//! How many requests run at once, on the whole box and for each account, and how much each account may ask in a minute.

use std::fmt;
use std::pin::Pin;
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
    counted: Counted,
}

/// Where it is counted what accounts ask.
#[derive(Debug, Clone)]
enum Counted {
    Here { rates: Arc<Mutex<Rates>>, began: Instant },
    Shared(Arc<dyn SharedRates>),
}

/// What is done with what is counted, at a time. May be done again from the begin: only the last time counts.
pub type Count = Box<dyn FnMut(&mut Rates, Duration) + Send>;

/// Where several servers count together.
pub trait SharedRates: fmt::Debug + Send + Sync {
    /// Counts with these accounts while nobody else does.
    fn count(&self, accounts: Vec<String>, count: Count) -> Pin<Box<dyn Future<Output = Result<(), Away>> + Send>>;

    /// What is counted of these accounts, and the time; to look at.
    ///
    /// # Errors
    /// [`Away`].
    fn look(&self, accounts: &[String]) -> Result<(Rates, Duration), Away>;
}

/// What servers count together cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Away;

/// One request in flight. It travels with the request and ends with it.
#[derive(Debug)]
pub struct Permit {
    _permit: OwnedSemaphorePermit,
    /// Whom it is counted with.
    accounts: Vec<String>,
    counted: Counted,
}

/// A request that is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAdmitted {
    /// Too many are in flight on the box.
    Full,
    /// An account has asked too much.
    Refused(Refused),
    /// What servers count together cannot be reached.
    Away,
}

/// Tokens that were counted before they were used. Dropped, it corrects them to what was used.
#[derive(Debug)]
pub struct TakenTokens {
    counted: Counted,
    accounts: Vec<String>,
    step: u64,
    taken: u64,
    used: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self::counting(Counted::Here { rates: Arc::default(), began: Instant::now() })
    }
}

impl Limits {
    /// Counts together with other servers.
    #[must_use]
    pub fn shared(rates: Arc<dyn SharedRates>) -> Self {
        Self::counting(Counted::Shared(rates))
    }

    fn counting(counted: Counted) -> Self {
        Self { in_flight: Arc::new(Semaphore::new(IN_FLIGHT_MAX)), counted }
    }

    /// Admits a request and counts it with these accounts, or says why not.
    ///
    /// # Errors
    /// [`NotAdmitted`]; then it was not counted.
    pub async fn admit(&self, accounts: &[Limited]) -> Result<Permit, NotAdmitted> {
        let permit = Arc::clone(&self.in_flight).try_acquire_owned().map_err(|_| NotAdmitted::Full)?;
        let begin = |all: Vec<Limited>| move |rates: &mut Rates, now| rates.begin(&all, now);
        self.counted.count(accounts, begin(accounts.to_vec())).await??;
        Ok(Permit { _permit: permit, accounts: names(accounts), counted: self.counted.clone() })
    }

    /// Counts tokens with these accounts before they are used.
    ///
    /// # Errors
    /// [`NotAdmitted`]; then they were not counted.
    pub async fn take_tokens(&self, accounts: &[Limited], tokens: u64) -> Result<TakenTokens, NotAdmitted> {
        let all = accounts.to_vec();
        let step = self.counted.count(accounts, move |rates, now| rates.take(&all, tokens, now)).await??;
        Ok(TakenTokens { counted: self.counted.clone(), accounts: names(accounts), step, taken: tokens, used: 0 })
    }

    /// How far the limits of these accounts are used.
    #[must_use]
    pub fn gauges(&self, accounts: &[Limited]) -> Gauges {
        match &self.counted {
            Counted::Here { rates, began } => lock(rates).gauges(accounts, began.elapsed()),
            Counted::Shared(shared) => match shared.look(&names(accounts)) {
                Ok((mut rates, now)) => rates.gauges(accounts, now),
                Err(Away) => Gauges::default(),
            },
        }
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

impl Counted {
    async fn count<T: Send + 'static>(
        &self,
        accounts: &[Limited],
        mut count: impl FnMut(&mut Rates, Duration) -> T + Send + 'static,
    ) -> Result<T, NotAdmitted> {
        match self {
            // Whoever has no limit is counted nowhere.
            Self::Shared(shared) if !accounts.is_empty() => {
                let outcome = Arc::new(Mutex::new(None));
                let told = Arc::clone(&outcome);
                let count: Count = Box::new(move |rates, now| *lock(&told) = Some(count(rates, now)));
                shared.count(names(accounts), count).await.map_err(|Away| NotAdmitted::Away)?;
                lock(&outcome).take().ok_or(NotAdmitted::Away)
            }
            Self::Shared(_) => Ok(count(&mut Rates::default(), Duration::ZERO)),
            Self::Here { rates, began } => Ok(count(&mut lock(rates), began.elapsed())),
        }
    }

    /// Counts what nobody waits for.
    fn note(&self, accounts: Vec<String>, mut count: impl FnMut(&mut Rates, Duration) + Send + 'static) {
        match self {
            Self::Here { rates, began } => count(&mut lock(rates), began.elapsed()),
            Self::Shared(_) if accounts.is_empty() => {}
            Self::Shared(shared) => {
                // After the runtime nothing is counted: the server has ended, and its count with it.
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    runtime.spawn(shared.count(accounts, Box::new(count)));
                }
            }
        }
    }
}

fn names(accounts: &[Limited]) -> Vec<String> {
    accounts.iter().map(|limited| limited.account.clone()).collect()
}

fn lock<T>(counted: &Mutex<T>) -> MutexGuard<'_, T> {
    counted.lock().expect("no code panics while it holds what is counted")
}

impl Drop for Permit {
    fn drop(&mut self) {
        let accounts = std::mem::take(&mut self.accounts);
        let ended = accounts.clone();
        self.counted.note(accounts, move |rates, _| rates.end(ended.iter()));
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
        let accounts = std::mem::take(&mut self.accounts);
        let corrected = accounts.clone();
        self.counted.note(accounts, move |rates, now| rates.correct(corrected.iter(), correction, now));
    }
}

impl From<Refused> for NotAdmitted {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate::RateLimits;

    #[tokio::test]
    async fn a_permit_is_given_back_when_it_is_dropped() {
        let limits = Limits::default();
        let mut permits = Vec::new();
        for _ in 0..IN_FLIGHT_MAX {
            permits.push(limits.admit(&[]).await.unwrap());
        }
        assert_eq!(limits.admit(&[]).await.unwrap_err(), NotAdmitted::Full);
        assert_eq!(limits.in_flight(), IN_FLIGHT_MAX);
        drop(permits);
        assert_eq!(limits.in_flight(), 0);
        assert!(limits.admit(&[]).await.is_ok());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn of_many_threads_as_many_get_in_as_may() {
        let limits = Limits::default();
        let few = RateLimits { requests_a_minute: Some(50), tokens_a_minute: Some(70), concurrency: None };
        let anna = [Limited { account: "user:1".into(), limits: few }];
        let (mut admitted, mut taken) = (Vec::new(), Vec::new());
        let ask = |_| {
            let (limits, anna) = (limits.clone(), anna.clone());
            tokio::spawn(async move { (limits.admit(&anna).await.ok(), limits.take_tokens(&anna, 2).await.ok()) })
        };
        let asking: Vec<_> = (0..200).map(ask).collect();
        for task in asking {
            let (permit, tokens) = task.await.unwrap();
            admitted.extend(permit);
            taken.extend(tokens);
        }
        assert_eq!((admitted.len(), taken.len()), (50, 35));
        drop(taken);
        assert_eq!(limits.gauges(&anna).tokens.unwrap().remaining, 70);
    }
}
