//! Looks after what the box cannot mend by itself, and has somebody told.

use std::path::PathBuf;
use std::time::Duration;

use allerac_engine_link::EngineStatus;
use allerac_ledger::Ledger;
use allerac_router_core::Registry;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::place::free_bytes;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Looks for as long as it runs.
pub(crate) struct Watch {
    pub(crate) data_dir: PathBuf,
    pub(crate) ledger: Ledger,
    pub(crate) registry: Registry,
    pub(crate) disk_free_bytes: u64,
}

impl Watch {
    pub(crate) async fn run(self) {
        loop {
            self.look().await;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self) {
        if let Ok(free) = free_bytes(&self.data_dir)
            && free < self.disk_free_bytes
        {
            let detail = json!({"free_bytes": free, "below_bytes": self.disk_free_bytes});
            tell(&self.ledger, "disk.low", "", detail).await;
        }
        for state in self.registry.engines() {
            if let Some(EngineStatus::Failed { reason }) = state.status {
                let model = &state.model.id;
                tell(&self.ledger, "model.failed", model, json!({"model": model, "reason": reason})).await;
            }
        }
    }
}

/// Tells of something at most once a day.
pub(crate) async fn tell(ledger: &Ledger, kind: &'static str, of: &str, detail: Value) {
    let day = Timestamp::now().to_zoned(ledger.time_zone()).strftime("%Y-%m-%d").to_string();
    if let Err(error) = ledger.alert(kind, Some(format!("{kind} {of} {day}")), detail).await {
        tracing::warn!(kind, "an alert could not be written down: {error}");
    }
}
