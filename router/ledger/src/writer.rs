//! The one thread that writes. All jobs that wait are done in one transaction and answered after its
//! commit: one `fsync` serves them all.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::check;
use crate::error::LedgerError;
use crate::sql::Connection;

/// Jobs that may wait. Each open reservation holds one place for its settlement beforehand.
const JOBS_WAITING_MAX: usize = 16_384;
/// Jobs in one transaction; about 20 ms of work.
const GROUP_MAX: usize = 512;
/// How long a group that nobody waits for waits for one that somebody does: they share an `fsync`.
const LINGER: Duration = Duration::from_millis(2);
/// How often settlements that could not be written are tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// A place for a job that must not be refused.
pub(crate) type Place = mpsc::OwnedPermit<Box<dyn Job>>;

/// Something to do within a transaction. It may run more than once: when another job of its group fails,
/// the group is undone and each is done by itself.
pub(crate) trait Job: Send {
    fn run(&mut self, connection: &Connection) -> Result<(), LedgerError>;
    /// Tells whoever waits. Called once the outcome of `run` is durable, or with why it is not.
    fn finish(&mut self, result: Result<(), LedgerError>);
    /// Whether it is tried again until it succeeds.
    fn must_happen(&self) -> bool;
    /// Whether somebody waits for its outcome.
    fn is_awaited(&self) -> bool;
}

/// The writer's end that jobs are sent to.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    jobs: mpsc::Sender<Box<dyn Job>>,
    /// Set while settlements wait for room on the disk.
    blocked: Arc<AtomicBool>,
}

impl Writer {
    pub(crate) fn start(connection: Connection, check: bool) -> std::io::Result<Self> {
        let (jobs, incoming) = mpsc::channel(JOBS_WAITING_MAX);
        let blocked = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&blocked);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        std::thread::Builder::new()
            .name("ledger".into())
            .spawn(move || runtime.block_on(run(Book { connection, check }, incoming, &flag)))?;
        Ok(Self { jobs, blocked })
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    /// Does some work in a transaction and waits until it is durable.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        work: impl FnMut(&Connection) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (job, answer) = job(work, None);
        self.jobs.send(job).await.map_err(|_| LedgerError::Closed)?;
        answer.await.map_err(|_| LedgerError::Closed)?
    }

    /// Has some work done when there is room for it; nobody waits, and it may be lost with the power.
    pub(crate) fn offer(&self, work: impl FnMut(&Connection) -> Result<(), LedgerError> + Send + 'static) {
        let (job, _) = job(work, None);
        let _ = self.jobs.try_send(job);
    }

    /// A place for a later job.
    pub(crate) async fn place(&self) -> Result<Place, LedgerError> {
        self.jobs.clone().reserve_owned().await.map_err(|_| LedgerError::Closed)
    }
}

/// What to do once a job is durable.
pub(crate) type Afterwards = Box<dyn FnOnce() + Send>;

/// Makes a job of a closure. With something to do afterwards it is tried again until it succeeds.
pub(crate) fn job<T: Send + 'static>(
    work: impl FnMut(&Connection) -> Result<T, LedgerError> + Send + 'static,
    afterwards: Option<Afterwards>,
) -> (Box<dyn Job>, oneshot::Receiver<Result<T, LedgerError>>) {
    let (reply, answer) = oneshot::channel();
    (Box::new(Call { work, afterwards, outcome: None, reply: Some(reply) }), answer)
}

struct Call<T, F> {
    work: F,
    afterwards: Option<Afterwards>,
    outcome: Option<T>,
    reply: Option<oneshot::Sender<Result<T, LedgerError>>>,
}

impl<T: Send, F: FnMut(&Connection) -> Result<T, LedgerError> + Send> Job for Call<T, F> {
    fn run(&mut self, connection: &Connection) -> Result<(), LedgerError> {
        self.outcome = Some((self.work)(connection)?);
        Ok(())
    }

    fn finish(&mut self, result: Result<(), LedgerError>) {
        let outcome = self.outcome.take();
        if let Some(afterwards) = self.afterwards.take_if(|_| result.is_ok()) {
            afterwards();
        }
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(result.and_then(|()| outcome.ok_or(LedgerError::Closed)));
        }
    }

    fn must_happen(&self) -> bool {
        self.afterwards.is_some()
    }

    fn is_awaited(&self) -> bool {
        self.reply.as_ref().is_some_and(|reply| !reply.is_closed())
    }
}

async fn run(mut book: Book, mut incoming: mpsc::Receiver<Box<dyn Job>>, blocked: &AtomicBool) {
    // Bounded by the places that open reservations hold.
    let mut deferred: VecDeque<Box<dyn Job>> = VecDeque::new();
    loop {
        let mut group = Vec::new();
        if deferred.is_empty() {
            if incoming.recv_many(&mut group, GROUP_MAX).await == 0 {
                return;
            }
        } else {
            let received = tokio::time::timeout(RETRY_EVERY, incoming.recv_many(&mut group, GROUP_MAX)).await;
            if received == Ok(0) {
                tracing::error!("{} settlements could not be written; the next start settles them", deferred.len());
                return;
            }
            group.extend(deferred.drain(..));
        }
        if !group.iter().any(|job| job.is_awaited()) {
            let _ = tokio::time::timeout(LINGER, incoming.recv_many(&mut group, GROUP_MAX)).await;
        }
        if book.commit(&mut group).is_ok() {
            group.iter_mut().for_each(|job| job.finish(Ok(())));
        } else {
            deferred.extend(book.one_by_one(group));
        }
        blocked.store(!deferred.is_empty(), Ordering::Relaxed);
    }
}

/// What is written into.
struct Book {
    connection: Connection,
    /// Whether each transaction is checked.
    check: bool,
}

impl Book {
    /// Does all jobs in one transaction, or none.
    fn commit(&mut self, group: &mut [Box<dyn Job>]) -> Result<(), LedgerError> {
        self.connection.restore()?;
        let check = self.check;
        self.connection.write(|connection| {
            for job in group {
                job.run(connection)?;
            }
            if check { check::balanced(connection) } else { Ok(()) }
        })
    }

    /// Does each job in a transaction of its own; returns those to be tried again.
    fn one_by_one(&mut self, group: Vec<Box<dyn Job>>) -> Vec<Box<dyn Job>> {
        let mut again = Vec::new();
        for mut job in group {
            let result = self.commit(std::slice::from_mut(&mut job));
            let retry = result.is_err() && job.must_happen();
            if let Err(error) = &result {
                tracing::error!("the ledger could not write: {error}");
            }
            job.finish(result);
            if retry {
                again.push(job);
            }
        }
        again
    }
}
