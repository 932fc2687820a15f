//! Batches: many requests in one file, answered while nobody else waits.
//!
//! One task works on one batch and is the only one to change it. Each answer is kept under its line's number before the
//! next one is begun in its place; what a crash leaves is begun again, under the same name in the ledger, so that each
//! line is answered once and charged once.

mod input;
mod line;
mod output;
mod record;
mod runner;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use allerac_objects::{Kind, Store};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::error::ApiError;
use crate::state::AppState;
pub(crate) use record::Record;

/// Lines that are answered at once on the whole box: enough to fill an engine's batch, few enough to leave it to others.
const LINES_AT_ONCE: usize = 4;
/// Batches that one person may have open. Each is a task with an index of its lines.
const PERSON_MAX: usize = 16;

/// The batches that are being worked on. Clones share them.
#[derive(Debug, Clone)]
pub struct Batches {
    running: Arc<Mutex<All>>,
    /// Places for lines, given in the order in which batches ask, so that each gets its turn.
    places: Arc<Semaphore>,
}

type All = HashMap<(u64, String), Arc<Running>>;

impl Default for Batches {
    fn default() -> Self {
        Self { running: Arc::default(), places: Arc::new(Semaphore::new(LINES_AT_ONCE)) }
    }
}

/// A batch that is being worked on.
#[derive(Debug)]
pub(crate) struct Running {
    cancel: CancellationToken,
    /// Nobody works on it any more.
    left: CancellationToken,
    /// As it stands.
    record: watch::Sender<Record>,
}

impl Batches {
    /// Begins to work on a batch that was kept.
    pub(crate) fn begin(&self, state: &AppState, owner: u64, record: Record) -> Result<(), ApiError> {
        let id = record.id.clone();
        let running = {
            let mut all = self.all();
            if all.keys().filter(|(other, _)| *other == owner).count() >= PERSON_MAX {
                return Err(ApiError::too_many_requests());
            }
            let (cancel, left) = (CancellationToken::new(), CancellationToken::new());
            let running = Running { cancel, left, record: watch::Sender::new(record) };
            let running = Arc::new(running);
            all.insert((owner, id.clone()), Arc::clone(&running));
            running
        };
        let (state, batches) = (state.clone(), self.clone());
        tokio::spawn(async move {
            runner::run(&state, owner, &running).await;
            batches.all().remove(&(owner, id));
            running.left.cancel();
        });
        Ok(())
    }

    /// Goes on with what the last run left.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn resume(&self, state: &AppState) -> Result<(), allerac_objects::StoreError> {
        for object in state.store.open_objects(Kind::Batch).await? {
            let Ok(record) = serde_json::from_slice::<Record>(&object.head) else { continue };
            tracing::info!(batch = %record.id, "going on with a batch");
            if let Err(error) = self.begin(state, object.owner, record) {
                tracing::error!("a batch is not gone on with: {}", error.message);
            }
        }
        Ok(())
    }

    /// How a batch of somebody's stands.
    pub(crate) async fn find(&self, store: &Store, owner: u64, id: &str) -> Result<Record, ApiError> {
        let running = self.running(owner, id).map(|running| running.record.borrow().clone());
        if let Some(record) = running {
            return Ok(record);
        }
        let object = store.get(Kind::Batch, owner, id).await?;
        let record = object.and_then(|object| serde_json::from_slice(&object.head).ok());
        record.ok_or_else(|| ApiError::not_kept("batch", id))
    }

    /// Ends a batch, where it has not ended, once that is kept.
    pub(crate) async fn cancel(&self, store: &Store, owner: u64, id: &str) -> Result<Record, ApiError> {
        if let Some(running) = self.running(owner, id) {
            running.cancel.cancel();
            let mut record = running.record.subscribe();
            tokio::select! {
                _ = record.wait_for(Record::is_ending) => {}
                // The store failed; what is kept says how far it came.
                () = running.left.cancelled() => {}
            }
        }
        self.find(store, owner, id).await
    }

    fn running(&self, owner: u64, id: &str) -> Option<Arc<Running>> {
        self.all().get(&(owner, id.to_owned())).cloned()
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.running.lock().expect("no code panics while it holds the list")
    }
}
