//! What tasks beside the keeper tell it.

use std::sync::Arc;

use allerac_engine_link::EngineStatus;
use tokio::sync::{mpsc, watch};

use super::keeper::Command;
use super::terms::Key;

/// Tells the keeper what becomes of an engine, until it has ended or failed.
pub(super) async fn load(mut status: watch::Receiver<EngineStatus>, key: Key, lane: mpsc::WeakSender<Command>) {
    loop {
        let now = status.borrow_and_update().clone();
        match now {
            EngineStatus::Ready(_) => tell(&lane, Command::Loaded(Arc::clone(&key))).await,
            EngineStatus::Failed { reason } => return tell(&lane, Command::Failed(key, reason)).await,
            EngineStatus::Stopped => return,
            EngineStatus::Loading { .. } | EngineStatus::Restarting { .. } => {}
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}

/// Tells the keeper, where it is still there.
pub(super) async fn tell(lane: &mpsc::WeakSender<Command>, command: Command) {
    if let Some(lane) = lane.upgrade() {
        // Where the keeper is gone, so is all that it would do.
        let _ = lane.send(command).await;
    }
}
