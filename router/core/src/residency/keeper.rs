//! The one task that starts and ends engines. It asks the policy after whatever happens, and does what that says.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use allerac_engine_link::{Engine, EngineConfig, GpuDevice, Report};
use allerac_models::ModelKind;
use allerac_models::fit::Split;
use tokio::sync::{mpsc, oneshot, watch};

use super::graphics::{self, Graphics, Placed};
use super::lease::{Lease, Load};
use super::need;
use super::policy::Residents;
use super::terms::{Action, Key, Moment, Need, Refusal, Rules, Ticket, Want};
use super::watch::{self as watching, tell};
use crate::gpu::GpuView;
use crate::model::LocalModel;
use crate::registry::RegistryConfig;

/// How soon files are looked at again that could not be removed because a model was being fetched.
const SWEEP_AGAIN: Duration = Duration::from_secs(10);
/// How long to wait at most when nothing is to be decided.
const REST: Duration = Duration::from_secs(3600);

/// What the keeper is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// A request wants an engine.
    Want(Wanted),
    /// A request ended that had the engine of this number.
    Release { key: Key, number: u64 },
    /// A model is in memory.
    Loaded(Key),
    /// A model cannot be loaded.
    Failed(Key, String),
    /// An engine is gone.
    Stopped(Key),
    /// A model is to go when nobody uses it; answered when it is no longer seen, unless somebody does.
    Unload(Key, oneshot::Sender<()>),
    /// The models that are installed now.
    Installed(Arc<Vec<Arc<LocalModel>>>),
    /// The graphics processors that there are.
    GpusListed(Result<Vec<GpuDevice>, String>),
    /// An engine does without the graphics processor from now on, and why.
    GpuFailed(Key, String),
    /// Nothing is to be on the graphics processor any more; answered when that can be seen.
    EjectGpu(oneshot::Sender<()>),
    /// It is to be used again; answered when that can be seen.
    UseGpu(oneshot::Sender<()>),
    /// Files that belong to no model are removed, or could not be.
    Swept(bool),
    /// All engines end; then this is answered.
    Shutdown(oneshot::Sender<()>),
}

/// A request for an engine, and the way of its answer.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) model: Arc<LocalModel>,
    pub(crate) keep: Option<Duration>,
    /// Another number when its file is another one.
    pub(crate) file: u64,
    /// For the lease to give the engine back.
    pub(crate) release: mpsc::OwnedPermit<Command>,
    pub(crate) reply: oneshot::Sender<Result<Lease, Refusal>>,
}

/// What others see of the engines.
pub(crate) type View = HashMap<Key, Standing>;

/// What others see of one.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// `None` where it has ended, or never began.
    pub(crate) engine: Option<Engine>,
    /// What it did until it was ended, and before.
    pub(crate) before: Report,
    /// Why it cannot be loaded.
    pub(crate) failure: Option<String>,
    /// When it goes, if nobody wants it until then.
    pub(crate) until: Option<Instant>,
    /// Memory set aside for it, in bytes.
    pub(crate) need_bytes: u64,
    /// What of it is on the graphics processor.
    pub(crate) split: Option<Split>,
}

pub(super) struct Running {
    pub(super) engine: Engine,
    pub(super) model: Arc<LocalModel>,
    pub(super) load: Load,
    /// What of it is on the graphics processor.
    pub(super) placed: Option<Placed>,
}

struct Waiting {
    model: Arc<LocalModel>,
    release: mpsc::OwnedPermit<Command>,
    reply: oneshot::Sender<Result<Lease, Refusal>>,
}

pub(crate) struct Keeper {
    pub(super) config: Arc<RegistryConfig>,
    commands: mpsc::Receiver<Command>,
    /// For tasks that watch engines; weak, so that the keeper ends when nobody else is there.
    pub(super) lane: mpsc::WeakSender<Command>,
    view: watch::Sender<Arc<View>>,
    gpu_view: watch::Sender<Arc<GpuView>>,
    pub(super) graphics: Graphics,
    began: Instant,
    pub(super) residents: Residents,
    pub(super) running: HashMap<Key, Running>,
    waiting: HashMap<Ticket, Waiting>,
    next_ticket: Ticket,
    installed: Arc<Vec<Arc<LocalModel>>>,
    /// What engines did that are gone: counters do not fall.
    reports: HashMap<Key, Report>,
    sweep_at: Option<Instant>,
    /// Who is told when what was decided can be seen.
    told: Vec<oneshot::Sender<()>>,
    /// Who waits for the end; then nothing is started any more.
    closing: Vec<oneshot::Sender<()>>,
    pub(super) is_closing: bool,
}

impl Keeper {
    pub(crate) fn new(
        config: Arc<RegistryConfig>,
        commands: mpsc::Receiver<Command>,
        lane: mpsc::WeakSender<Command>,
        views: (watch::Sender<Arc<View>>, watch::Sender<Arc<GpuView>>),
        installed: Arc<Vec<Arc<LocalModel>>>,
    ) -> Self {
        let rules = Rules { budget: config.memory.budget_bytes, idle: config.idle };
        let (graphics, (view, gpu_view)) = (Graphics::new(&config), views);
        Self {
            config,
            commands,
            lane,
            view,
            gpu_view,
            graphics,
            began: Instant::now(),
            residents: Residents::new(rules),
            running: HashMap::new(),
            waiting: HashMap::new(),
            next_ticket: 0,
            installed,
            reports: HashMap::new(),
            // What a process left that was killed while it removed a model.
            sweep_at: Some(Instant::now()),
            told: Vec::new(),
            closing: Vec::new(),
            is_closing: false,
        }
    }

    pub(crate) async fn run(mut self) {
        loop {
            let rest = self.rest();
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.apply(command),
                    None => return self.end_all(),
                },
                () = tokio::time::sleep(rest) => {}
            }
            // Commands that came together are decided upon together.
            while let Ok(command) = self.commands.try_recv() {
                self.apply(command);
            }
            self.forget_those_who_left();
            self.look_for_gpus();
            self.decide();
            self.sweep();
            self.publish();
            tell_all(&mut self.told);
            if self.is_closing && self.running.is_empty() {
                tell_all(&mut self.closing);
            }
        }
    }

    pub(super) fn now(&self) -> Moment {
        self.began.elapsed()
    }

    fn rest(&self) -> Duration {
        let now = self.now();
        let moments = self.residents.next_moment(now).into_iter().chain(self.graphics.next_moment());
        let decide = moments.min().map(|moment| moment.saturating_sub(now));
        let sweep = self.sweep_at.map(|at| at.saturating_duration_since(Instant::now()));
        decide.into_iter().chain(sweep).min().unwrap_or(REST).min(REST)
    }

    fn apply(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Want(wanted) => self.want(wanted, now),
            Command::Release { key, number } => self.residents.released(&key, number, now),
            Command::Loaded(key) => self.residents.loaded(&key, now),
            Command::Failed(key, reason) => {
                if let Some(running) = self.running.get(&key) {
                    let in_a_row = self.residents.failure(&key).map_or(0, |(_, count)| count) + 1;
                    tracing::error!(
                        model = running.model.id,
                        in_a_row,
                        "left alone for a while, as it cannot be loaded"
                    );
                }
                self.residents.failed(&key, reason, now);
                self.stop(&key);
            }
            Command::Stopped(key) => self.stopped(&key),
            Command::Unload(key, reply) => {
                self.residents.unload(&key);
                self.told.push(reply);
            }
            Command::Installed(models) => {
                let keys: Vec<Key> = models.iter().map(|model| Arc::clone(&model.key)).collect();
                self.residents.installed(&keys);
                self.graphics.installed(&keys);
                self.reports.retain(|key, _| keys.contains(key));
                let before = std::mem::replace(&mut self.installed, models);
                for gone in before.iter().filter(|model| !keys.contains(&model.key)) {
                    if !self.running.contains_key(&gone.key) {
                        self.remove_kv(gone);
                    }
                }
                self.sweep_at = Some(Instant::now());
            }
            Command::GpusListed(list) => self.gpus_listed(list),
            Command::GpuFailed(key, reason) => self.gpu_failed(&key, reason),
            Command::EjectGpu(reply) => {
                self.eject_gpu();
                self.told.push(reply);
            }
            Command::UseGpu(reply) => {
                self.graphics.allow();
                self.told.push(reply);
            }
            Command::Swept(done) => self.sweep_at = (!done).then(|| Instant::now() + SWEEP_AGAIN),
            Command::Shutdown(reply) => {
                self.is_closing = true;
                self.closing.push(reply);
                self.end_all();
            }
        }
    }

    fn want(&mut self, wanted: Wanted, now: Moment) {
        if self.is_closing {
            // The answer is that there is none: whoever asked sees its way closed.
            return;
        }
        let Wanted { model, keep, file, release, reply } = wanted;
        if !self.is_installed(&model.key) {
            drop(reply.send(Err(Refusal::Gone)));
            return;
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let want = Want {
            ticket,
            key: Arc::clone(&model.key),
            need: need(&model, &self.config.settings),
            pinned: self.is_pinned(&model.key),
            keep,
            file,
        };
        self.residents.wanted(want, now);
        self.waiting.insert(ticket, Waiting { model, release, reply });
    }

    fn forget_those_who_left(&mut self) {
        let residents = &mut self.residents;
        self.waiting.retain(|ticket, waiting| {
            let stays = !waiting.reply.is_closed();
            if !stays {
                residents.cancelled(*ticket);
            }
            stays
        });
    }

    fn decide(&mut self) {
        // What is started before the devices are known would miss them.
        self.residents.hold_starts(self.graphics.gpu.is_unknown() && !self.is_closing);
        let free = if self.residents.wants_memory() { (self.config.memory.free_bytes)() } else { 0 };
        for action in self.residents.decide(self.now(), free) {
            match action {
                Action::Start(key, _) => self.start(&key),
                Action::Grant(ticket, key, number) => self.grant(ticket, key, number),
                Action::Stop(key) => self.stop(&key),
                Action::Refuse(ticket, refusal) => {
                    if let Some(waiting) = self.waiting.remove(&ticket) {
                        let _ = waiting.reply.send(Err(refusal));
                    }
                }
            }
        }
    }

    /// Starts the engine of a model that somebody waits for.
    fn start(&mut self, key: &Key) {
        let Some(model) = self.waiting.values().find(|waiting| waiting.model.key == *key) else { return };
        let model = Arc::clone(&model.model);
        let report = self.reports.get(key).cloned().unwrap_or_default();
        let placed = self.place(&model);
        let offload = placed.as_ref().map(|placed| placed.offload.clone());
        let engine = Engine::resume(EngineConfig { offload, ..self.engine_config(&model) }, report);
        if placed.is_some() {
            tokio::spawn(graphics::follow(engine.watch_report(), Arc::clone(key), self.lane.clone()));
        }
        tracing::info!(model = model.id, "a model is loaded");
        tokio::spawn(watching::load(engine.watch(), Arc::clone(key), self.lane.clone()));
        let load =
            Load { began: Instant::now(), time: self.residents.load_time(key, need(&model, &self.config.settings)) };
        self.running.insert(Arc::clone(key), Running { engine, model, load, placed });
    }

    fn engine_config(&self, model: &LocalModel) -> EngineConfig {
        let kv = self.config.kv.as_ref().filter(|_| model.kind == ModelKind::Chat);
        EngineConfig {
            binary: self.config.binary.clone(),
            model_path: model.load_path.clone(),
            encodes: model.kind != ModelKind::Chat,
            parts: model.parts.clone(),
            draft_path: model.draft.clone(),
            adapters: model.adapters.clone(),
            offload: None,
            name: model.id.clone(),
            settings: self.config.settings.clone(),
            kv_file: kv.map(|folder| folder.file(&model.weights_digest)),
            common_prompts: self.config.common_prompts.clone(),
        }
    }

    fn grant(&mut self, ticket: Ticket, key: Key, number: u64) {
        let (Some(waiting), Some(running)) = (self.waiting.remove(&ticket), self.running.get(&key)) else { return };
        let lease = Lease::new(running.engine.clone(), running.load, key, number, waiting.release);
        // Whoever left meanwhile gives it back by not taking it.
        drop(waiting.reply.send(Ok(lease)));
    }

    /// Ends an engine that nobody uses; its process writes what it knows to disk first.
    fn stop(&self, key: &Key) {
        let Some(running) = self.running.get(key) else { return };
        tracing::info!(model = running.model.id, "a model leaves memory");
        let (engine, key, lane) = (running.engine.clone(), Arc::clone(key), self.lane.clone());
        tokio::spawn(async move {
            engine.shutdown().await;
            tell(&lane, Command::Stopped(key)).await;
        });
    }

    fn stopped(&mut self, key: &Key) {
        self.residents.stopped(key);
        let Some(Running { engine, model, .. }) = self.running.remove(key) else { return };
        if self.is_installed(key) {
            self.moved(&model);
            self.reports.insert(Arc::clone(key), engine.report());
        } else {
            self.remove_kv(&model);
            self.sweep_at = Some(Instant::now());
        }
    }

    /// Whether one of the models of an engine is to stay: adapters share that of their base.
    fn is_pinned(&self, key: &Key) -> bool {
        self.installed.iter().any(|model| model.key == *key && self.config.pinned.contains(&model.id))
    }

    fn is_installed(&self, key: &Key) -> bool {
        self.installed.iter().any(|model| model.key == *key)
    }

    /// What an engine knew of prompts goes with its model; it stays where only the model's adapters are others.
    fn remove_kv(&self, model: &LocalModel) {
        let is_there = self.installed.iter().any(|other| other.weights_digest == model.weights_digest);
        if let Some(kv) = self.config.kv.as_ref().filter(|_| !is_there) {
            let _ = std::fs::remove_file(kv.file(&model.weights_digest).path);
        }
    }

    /// Removes files of models that are gone, but for those that an engine has open or may open again.
    fn sweep(&mut self) {
        if self.is_closing || self.sweep_at.is_none_or(|at| at > Instant::now()) {
            return;
        }
        self.sweep_at = None;
        let files = |model: &LocalModel| {
            let parts = model.parts.iter().map(|(_, path)| path.clone());
            let adapters = model.adapters.iter().map(|(_, path)| path.clone());
            let all: Vec<PathBuf> =
                parts.chain(adapters).chain([model.path.clone()]).chain(model.draft.clone()).collect();
            all
        };
        let in_use: HashSet<PathBuf> = self.running.values().flat_map(|running| files(&running.model)).collect();
        let (store, lane) = (self.config.store.clone(), self.lane.clone());
        tokio::spawn(async move {
            let swept = tokio::task::spawn_blocking(move || store.sweep(&in_use)).await;
            let done = match swept {
                Ok(Ok(done)) => done,
                Ok(Err(error)) => {
                    tracing::warn!("files of models that are gone are still there: {error}");
                    true
                }
                Err(_) => true,
            };
            tell(&lane, Command::Swept(done)).await;
        });
    }

    fn publish(&self) {
        let keys: HashSet<&Key> = self.installed.iter().map(|model| &model.key).chain(self.running.keys()).collect();
        let now = self.now();
        let view = keys.into_iter().map(|key| {
            let seen = self.residents.seen(key, now);
            let is_there = seen.is_some_and(|seen| !seen.is_going);
            let standing = Standing {
                engine: self.running.get(key).filter(|_| is_there).map(|running| running.engine.clone()),
                before: match self.running.get(key) {
                    Some(running) => running.engine.report(),
                    None => self.reports.get(key).cloned().unwrap_or_default(),
                },
                failure: self.residents.failure(key).map(|(reason, _)| reason.to_owned()),
                until: seen.and_then(|seen| self.began.checked_add(seen.until?)),
                need_bytes: seen.map_or(0, |seen| Need::all(seen.need)),
                split: self.running.get(key).and_then(|running| Some(running.placed.as_ref()?.split)),
            };
            (Arc::clone(key), standing)
        });
        self.view.send_replace(Arc::new(view.collect()));
        self.gpu_view.send_replace(Arc::new(self.graphics.gpu.view(now)));
    }

    fn end_all(&mut self) {
        self.waiting.clear();
        for key in self.running.keys() {
            self.stop(key);
        }
    }
}

/// Who has left need not hear it.
fn tell_all(waiting: &mut Vec<oneshot::Sender<()>>) {
    for reply in waiting.drain(..) {
        let _ = reply.send(());
    }
}
