//! `allerac serve`: opens everything in an order that fails early, serves, and closes in the reverse order.

mod announce;
pub(crate) mod backups;
mod banner;
mod energy;
pub(crate) mod listen;
mod machine;
pub(crate) mod secure;
pub(crate) mod stop;
mod watch;

use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use allerac_alerts::{Channel, Sender};
use allerac_http::{AppState, Background, Batches, ClaimGate, Doors, InFlight, Pass, Port, SingleSignOn};
use allerac_ledger::{Ledger, ServeLock};
use allerac_metrics::Metrics;
use allerac_objects::Store;
use allerac_router_core::{Aliases, Registry, Upstreams};
use allerac_tls::Authority;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::args::{Place, Serve};
use crate::commands::models::models_failure;
use crate::config::{OidcSection, Schedule};
use crate::failure::Failure;
use crate::output::print_line;
use crate::place;
use crate::setup::Prepared;
use announce::Announcement;
use backups::Backups;
use banner::Banner;
use energy::Accountant;
use secure::Secure;
use stop::{CLOSE_WAIT, Signals};
use watch::Watch;

/// The file in the runtime directory that the screen reads the claim code from.
const CLAIM_CODE: &str = "claim-code";

/// Everything a running server holds.
struct Server {
    /// Released last: while it is held, no other server touches the data.
    _lock: ServeLock,
    data_dir: PathBuf,
    ledger: Ledger,
    prepared: Prepared,
    registry: Registry,
    upstreams: Arc<Upstreams>,
    schedule: Option<Schedule>,
    channels: Vec<Channel>,
    store: Store,
    passes: (Pass, Pass),
    doors: Arc<Doors>,
    sso: Option<Arc<SingleSignOn>>,
    listener: TcpListener,
    address: SocketAddr,
    system_status: Option<PathBuf>,
    steward: Option<PathBuf>,
    secure: Option<Secure>,
}

pub(crate) async fn run(args: &Serve, place: &Place) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let server = open(args, place).await?;
    server.serve(&mut signals).await
}

async fn open(args: &Serve, place: &Place) -> Result<Server, Failure> {
    let data_dir = place.data_dir()?;
    let prepared = Prepared::new(&args.setup, &data_dir)?;
    let upstreams = Arc::new(prepared.config.upstreams()?);
    place::prepare(&data_dir)?;
    let currency = prepared.config.currency()?;
    let channels = prepared.config.alerts.channels(prepared.config.folder())?;
    let sso = prepared.config.oidc.as_ref().map(|oidc| oidc.open(prepared.config.folder())).transpose()?.map(Arc::new);
    let schedule = prepared.config.backup.schedule(prepared.config.folder())?;
    place::finish_restore(&data_dir)?;
    let lock = ServeLock::acquire(&data_dir)?;
    let wanted = args.listen.or(prepared.config.listen).unwrap_or(listen::DEFAULT);
    let listener = listen::bind(wanted).await?;
    let address = listener.local_addr().map_err(|error| listen::refused(wanted, &error))?;
    let secure = Secure::open(args.listen_tls, &prepared.config, &data_dir).await?;
    let zone = place.time_zone.clone().or_else(|| prepared.config.time_zone.clone());
    let is_told = zone.is_some();
    let ledger = Ledger::open_with(&data_dir, zone.unwrap_or_else(|| place.time_zone()), place.options()?)?;
    if is_told {
        ledger.keep_time_zone().await?;
    }
    ledger.alert_at(&prepared.config.alerts.percents()).await?;
    ledger.set_prices(&prepared.config.prices(), &currency).await?;
    ledger.set_upstream_budgets(&prepared.config.upstream_budgets()).await?;
    ledger.set_machines(&prepared.config.machines()).await?;
    if let Some(plan) = prepared.config.oidc.as_ref().and_then(OidcSection::plan) {
        ledger.plan(plan)?;
    }
    let recovered = ledger.recover().await?;
    if recovered.charged + recovered.released > 0 {
        tracing::warn!(
            charged = recovered.charged,
            released = recovered.released,
            "settled requests that the last run left open"
        );
    }
    let kv = crate::secret::kv_folder(&data_dir, &prepared.digests())?;
    let registry = prepared.registry_config(&data_dir, kv, place.time_zone())?;
    let registry = Registry::open(registry).map_err(|error| models_failure(&error))?;
    let secret = crate::secret::secret(&data_dir)?;
    let passes = (Pass::to_metrics(&secret), Pass::to_gpu(&secret));
    let doors = Arc::new(Doors::new(&secret));
    let store = Store::open(&data_dir, &secret)?;
    let (system_status, steward) = (args.system_status.clone(), args.steward.clone());
    Ok(Server {
        _lock: lock,
        data_dir,
        ledger,
        prepared,
        registry,
        upstreams,
        schedule,
        channels,
        store,
        passes,
        doors,
        sso,
        listener,
        address,
        secure,
        system_status,
        steward,
    })
}

impl Server {
    async fn serve(mut self, signals: &mut Signals) -> Result<(), Failure> {
        self.registry.warm();
        self.registry.pulls().resume(&self.registry);
        let registry = self.registry.clone();
        let follower = tokio::spawn(async move { registry.follow().await });
        let label = self.prepared.config.label();
        let mut helpers = JoinSet::new();
        let watch = Watch {
            data_dir: self.data_dir.clone(),
            ledger: self.ledger.clone(),
            registry: self.registry.clone(),
            disk_free_bytes: self.prepared.config.alerts.disk_free_bytes(),
        };
        if !self.channels.is_empty() {
            helpers.spawn(watch.run());
            helpers
                .spawn(Sender::new(self.ledger.clone(), std::mem::take(&mut self.channels), label.to_string()).run());
        }
        if let Some(schedule) = self.schedule.clone() {
            let (data_dir, ledger, name) = (self.data_dir.clone(), self.ledger.clone(), label.to_string());
            helpers.spawn(Backups { schedule, data_dir, ledger, name }.run());
        }
        let announcement = if self.prepared.config.mdns.enabled {
            Announcement::start(self.address, &label, &self.data_dir, &self.ledger)
        } else {
            None
        };
        let metrics = Metrics::default();
        let accountant = Accountant::start(&self.ledger, &metrics, self.prepared.config.energy.tariff()).await?;
        let (gate, code) = ClaimGate::new();
        let limits = allerac_http::limits(&self.ledger);
        let state = AppState {
            exports: allerac_http::Exports::default(),
            ledger: self.ledger.clone(),
            registry: self.registry.clone(),
            outlook: machine::outlook(&self.prepared),
            look: machine::look(&self.prepared),
            store: self.store.clone(),
            background: Background::default(),
            batches: Batches::default(),
            in_flight: InFlight::default(),
            upstreams: Arc::clone(&self.upstreams),
            aliases: Arc::new(self.aliases()),
            claim: Arc::new(gate),
            doors: Arc::clone(&self.doors),
            sso: self.sso.clone(),
            limits: limits.clone(),
            energy: accountant.accounts.clone(),
            metrics,
            pass: self.passes.0.clone(),
            gpu_pass: self.passes.1.clone(),
            name: label.to_string(),
            system_status: self.system_status.clone(),
            steward: self.steward.clone(),
            authority: self.authority().map(|authority| authority.certificate().into()),
        };
        state.batches.resume(&state).await?;
        allerac_http::resume_responses(&state).await?;
        let background = state.background.clone();
        self.tell(&code)?;

        let stop = CancellationToken::new();
        let app = allerac_http::app(state);
        let (secured, keeper) = self.secure.map(Secure::start).transpose()?.unzip();
        let ports = [Some(Port::plain(self.listener)), secured].into_iter().flatten();
        let serving =
            futures_util::future::join_all(ports.map(|port| port.serve(app.clone(), stop.clone().cancelled_owned())));
        tokio::pin!(serving);
        let claimed = async {
            if let Some(announcement) = &announcement {
                announcement.follow_claim(&self.ledger).await;
            }
            std::future::pending::<()>().await;
        };
        notify_ready();
        tokio::select! {
            _ = &mut serving => {}
            signal = signals.next() => {
                tracing::info!(signal, "stopping; a second signal stops at once");
                notify_stopping();
                stop.cancel();
                background.stop();
                tokio::select! {
                    // It bounds by itself how long running answers may take.
                    _ = &mut serving => {}
                    _ = signals.next() => return Ok(()),
                }
            }
            () = claimed => {}
        }
        follower.abort();
        helpers.abort_all();
        keeper.inspect(tokio::task::JoinHandle::abort);
        let closing = async {
            self.registry.shutdown().await;
            // What ran is settled before the process ends; the next start would settle it otherwise.
            limits.idle().await;
            accountant.close().await;
            if let Err(error) = self.ledger.flush().await {
                tracing::warn!("the last settlements wait for the next start: {error}");
            }
            if let Some(announcement) = announcement {
                announcement.stop().await;
            }
        };
        tokio::select! {
            closed = tokio::time::timeout(CLOSE_WAIT, closing) => if closed.is_err() {
                tracing::warn!("engines did not stop in time; they end with this process");
            },
            _ = signals.next() => {}
        }
        Ok(())
    }

    fn authority(&self) -> Option<&Authority> {
        self.secure.as_ref().and_then(Secure::authority)
    }

    /// Other names for models; those for nothing that is here are told of.
    fn aliases(&self) -> Aliases {
        let aliases = self.prepared.config.aliases();
        let is_here =
            |model: &str| self.registry.find(model).is_some() || self.upstreams.serving(model).next().is_some();
        for missing in aliases.models().filter(|model| !is_here(model)) {
            tracing::warn!("`aliases` in the configuration file names the model {missing}, which is not here");
        }
        aliases
    }

    fn tell(&self, code: &str) -> Result<(), Failure> {
        let claimed = self.ledger.is_claimed()?;
        let model = self.registry.default_model();
        let banner = Banner {
            listen: self.address,
            secure: self.secure.as_ref().map(|secure| secure.address),
            fingerprint: self.authority().map(Authority::fingerprint),
            data_dir: &self.data_dir,
            claim_code: (!claimed).then_some(code),
            model: model.as_deref(),
            suggestion: self.prepared.suggestion(),
            better: self.prepared.better(),
        };
        if let Err(error) = leave_code((!claimed).then_some(code)) {
            tracing::warn!("the claim code is not where the screen looks for it: {error}");
        }
        // A server whose stdout was closed serves all the same.
        let _ = print_line(&banner.render());
        tracing::info!(address = %self.address, data_dir = %self.data_dir.display(), "listening");
        Ok(())
    }
}

/// Leaves the claim code for the screen of the box, in memory, where the service manager gave us a place for such.
fn leave_code(code: Option<&str>) -> std::io::Result<()> {
    let (Some(folder), Some(code)) = (std::env::var_os("RUNTIME_DIRECTORY"), code) else { return Ok(()) };
    let mut options = OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(Path::new(&folder).join(CLAIM_CODE))?;
    writeln!(file, "{code}")
}

/// Tells systemd, when it started us and asked.
fn notify_ready() {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(%error, "cannot tell the service manager that the server is ready");
    }
}

fn notify_stopping() {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
}
