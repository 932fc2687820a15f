//! Downloads of models while the server runs. One that was ordered goes on without whoever ordered it, until it is through,
//! has failed or is cancelled; a server that was stopped takes it up again. Whoever wants to know looks on.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use allerac_models::{Catalogue, Entry, ModelsError, Order, Progress, Reference};
use tokio::sync::{Notify, watch};

use crate::registry::Registry;

/// How soon a download is tried again that another process is at.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// Downloads at once: more would only share the line.
const RUNNING_MAX: usize = 8;
/// Downloads that ended and can still be looked at.
const ENDED_MAX: usize = 16;

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
    /// Somebody cancelled it. What came is kept for the next time.
    Cancelled,
}

/// The downloads that run, and the last that ended, in the order in which they began.
#[derive(Debug, Clone, Default)]
pub struct Pulls(Arc<Mutex<Vec<Running>>>);

/// There are too many downloads for one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{RUNNING_MAX} models are being fetched already; wait for one of them, or cancel one")]
pub struct TooManyPulls;

#[derive(Debug)]
struct Running {
    id: String,
    told: Arc<watch::Sender<Pulling>>,
    /// Tells it to end.
    cancel: Arc<Notify>,
}

/// Somebody who looks on at a download.
#[derive(Debug)]
pub struct Pull(watch::Receiver<Pulling>);

impl Pulling {
    /// Whether nothing follows.
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Done | Self::Failed(_) | Self::Cancelled)
    }
}

impl Running {
    fn has_ended(&self) -> bool {
        self.told.borrow().is_last()
    }
}

/// What is to be fetched.
#[derive(Debug)]
enum What {
    Known(Box<Entry>),
    /// A model of a hub, which is to be asked first.
    Named(Reference),
}

impl Pulls {
    /// Fetches a model, or joins those for whom it is being fetched. `name` is what it was ordered by.
    ///
    /// # Errors
    /// [`TooManyPulls`].
    pub fn join(&self, registry: &Registry, name: &str, entry: Entry) -> Result<Pull, TooManyPulls> {
        let order = Order { id: entry.id.clone(), name: name.to_owned() };
        self.start(registry, order, What::Known(Box::new(entry)))
    }

    /// Goes on with what was ordered before the server ended.
    pub fn resume(&self, registry: &Registry) {
        let orders = registry.store().orders().unwrap_or_else(|error| {
            tracing::warn!("downloads do not go on: {error}");
            Vec::new()
        });
        for order in orders {
            let known = Catalogue::builtin().order(&order.name).map(|entry| What::Known(Box::new(entry)));
            let Some(what) = known.or_else(|| order.name.parse().ok().map(What::Named)) else {
                tracing::warn!("{} is not fetched: nothing has this name any more", order.name);
                continue;
            };
            tracing::info!(model = order.id, "its download goes on");
            if let Err(error) = self.start(registry, order, what) {
                tracing::warn!("{error}");
            }
        }
    }

    fn start(&self, registry: &Registry, order: Order, what: What) -> Result<Pull, TooManyPulls> {
        let mut all = self.lock();
        if let Some(one) = all.iter().find(|one| one.id == order.id && !one.has_ended()) {
            return Ok(Pull(one.told.subscribe()));
        }
        if all.iter().filter(|one| !one.has_ended()).count() >= RUNNING_MAX {
            return Err(TooManyPulls);
        }
        all.retain(|one| one.id != order.id);
        let ended = all.iter().filter(|one| one.has_ended()).count();
        if let Some(oldest) = all.iter().position(Running::has_ended).filter(|_| ended >= ENDED_MAX) {
            all.remove(oldest);
        }
        let (told, progress) = watch::channel(Pulling::Beginning);
        let (id, told) = (order.id.clone(), Arc::new(told));
        let cancel = Arc::new(Notify::new());
        let download = run(registry.clone(), order, what, Arc::clone(&told), Arc::clone(&cancel));
        tokio::spawn(attend(download, Arc::clone(&told)));
        all.push(Running { id, told, cancel });
        Ok(Pull(progress))
    }

    /// All of them, each with how far it is.
    #[must_use]
    pub fn list(&self) -> Vec<(String, Pulling)> {
        self.lock().iter().map(|one| (one.id.clone(), one.told.borrow().clone())).collect()
    }

    /// Ends a download; what came is kept for the next time. `false` where none of this model runs.
    pub async fn cancel(&self, id: &str) -> bool {
        let mut progress = {
            let all = self.lock();
            let Some(one) = all.iter().find(|one| one.id == id && !one.has_ended()) else { return false };
            one.cancel.notify_one();
            one.told.subscribe()
        };
        let end = progress.wait_for(Pulling::is_last).await;
        end.is_ok_and(|end| matches!(*end, Pulling::Cancelled))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Running>> {
        self.0.lock().expect("no code panics while it holds the downloads")
    }
}

impl Pull {
    /// How far it is now.
    pub fn now(&mut self) -> Pulling {
        self.0.borrow_and_update().clone()
    }

    /// Waits until it is further.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() && !self.0.borrow().is_last() {
            // Its task is gone without a word, which only the end of the program does; there is nothing to wait for.
            std::future::pending::<()>().await;
        }
    }
}

/// Lets a download run, and tells its end where it cannot: one that panicked would be waited for without end, by whoever
/// looks on and whoever cancels it, and take a place among those that run.
async fn attend(download: impl Future<Output = ()> + Send + 'static, told: Arc<watch::Sender<Pulling>>) {
    if let Err(error) = tokio::spawn(download).await {
        tracing::error!("a download ended badly: {error}");
        told.send_replace(Pulling::Failed(Arc::new(ModelsError::Download(error.to_string()))));
    }
}

async fn run(registry: Registry, order: Order, what: What, told: Arc<watch::Sender<Pulling>>, cancel: Arc<Notify>) {
    let end = match remember(&registry, &order).await {
        Ok(()) => tokio::select! {
            fetched = fetch(&registry, what, &told) => fetched.map(|()| Pulling::Done),
            () = cancel.notified() => Ok(Pulling::Cancelled),
        },
        Err(error) => Err(error),
    };
    // What the network is to blame for is tried again at the next start.
    if !matches!(end, Err(ModelsError::Download(_))) {
        // It is told last, so that who hears of it finds it in the list of models, and nothing is fetched again.
        settle(&registry, &order.id).await;
    }
    told.send_replace(end.unwrap_or_else(|error| {
        tracing::warn!(model = order.id, "not fetched: {error}");
        Pulling::Failed(Arc::new(error))
    }));
}

async fn fetch(registry: &Registry, what: What, told: &watch::Sender<Pulling>) -> Result<(), ModelsError> {
    let entry = match what {
        What::Known(entry) => *entry,
        What::Named(reference) => registry.store().find(&reference).await?,
    };
    loop {
        let tell = |progress| drop(told.send_replace(Pulling::Fetching(progress)));
        match registry.store().pull(&entry, tell).await {
            Err(ModelsError::Busy(_)) => {
                told.send_replace(Pulling::Elsewhere);
                tokio::time::sleep(TRY_AGAIN).await;
            }
            Err(error) => return Err(error),
            Ok(_) => return registry.refresh().await,
        }
    }
}

async fn remember(registry: &Registry, order: &Order) -> Result<(), ModelsError> {
    let (store, order) = (registry.store().clone(), order.clone());
    let written = tokio::task::spawn_blocking(move || store.remember(&order)).await;
    written.map_err(|error| ModelsError::Download(error.to_string()))?
}

async fn settle(registry: &Registry, id: &str) {
    let (store, owned) = (registry.store().clone(), id.to_owned());
    let removed = tokio::task::spawn_blocking(move || store.settle(&owned)).await;
    if let Ok(Err(error)) = removed {
        tracing::warn!(model = id, "its order is not forgotten: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_download_that_panics_has_ended_for_all_who_wait() {
        let (told, progress) = watch::channel(Pulling::Beginning);
        let told = Arc::new(told);
        let pulls = Pulls::default();
        pulls.lock().push(Running { id: "a".into(), told: Arc::clone(&told), cancel: Arc::default() });
        let cancelled = tokio::spawn({
            let pulls = pulls.clone();
            async move { pulls.cancel("a").await }
        });
        // It is being waited for when the task goes.
        tokio::task::yield_now().await;
        attend(async { panic!("told to") }, told).await;
        assert!(!cancelled.await.unwrap());
        assert!(matches!(Pull(progress).now(), Pulling::Failed(_)));
        assert!(!pulls.cancel("a").await);
    }
}
