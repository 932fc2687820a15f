//! Accounts of requests that run, and the task that keeps them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use allerac_engine_link::Worked;
use allerac_ledger::{EnergyBooking, Ledger};
use allerac_metrics::Metrics;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::meter::{Interval, Meter};
use crate::tariff::Tariff;

/// How often it is looked while a request runs: so long may energy of an idle box be taken for that of a request.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often it is looked while none does. Counters go round after some minutes at the earliest.
const LOOK_IDLE: Duration = Duration::from_secs(10);
/// How often the box's own is written down while no request ends.
const BOOK_EVERY: Duration = Duration::from_secs(60);
/// Requests that may wait for a ledger that cannot be written; beyond it what they took is the box's own.
const WAITING_MAX: usize = 10_000;

/// Tells how much energy was taken since it was asked last, in millionths of a joule. It is told how long ago that was.
pub type Counter = Box<dyn FnMut(Duration) -> u64 + Send>;

/// Accounts of requests that run. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Accounts(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Those that the keeper has not seen yet.
    new: Mutex<Vec<Arc<Entry>>>,
    opened: Notify,
}

#[derive(Debug)]
struct Entry {
    request: Uuid,
    model: String,
    worked: Arc<Worked>,
    is_closed: AtomicBool,
}

/// The account of one request; dropping it closes it.
#[derive(Debug)]
pub struct Account(Arc<Entry>);

impl Accounts {
    /// Opens an account for a request for a model.
    #[must_use]
    pub fn open(&self, request: Uuid, model: &str) -> Account {
        let entry =
            Entry { request, model: model.to_owned(), worked: Arc::default(), is_closed: AtomicBool::new(false) };
        let entry = Arc::new(entry);
        self.new_ones().push(Arc::clone(&entry));
        self.0.opened.notify_one();
        Account(entry)
    }

    fn new_ones(&self) -> MutexGuard<'_, Vec<Arc<Entry>>> {
        self.0.new.lock().expect("no code panics while it holds the accounts")
    }
}

impl Account {
    /// Where engines count what they do for the request.
    #[must_use]
    pub fn worked(&self) -> Arc<Worked> {
        Arc::clone(&self.0.worked)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.0.is_closed.store(true, Ordering::Release);
    }
}

/// Keeps the accounts: shares what is measured, and writes it into the books.
pub struct Keeper {
    accounts: Accounts,
    ledger: Ledger,
    metrics: Metrics,
    counter: Counter,
    tariff: Tariff,
    meter: Meter,
    open: Vec<Open>,
    /// The number of the next account.
    next: u64,
    looked_at: Instant,
    booked_at: Instant,
    /// What the books do not have yet.
    booking: EnergyBooking,
}

/// An account, and what was seen of it.
struct Open {
    number: u64,
    entry: Arc<Entry>,
    time: Duration,
    cpu: Duration,
}

impl Keeper {
    /// A keeper of these accounts, which is to [run](Self::run).
    #[must_use]
    pub fn new(accounts: Accounts, (ledger, metrics): (Ledger, Metrics), counter: Counter, tariff: Tariff) -> Self {
        let meter = Meter::new(tariff.machine_per_hour);
        let now = Instant::now();
        Self {
            accounts,
            ledger,
            metrics,
            counter,
            tariff,
            meter,
            open: Vec::new(),
            next: 0,
            looked_at: now,
            booked_at: now,
            booking: EnergyBooking::default(),
        }
    }

    /// Keeps them until it is told to stop; then all that is known is in the books.
    pub async fn run(mut self, stop: CancellationToken) {
        // Counters tell nothing the first time.
        self.look();
        while !stop.is_cancelled() {
            let wait = if self.open.is_empty() { LOOK_IDLE } else { LOOK_EVERY };
            let accounts = self.accounts.clone();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = accounts.0.opened.notified(), if self.open.is_empty() => {}
                () = stop.cancelled() => {}
            }
            self.look();
            if !self.booking.requests.is_empty() || self.booked_at.elapsed() >= BOOK_EVERY {
                self.book().await;
            }
        }
        self.look();
        self.book().await;
    }

    /// Shares what was measured since the last look, and closes the accounts that were closed.
    fn look(&mut self) {
        let elapsed = std::mem::replace(&mut self.looked_at, Instant::now()).elapsed();
        let mut interval = Interval { energy_uj: (self.counter)(elapsed), ..Interval::default() };
        interval.per_kwh = self.tariff.per_kwh_at(&Timestamp::now().to_zoned(self.ledger.time_zone()));
        for entry in std::mem::take(&mut *self.accounts.new_ones()) {
            self.meter.open(self.next, entry.request);
            self.open.push(Open { number: self.next, entry, time: Duration::ZERO, cpu: Duration::ZERO });
            self.next += 1;
        }
        // Of what is closed by now, all work is told: so it is asked before the work.
        let closed: Vec<bool> = self.open.iter().map(|open| open.entry.is_closed.load(Ordering::Acquire)).collect();
        for open in &mut self.open {
            let worked = &open.entry.worked;
            let (time, cpu) = (worked.time(), worked.cpu());
            interval.work.push((open.number, nanos(time - open.time), nanos(cpu - open.cpu)));
            interval.is_running |= worked.is_running();
            (open.time, open.cpu) = (time, cpu);
        }
        self.meter.share(&interval);
        let mut closed = closed.into_iter();
        let (ended, open) = std::mem::take(&mut self.open).into_iter().partition(|_| closed.next() == Some(true));
        self.open = open;
        ended.iter().for_each(|open| self.close(open));
    }

    fn close(&mut self, open: &Open) {
        let Some(taken) = self.meter.close(open.number) else { return };
        self.metrics.count_taken(&open.entry.model, taken.energy_uj, taken.cpu_us);
        if self.booking.requests.len() < WAITING_MAX {
            self.booking.requests.push(taken);
        } else {
            self.booking.own.energy_uj += taken.energy_uj;
            self.booking.own.electricity += taken.electricity;
        }
    }

    /// Writes down what the books do not have. What cannot be written now is written with the next.
    async fn book(&mut self) {
        let own = self.meter.take_own();
        self.metrics.count_own_energy(own.energy_uj);
        self.booking.own.energy_uj += own.energy_uj;
        self.booking.own.electricity += own.electricity;
        self.booked_at = Instant::now();
        if self.booking == EnergyBooking::default() {
            return;
        }
        match self.ledger.book_energy(self.booking.clone()).await {
            Ok(()) => self.booking = EnergyBooking::default(),
            Err(error) => tracing::warn!("energy waits to be booked: {error}"),
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
