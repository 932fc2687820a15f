//! Accounts for the energy of requests while the server runs.

use std::env;

use allerac_energy::{Accounts, Keeper, Tariff};
use allerac_hardware::{Energy, Tree};
use allerac_ledger::{EnergySources, Ledger, LedgerError};
use allerac_metrics::Metrics;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Another root of `/sys` than the machine's own: recordings, and trees that tests advance.
const ROOT: &str = "ALLERAC_ENERGY_ROOT";

/// The task that keeps the accounts.
pub(super) struct Accountant {
    pub(super) accounts: Accounts,
    end: CancellationToken,
    task: JoinHandle<()>,
}

impl Accountant {
    /// Begins to measure, and leaves in the books what of this machine is measured.
    pub(super) async fn start(ledger: &Ledger, metrics: &Metrics, tariff: Tariff) -> Result<Self, LedgerError> {
        let tree = env::var_os(ROOT).map_or_else(Tree::default, Tree::new);
        let mut energy = Energy::find(tree);
        let sources = EnergySources { counters: energy.names(), unreadable: energy.unreadable().to_vec() };
        if let Some(path) = sources.unreadable.first() {
            tracing::warn!("{path} may not be read by this user: its energy is not counted; see docs/usage.md");
        }
        ledger.keep_energy_sources(&sources).await?;
        let (accounts, end) = (Accounts::default(), CancellationToken::new());
        let counter = Box::new(move |elapsed| energy.read(elapsed));
        let keeper = Keeper::new(accounts.clone(), (ledger.clone(), metrics.clone()), counter, tariff);
        let task = tokio::spawn(keeper.run(end.clone()));
        Ok(Self { accounts, end, task })
    }

    /// Writes down what is known.
    pub(super) async fn close(self) {
        self.end.cancel();
        if let Err(error) = self.task.await {
            tracing::warn!("energy of the last requests is not in the books: {error}");
        }
    }
}
