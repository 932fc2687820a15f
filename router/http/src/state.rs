//! What every handler can reach.

use std::path::PathBuf;
use std::sync::Arc;

use allerac_energy::Accounts;
use allerac_ledger::Ledger;
use allerac_metrics::Metrics;
use allerac_objects::Store;
use allerac_router_core::{Access, Aliases, Limits, NoRoute, Outlook, Registry, Route, Upstreams, route};

use crate::background::Background;
use crate::batch::Batches;
use crate::claim::ClaimGate;
use crate::doors::Doors;
use crate::handlers::streamed::Exports;
use crate::hardware::Look;
use crate::idempotency::InFlight;
use crate::pass::Pass;
use crate::sso::SingleSignOn;

/// What every handler can reach. Clones share it.
#[derive(Debug, Clone)]
pub struct AppState {
    /// People, keys, quotas and usage.
    pub ledger: Ledger,
    /// The models of this box.
    pub registry: Registry,
    /// What models would do that are not here.
    pub outlook: Outlook,
    /// What the box is made of.
    pub look: Look,
    /// What is kept for people.
    pub store: Store,
    /// What runs in the background.
    pub background: Background,
    /// Requests that may come again while they are being answered.
    pub in_flight: InFlight,
    /// Files of what the box has.
    pub exports: Exports,
    /// Batches that are being worked on.
    pub batches: Batches,
    /// Other servers.
    pub upstreams: Arc<Upstreams>,
    /// Other names for models.
    pub aliases: Arc<Aliases>,
    /// Who may claim the box.
    pub claim: Arc<ClaimGate>,
    /// Who may sign in.
    pub doors: Arc<Doors>,
    /// With whom else people sign in.
    pub sso: Option<Arc<SingleSignOn>>,
    /// How many requests run at once.
    pub limits: Limits,
    /// What requests take of the box.
    pub energy: Accounts,
    /// What is measured.
    pub metrics: Metrics,
    /// Opens the metrics to the commands of this box.
    pub pass: Pass,
    /// Opens what has to do with the graphics processor to them.
    pub gpu_pass: Pass,
    /// The box's name on the network.
    pub name: String,
    /// The file in which a box of the image says which version of the system runs.
    pub system_status: Option<PathBuf>,
    /// Where the steward of a box of the image listens.
    pub steward: Option<PathBuf>,
    /// The certificate (X.509, DER) of the box's own authority, where it serves HTTPS with one.
    pub authority: Option<Arc<[u8]>>,
}

impl AppState {
    /// Where a request for a model is computed, by the name that the client has for it.
    pub(crate) fn route(&self, asked: &str, access: &impl Access) -> Result<Route<'_>, NoRoute> {
        let model = self.aliases.model(asked, &self.registry, &self.upstreams);
        route(&model, &self.registry, &self.upstreams, access)
    }
}
