//! Downloads of models while the server runs. Whoever wants a model that is being fetched joins; when the last who wants
//! it has left, it ends, and what was fetched is taken up the next time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use allerac_models::{Entry, ModelsError, Progress};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::registry::Registry;

/// How soon a download is tried again that another process is at.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// How far a download is.
#[derive(Debug, Clone)]
pub enum Pulling {
    /// It begins.
    Beginning,
    /// Another process fetches it.
    Elsewhere,
    /// It is being fetched; once all is there it is compared with its digest.
    Fetching(Progress),
    /// The model is installed and can be used.
    Done,
    /// It is not.
    Failed(Arc<ModelsError>),
}

/// The downloads that run.
#[derive(Debug, Clone, Default)]
pub struct Pulls(Arc<Mutex<HashMap<String, Weak<Running>>>>);

/// A download, for as long as somebody wants it.
#[derive(Debug)]
struct Running {
    progress: watch::Receiver<Pulling>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Somebody who wants a download. Dropping it leaves.
#[derive(Debug)]
pub struct Pull {
    _running: Arc<Running>,
    progress: watch::Receiver<Pulling>,
}

impl Pulling {
    /// Whether nothing follows.
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Done | Self::Failed(_))
    }
}

impl Pulls {
    /// Fetches a model, or joins those for whom it is being fetched.
    #[must_use]
    pub fn join(&self, registry: &Registry, entry: Entry) -> Pull {
        let mut running = self.0.lock().expect("no code panics while it holds the downloads");
        running.retain(|_, one| one.strong_count() > 0);
        if let Some(one) = running.get(&entry.id).and_then(Weak::upgrade).filter(|one| !one.progress.borrow().is_last())
        {
            return Pull { progress: one.progress.clone(), _running: one };
        }
        let id = entry.id.clone();
        let (sender, progress) = watch::channel(Pulling::Beginning);
        let task = tokio::spawn(fetch(registry.clone(), entry, sender)).abort_handle();
        let one = Arc::new(Running { progress: progress.clone(), task });
        running.insert(id, Arc::downgrade(&one));
        Pull { progress, _running: one }
    }
}

impl Pull {
    /// How far it is now.
    pub fn now(&mut self) -> Pulling {
        self.progress.borrow_and_update().clone()
    }

    /// Waits until it is further.
    pub async fn changed(&mut self) {
        if self.progress.changed().await.is_err() && !self.progress.borrow().is_last() {
            // Its task is gone without a word, which only a panic does; there is nothing to wait for.
            std::future::pending::<()>().await;
        }
    }
}

async fn fetch(registry: Registry, entry: Entry, told: watch::Sender<Pulling>) {
    let fetched = loop {
        let fetched =
            registry.store().pull(&entry, |progress| drop(told.send_replace(Pulling::Fetching(progress)))).await;
        match fetched {
            Err(ModelsError::Busy(_)) => {
                told.send_replace(Pulling::Elsewhere);
                tokio::time::sleep(TRY_AGAIN).await;
            }
            fetched => break fetched,
        }
    };
    let last = match fetched {
        Ok(_) => registry.refresh().await,
        Err(error) => Err(error),
    };
    told.send_replace(match last {
        Ok(()) => Pulling::Done,
        Err(error) => {
            tracing::warn!(model = entry.id, "not fetched: {error}");
            Pulling::Failed(Arc::new(error))
        }
    });
}
