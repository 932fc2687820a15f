//! Keeps chat completions that want to be kept.

use allerac_objects::{New, Store};
use allerac_wire::CompletionUsage;
use tokio::sync::mpsc;

use super::collect::{Collected, Collector};
use crate::progress::Progress;
use crate::sse;

/// Parts of an answer that may wait for the client.
const PROGRESS_WAITING_MAX: usize = 64;

/// Makes an object of an answer.
type Build = Box<dyn FnOnce(Vec<Collected>, CompletionUsage) -> New + Send>;

/// Keeps one answer.
pub(crate) struct Keeper {
    pub(crate) store: Store,
    pub(crate) owner: u64,
    /// What its owner may keep in all.
    pub(crate) bytes_max: Option<u64>,
    pub(crate) build: Build,
}

impl Keeper {
    /// Passes an answer on, and keeps it before its end is told.
    pub(crate) fn follow(self, mut lane: mpsc::Receiver<Progress>, choices: usize) -> mpsc::Receiver<Progress> {
        let (sender, receiver) = mpsc::channel(PROGRESS_WAITING_MAX);
        tokio::spawn(async move {
            let mut collector = Collector::new(choices);
            loop {
                let progress = tokio::select! {
                    progress = lane.recv() => progress,
                    // Dropping the lane ends the request.
                    () = sender.closed() => return,
                };
                let Some(progress) = progress else { return };
                if let Some(end) = collector.push(progress.clone()) {
                    let kept = match end {
                        Ok(usage) => self.keep(collector, usage).await,
                        Err(_) => Ok(()),
                    };
                    let last = kept.map_or_else(|error| Progress::Failed(error.into()), |()| progress);
                    sse::deliver(&sender, last).await;
                    return;
                }
                if !sse::deliver(&sender, progress).await {
                    return;
                }
            }
        });
        receiver
    }

    async fn keep(self, collector: Collector, usage: CompletionUsage) -> Result<(), allerac_objects::StoreError> {
        let new = (self.build)(collector.into_choices(), usage);
        self.store.put_within(New { owner: self.owner, ..new }, self.bytes_max).await
    }
}
