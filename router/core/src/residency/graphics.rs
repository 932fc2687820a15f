//! What the keeper does about the graphics processor: which models are loaded onto it, and how they come off it again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use allerac_engine_link::{EngineStatus, GpuDevice, Offload, Report, device_nodes, gpu_module, list_gpus};
use allerac_models::ModelKind;
use allerac_models::fit::{Asked, Facts, Split};
use tokio::sync::{mpsc, oneshot, watch};

use super::estimate::plan;
use super::keeper::{Command, Keeper, Running, Wanted};
use super::terms::{Key, Moment};
use super::watch::tell;
use crate::gpu::{Gpu, SOUND_AFTER};
use crate::model::LocalModel;
use crate::registry::RegistryConfig;

/// How often to look whether a device was plugged in or out: two small folders are read.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Failures in a row after which a model does without the graphics processor: then the model is what is wrong, and others
/// are not to go without because of it.
const MODEL_FAILURES_MAX: u32 = 2;

/// The graphics processor, as the keeper has it.
pub(super) struct Graphics {
    pub(super) gpu: Gpu,
    /// Nodes of devices when they were looked at last, and when to look again.
    nodes: HashSet<String>,
    look_at: Moment,
    /// Memory on it that models may have together.
    room_bytes: u64,
    /// Models that leave memory to come back, on it or off it.
    moving: HashSet<Key>,
    /// Failures in a row of models on it.
    failures: HashMap<Key, u32>,
}

/// What of a model is on the graphics processor.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) offload: Offload,
    pub(super) split: Split,
}

impl Graphics {
    pub(super) fn new(config: &RegistryConfig) -> Self {
        let gpu = Gpu::new(config.settings.gpu, gpu_module(&config.binary).is_some());
        Self {
            gpu,
            nodes: device_nodes(),
            look_at: LOOK_EVERY,
            room_bytes: 0,
            moving: HashSet::new(),
            failures: HashMap::new(),
        }
    }

    /// When there is something to do though nothing happens.
    pub(super) fn next_moment(&self) -> Option<Moment> {
        let look = self.gpu.is_possible().then_some(self.look_at);
        look.into_iter().chain(self.gpu.next_moment()).min()
    }

    /// It is used again, whatever happened before.
    pub(super) fn allow(&mut self) {
        self.gpu.allow();
        self.failures.clear();
    }

    /// Models that are installed no more are forgotten.
    pub(super) fn installed(&mut self, keys: &[Key]) {
        self.failures.retain(|key, _| keys.contains(key));
    }

    fn model_failed(&mut self, key: &Key, lived: Duration) {
        let failures = self.failures.entry(Arc::clone(key)).or_default();
        *failures = if lived >= SOUND_AFTER { 1 } else { failures.saturating_add(1) };
        if *failures == MODEL_FAILURES_MAX {
            tracing::warn!(%key, "a model that fails on the graphics processor again and again does without it");
        }
    }

    fn takes(&self, key: &Key) -> bool {
        self.failures.get(key).is_none_or(|failures| *failures < MODEL_FAILURES_MAX)
    }
}

impl Keeper {
    /// Lists the devices when it is time to, or when one was plugged in or out.
    pub(super) fn look_for_gpus(&mut self) {
        let now = self.now();
        let mut has_changed = false;
        if self.graphics.gpu.is_possible() && now >= self.graphics.look_at {
            let nodes = device_nodes();
            has_changed = nodes != self.graphics.nodes;
            self.graphics.nodes = nodes;
            self.graphics.look_at = now + LOOK_EVERY;
        }
        if !self.graphics.gpu.begin_list(now, has_changed) {
            return;
        }
        let (binary, lane) = (self.config.binary.clone(), self.lane.clone());
        tokio::spawn(async move {
            let list = match gpu_module(&binary) {
                Some(module) => list_gpus(&binary, &module).await,
                None => Err("llama.cpp's module for graphics processors is gone".to_owned()),
            };
            tell(&lane, Command::GpusListed(list)).await;
        });
    }

    pub(super) fn gpus_listed(&mut self, list: Result<Vec<GpuDevice>, String>) {
        match &list {
            Ok(devices) => tracing::info!(count = devices.len(), "graphics processors were listed"),
            Err(reason) => tracing::info!(reason, "no graphics processor can be used"),
        }
        let now = self.now();
        self.graphics.gpu.listed(list, now);
        match self.graphics.gpu.device() {
            Some(device) => {
                // What is free is what our own engines have left. One that is being loaded has not all of its memory yet: to
                // count that as taken would give it to models twice.
                let is_loaded = |running: &Running| matches!(running.engine.status(), EngineStatus::Ready(_));
                self.graphics.room_bytes = device.free_bytes.saturating_add(self.placed_bytes(is_loaded));
                self.move_models(Self::would_gain, false);
            }
            None => {
                // Models failed because it was pulled out, or will be tried on another one.
                self.graphics.failures.clear();
                self.move_models(|keeper, key| keeper.running[key].placed.is_some(), true);
            }
        }
    }

    /// An engine goes on without the graphics processor, because it failed on it.
    pub(super) fn gpu_failed(&mut self, key: &Key, reason: String) {
        let now = self.now();
        let Some(running) = self.running.get_mut(key) else { return };
        if running.placed.take().is_some() {
            let lived = running.load.began.elapsed();
            self.graphics.model_failed(key, lived);
            self.graphics.gpu.failed(reason, lived, now);
        }
    }

    /// Takes all models off the graphics processor as their answers end, and loads none onto it any more.
    pub(super) fn eject_gpu(&mut self) {
        self.graphics.gpu.eject();
        self.move_models(|keeper, key| keeper.running[key].placed.is_some(), true);
    }

    /// Has these models leave memory, to be loaded in another way at once. Those that must take no new requests until they
    /// can go; the others go when nobody uses them.
    fn move_models(&mut self, which: impl Fn(&Self, &Key) -> bool, must: bool) {
        let keys: Vec<Key> = self.running.keys().filter(|key| which(self, key)).cloned().collect();
        for key in keys {
            self.residents.leave(&key, must);
            self.graphics.moving.insert(key);
        }
    }

    /// Whether a model in memory would have more of it on the graphics processor than it has.
    fn would_gain(&self, key: &Key) -> bool {
        let running = &self.running[key];
        running.placed.is_none() && self.place(&running.model).is_some()
    }

    /// What of a model is to be on the graphics processor.
    pub(super) fn place(&self, model: &LocalModel) -> Option<Placed> {
        if model.kind != ModelKind::Chat || !self.graphics.takes(&model.key) {
            return None;
        }
        let device = self.graphics.gpu.device()?;
        let settings = &self.config.settings;
        let facts = Facts::of_header(model.header.as_ref()?, model.weights_bytes)?;
        // Adapters lie beside the layers that they change.
        let taken = self.placed_bytes(|_| true).saturating_add(model.adapters_bytes);
        let free = self.graphics.room_bytes.saturating_sub(taken);
        let split = facts.split(&plan(settings), free, Asked { layers: settings.gpu_layers })?;
        let offload = Offload {
            module: gpu_module(&self.config.binary)?,
            device: device.name.clone(),
            layers: split.layers,
            cpu_expert_layers: split.cpu_expert_layers,
            shader_cache: self.config.shader_cache.clone(),
        };
        Some(Placed { offload, split })
    }

    /// Memory on the device of the engines for which this holds.
    fn placed_bytes(&self, which: impl Fn(&Running) -> bool) -> u64 {
        let placed =
            self.running.values().filter(|running| which(running)).filter_map(|running| running.placed.as_ref());
        placed.fold(0, |sum, placed| sum.saturating_add(placed.split.bytes))
    }

    /// An engine is gone: where its model only moves, it is loaded again.
    pub(super) fn moved(&mut self, model: &Arc<LocalModel>) {
        if !self.graphics.moving.remove(&model.key) || self.is_closing {
            return;
        }
        let (lane, model) = (self.lane.clone(), Arc::clone(model));
        tokio::spawn(load_again(lane, model));
    }
}

/// Wants a model as a request would, until it is loaded.
async fn load_again(lane: mpsc::WeakSender<Command>, model: Arc<LocalModel>) {
    let Some(lane) = lane.upgrade() else { return };
    let Ok(release) = lane.clone().reserve_owned().await else { return };
    let (reply, answer) = oneshot::channel();
    let file = model.file_mark();
    if lane.send(Command::Want(Wanted { model, keep: None, file, release, reply })).await.is_ok() {
        drop(lane);
        if let Ok(Ok(lease)) = answer.await {
            // What becomes of it shows when it is asked something.
            let _ = lease.load().await;
        }
    }
}

/// Tells the keeper when an engine has to do without the graphics processor.
pub(super) async fn follow(mut report: watch::Receiver<Report>, key: Key, lane: mpsc::WeakSender<Command>) {
    let failed = report.wait_for(|report| report.gpu_failure.is_some()).await.map(|report| report.gpu_failure.clone());
    if let Ok(Some(reason)) = failed {
        tell(&lane, Command::GpuFailed(key, reason)).await;
    }
}
