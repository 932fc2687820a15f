//! Announces the box on the network, and remembers the name that it got.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use allerac_discovery::{AdvertiseConfig, Advertiser, Label, Scope, State};
use allerac_ledger::Ledger;
use tokio::task::JoinHandle;

use crate::output::print_line;

/// How soon after its claim the box announces its API. One indexed read each time, and none once it is claimed.
const CLAIM_CHECK_EVERY: Duration = Duration::from_secs(1);

/// The announcement of a running server.
pub(crate) struct Announcement {
    advertiser: Advertiser,
    follower: JoinHandle<()>,
}

impl Announcement {
    /// Starts announcing; `None` when the server listens on a loopback address, which nobody else can reach.
    pub(crate) fn start(listen: SocketAddr, configured: &Label, data_dir: &Path, ledger: &Ledger) -> Option<Self> {
        let scope = Scope::of(listen)?;
        let memory = NameMemory { path: data_dir.join("mdns-name"), configured: configured.clone() };
        let label = memory.recall();
        let claimed = ledger.is_claimed().unwrap_or(false);
        let advertiser = Advertiser::start(AdvertiseConfig { label, port: listen.port(), scope, claimed });
        let follower = tokio::spawn(follow(advertiser.state(), memory, listen.port()));
        Some(Self { advertiser, follower })
    }

    /// Announces the API too, once the box has an owner. Ends then.
    pub(crate) async fn follow_claim(&self, ledger: &Ledger) {
        while !matches!(ledger.is_claimed(), Ok(true)) {
            tokio::time::sleep(CLAIM_CHECK_EVERY).await;
        }
        self.advertiser.set_claimed();
    }

    /// Withdraws it.
    pub(crate) async fn stop(self) {
        self.follower.abort();
        self.advertiser.shutdown().await;
    }
}

/// Tells and remembers each name that the box gets.
async fn follow(mut state: tokio::sync::watch::Receiver<State>, memory: NameMemory, port: u16) {
    loop {
        let now = state.borrow_and_update().clone();
        if let State::Announced(label) = now {
            tracing::info!(name = %label, "announced on the network");
            let _ = print_line(&format!("{:<15} http://{}:{port}", "On the network", label.host()));
            if label != memory.configured {
                tracing::warn!(wanted = %memory.configured, got = %label, "another machine has the wanted name");
            }
            memory.keep(&label);
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

/// RFC 6762 section 9: a host keeps the name it chose, so that it does not change at each start.
struct NameMemory {
    path: PathBuf,
    configured: Label,
}

impl NameMemory {
    /// The name of the last run, when the same one was wanted then.
    fn recall(&self) -> Label {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        let mut lines = text.lines();
        let same = lines.next() == Some(self.configured.as_str());
        let kept = lines.next().filter(|_| same).and_then(|name| Label::new(name).ok());
        kept.unwrap_or_else(|| self.configured.clone())
    }

    fn keep(&self, label: &Label) {
        if *label == self.recall() {
            return;
        }
        if let Err(error) = fs::write(&self.path, format!("{}\n{label}\n", self.configured)) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remember the name on the network");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_until_another_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let label = |name: &str| Label::new(name).unwrap();
        let memory = |name: &str| NameMemory { path: folder.path().join("mdns-name"), configured: label(name) };
        assert_eq!(memory("allerac").recall(), label("allerac"));
        memory("allerac").keep(&label("allerac-2"));
        assert_eq!(memory("allerac").recall(), label("allerac-2"));
        assert_eq!(memory("library").recall(), label("library"));
    }
}
