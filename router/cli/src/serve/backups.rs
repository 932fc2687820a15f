//! Backups that are made by themselves, while the server runs.

use std::path::PathBuf;
use std::time::Duration;

use allerac_backup::{Name, Stored};
use allerac_ledger::Ledger;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::commands::backup::{Source, keep_one};
use crate::config::Schedule;
use crate::failure::Failure;
use crate::output::bytes;

/// How long is waited after a start before the first backup: what starts has other things to do.
const FIRST_AFTER: Duration = Duration::from_secs(5);
/// How often the clock is looked at: it may jump.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// The first wait after one that failed; each next is twice as long, up to what is usual between two.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// What became of the last backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BackupOutcome {
    pub(crate) at: Timestamp,
    /// Its name; `None` where there is none.
    pub(crate) name: Option<String>,
    /// Why there is none.
    pub(crate) error: Option<String>,
}

/// Makes backups as long as it runs.
pub(crate) struct Backups {
    pub(crate) schedule: Schedule,
    pub(crate) data_dir: PathBuf,
    pub(crate) ledger: Ledger,
    pub(crate) name: String,
}

impl Backups {
    pub(crate) async fn run(self) {
        tokio::time::sleep(FIRST_AFTER).await;
        let mut failures: u32 = 0;
        let mut due = self.due().await;
        loop {
            if Timestamp::now() < due {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
            let now = Timestamp::now();
            let made = self.make(now).await;
            due = match &made {
                Ok(_) => now + self.every(),
                Err(_) => now + self.retry(failures),
            };
            failures = if made.is_ok() { 0 } else { failures.saturating_add(1) };
            self.remember(now, made).await;
        }
    }

    fn every(&self) -> jiff::SignedDuration {
        jiff::SignedDuration::try_from(self.schedule.every).unwrap_or(jiff::SignedDuration::MAX)
    }

    fn retry(&self, failures: u32) -> jiff::SignedDuration {
        let wait = RETRY_AFTER.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(self.schedule.every);
        jiff::SignedDuration::try_from(wait).unwrap_or(jiff::SignedDuration::MAX)
    }

    /// When the next one is due: a while after the newest that is there.
    async fn due(&self) -> Timestamp {
        match self.own().await {
            Ok(stored) => stored
                .last()
                .and_then(|newest| newest.name.made_at.checked_add(self.every()).ok())
                .unwrap_or_else(Timestamp::now)
                // A newest from the future says that the clock was wrong then.
                .min(Timestamp::now() + self.every()),
            Err(_) => Timestamp::now(),
        }
    }

    /// The backups of this box, oldest first.
    async fn own(&self) -> Result<Vec<Stored>, Failure> {
        let mut stored = self.schedule.target.list().await?;
        stored.retain(|one| one.name.of == self.name);
        stored.sort_by_key(|one| one.name.made_at);
        Ok(stored)
    }

    async fn make(&self, now: Timestamp) -> Result<Name, Failure> {
        let source =
            Source { data_dir: self.data_dir.clone(), ledger: self.ledger.clone(), name: self.name.clone(), now };
        let target = &self.schedule.target;
        let (made, name) = keep_one(target, source, self.schedule.lock.clone()).await?;
        tracing::info!(place = target.describe(), name = %name, size = bytes(made.bytes), "made a backup");
        let names: Vec<Name> = self.own().await?.into_iter().map(|one| one.name).collect();
        let zone = self.ledger.time_zone();
        for outdated in self.schedule.keep.outdated(&names, &zone) {
            target.delete(&outdated).await?;
            tracing::info!(name = %outdated, "deleted an old backup");
        }
        Ok(name)
    }

    async fn remember(&self, at: Timestamp, made: Result<Name, Failure>) {
        let outcome = match made {
            Ok(name) => BackupOutcome { at, name: Some(name.to_string()), error: None },
            Err(failure) => {
                let (message, hint) = failure.into_parts();
                tracing::error!(hint, "no backup could be made: {message}");
                let place = self.schedule.target.describe();
                let detail = serde_json::json!({"place": place, "error": message});
                super::watch::tell(&self.ledger, "backup.failed", "", detail).await;
                BackupOutcome { at, name: None, error: Some(message) }
            }
        };
        let text = serde_json::to_string(&outcome).expect("the outcome is plain data");
        if let Err(error) = self.ledger.keep_backup_outcome(text).await {
            tracing::warn!("what became of the backup could not be noted: {error}");
        }
    }
}
