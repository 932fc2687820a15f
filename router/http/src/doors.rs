//! Who may sign in: passwords are computed here, a few at a time and off the threads that serve; tries are counted.

use std::fmt;
use std::time::{Duration, Instant};

use allerac_ledger::{hash_password, verify_password};
use tokio::sync::Semaphore;

use crate::error::ApiError;
use crate::second_factor::Codes;
use crate::throttle::Throttle;
use crate::ticket::Tickets;

/// Passwords computed at once: each has a core and 19 MiB for some tens of milliseconds.
const COMPUTED_MAX: usize = 2;
/// Passwords that wait to be computed; more are refused.
const WAITING_MAX: usize = 64;
/// Tries for one person: so many at once, then one after each interval. Guessing a password takes ages at that.
const PERSON: (u32, Duration) = (10, Duration::from_secs(15));
/// Tries from one address. A household, or a proxy before the box, is one.
const ADDRESS: (u32, Duration) = (40, Duration::from_secs(3));

/// Who may sign in.
pub struct Doors {
    computing: Semaphore,
    waiting: Semaphore,
    person: Throttle,
    address: Throttle,
    pub(crate) codes: Codes,
    pub(crate) tickets: Tickets,
    handles: [u8; 32],
}

impl Doors {
    /// With the secret of the box, from which those of second factors follow.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self {
            computing: Semaphore::new(COMPUTED_MAX),
            waiting: Semaphore::new(WAITING_MAX),
            person: Throttle::new(PERSON.0, PERSON.1),
            address: Throttle::new(ADDRESS.0, ADDRESS.1),
            codes: Codes::new(secret),
            tickets: Tickets::new(),
            handles: blake3::derive_key("allerac 2026 passkey handles", secret),
        }
    }

    /// What devices call somebody: a word that tells nobody who (Web Authentication, section 14.6.1).
    pub(crate) fn handle(&self, user: i64) -> [u8; 32] {
        *blake3::keyed_hash(&self.handles, &user.to_be_bytes()).as_bytes()
    }

    /// Counts a try of somebody from somewhere.
    pub(crate) fn enter(&self, person: &str, address: &str) -> Result<(), ApiError> {
        let now = Instant::now();
        let entered = self.address.enter(address, now).and_then(|()| self.person.enter(person, now));
        entered.map_err(ApiError::too_many_tries)
    }

    /// Takes it back, because it was right.
    pub(crate) fn forgive(&self, person: &str, address: &str) {
        self.person.forgive(person);
        self.address.forgive(address);
    }

    /// What is kept of a new password.
    pub(crate) async fn hash(&self, password: String) -> Result<String, ApiError> {
        Ok(self.compute(move || hash_password(&password)).await??)
    }

    /// Whether a password is the one that was kept. It takes as long where none was.
    pub(crate) async fn verify(&self, password: String, kept: Option<String>) -> Result<bool, ApiError> {
        self.compute(move || verify_password(&password, kept.as_deref())).await
    }

    async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
        let busy = || ApiError::too_many_requests();
        let _waiting = self.waiting.try_acquire().map_err(|_| busy())?;
        let _computing = self.computing.acquire().await.map_err(|_| busy())?;
        tokio::task::spawn_blocking(work).await.map_err(|_| busy())
    }
}

impl fmt::Debug for Doors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Doors(..)")
    }
}
