//! The handle that everything goes through, and the thread behind it.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use crate::error::StoreError;
use crate::schema;
use crate::seal::Seal;

/// Jobs that may wait; who has more to do waits too. Each holds what is to be written.
const JOBS_WAITING_MAX: usize = 64;
/// How often what has had its time is looked for, in seconds.
const SWEEP_EVERY_S: i64 = 60;

/// The file in the data directory.
const FILE: &str = "objects.db";

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// What is kept in one data directory. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
    seal: Seal,
}

impl Store {
    /// Opens the store of a data directory, making both where they are missing. `secret` is the box's.
    ///
    /// # Errors
    /// [`StoreError::NotWritable`], [`StoreError::DiskFull`] and others.
    pub fn open(directory: &Path, secret: &[u8; 32]) -> Result<Self, StoreError> {
        let connection = connect(directory)?;
        // Uploads that the last run did not end.
        connection.execute("DELETE FROM objects WHERE open AND kind = 'file'", [])?;
        Self::start(directory, connection, secret)
    }

    /// Opens the store beside a server that may be at work on it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_beside(directory: &Path, secret: &[u8; 32]) -> Result<Self, StoreError> {
        Self::start(directory, connect(directory)?, secret)
    }

    fn start(directory: &Path, connection: Connection, secret: &[u8; 32]) -> Result<Self, StoreError> {
        let not_writable = |source| StoreError::NotWritable { path: directory.join(FILE), source };
        let (jobs, incoming) = mpsc::channel(JOBS_WAITING_MAX);
        std::thread::Builder::new()
            .name("objects".into())
            .spawn(move || work(connection, incoming))
            .map_err(not_writable)?;
        Ok(Self { jobs, seal: Seal::new(secret) })
    }

    /// What texts are sealed with.
    #[must_use]
    pub fn seal(&self) -> &Seal {
        &self.seal
    }

    /// Does some work in a transaction on the store's own thread, and waits until it is committed.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>, &Seal) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let seal = self.seal.clone();
        let job: Job = Box::new(move |connection| {
            let done = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(StoreError::from)
                .and_then(|transaction| {
                    let outcome = work(&transaction, &seal)?;
                    transaction.commit()?;
                    Ok(outcome)
                });
            let _ = reply.send(done);
        });
        self.jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

/// Takes the file in a data directory, which a newer version of the program shaped, back to what this one knows. Says how
/// many changes were taken back; none where there is nothing to do, or no file.
///
/// # Errors
/// [`StoreError::NoWayBack`] where the file does not say how it is taken back, and others; then nothing is changed.
pub fn downgrade(directory: &Path) -> Result<usize, StoreError> {
    let path = directory.join(FILE);
    if path.exists() { schema::downgrade(&path) } else { Ok(0) }
}

/// Opens the file, making it and its folder where they are missing.
fn connect(directory: &Path) -> Result<Connection, StoreError> {
    let path = directory.join(FILE);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|source| StoreError::NotWritable { path: path.clone(), source })?;
    schema::open(&path)
}

fn work(mut connection: Connection, mut jobs: mpsc::Receiver<Job>) {
    let mut swept_at = 0;
    while let Some(job) = jobs.blocking_recv() {
        let now = now_s();
        if now - swept_at >= SWEEP_EVERY_S {
            swept_at = now;
            if let Err(error) = connection.execute("DELETE FROM objects WHERE expires_at <= ?1", [now]) {
                tracing::warn!("what has had its time could not be deleted: {error}");
            }
        }
        job(&mut connection);
    }
}

pub(crate) fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}
