//! The models of this box. Which are installed may change while the server runs, by itself or by another process; which
//! are in memory is the keeper's to say.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use allerac_engine_link::{EngineError, EngineSettings};
use allerac_models::{Installed, ModelsError, Store, named};
use tokio::sync::{mpsc, oneshot, watch};

use crate::engines::{Memory, ModelState, NoEngine, state};
use crate::gpu::GpuView;
use crate::kv::KvFolder;
use crate::model::{Drafts, Headers, LocalModel, default_model};
use crate::pulls::Pulls;
use crate::residency::{Command, Keeper, Key, Lease, View, Wanted};

/// Commands that may wait for the keeper. Each request in flight holds one place to give its engine back, and asks once.
const COMMANDS_WAITING_MAX: usize = 4096;
/// How often the list of installed models is looked at, for what other processes did: one call of the kernel.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A list that changed so recently may have changed again within the tick of the file system's clock.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// What the registry needs to start engines.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// The program `allerac-engine`.
    pub binary: PathBuf,
    /// Sizes and switches of each engine.
    pub settings: EngineSettings,
    /// The installed models.
    pub store: Store,
    /// Models that guess, by those that they guess for.
    pub drafts: Drafts,
    /// The model to start with: the first of these that is installed.
    pub preferred: Vec<String>,
    /// Where engines keep what they know; nowhere but in memory when it is not to be written.
    pub kv: Option<KvFolder>,
    /// System prompts that are common to all.
    pub common_prompts: Vec<String>,
    /// What models may take.
    pub memory: Memory,
    /// How long a model stays in memory that nobody uses; `None` until its memory is wanted.
    pub idle: Option<Duration>,
    /// Models that stay in memory once they are there.
    pub pinned: HashSet<String>,
    /// Where drivers of graphics processors keep compiled shaders.
    pub shader_cache: PathBuf,
}

/// The installed models at one moment, by id.
pub type Models = Arc<Vec<Arc<LocalModel>>>;

/// The default model that is loaded beforehand, and its engine where it is installed: another one where it gets an adapter.
type Beforehand = (String, Option<Key>);

/// The models of this box. Clones share them.
#[derive(Debug, Clone)]
pub struct Registry {
    config: Arc<RegistryConfig>,
    models: Arc<watch::Sender<Models>>,
    /// Held while the list is read, so that an older one never replaces a younger.
    headers: Arc<tokio::sync::Mutex<Headers>>,
    keeper: mpsc::Sender<Command>,
    view: watch::Receiver<Arc<View>>,
    gpu: watch::Receiver<Arc<GpuView>>,
    pulls: Pulls,
    /// The model that was loaded because it is the default, and how that went.
    warm: Arc<Mutex<(Option<Beforehand>, Warmth)>>,
}

/// How it went to load the default model beforehand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Warmth {
    /// It has not been loaded yet.
    #[default]
    Pending,
    /// It was in memory; it may have left it since.
    Done,
    /// It could not be loaded.
    Failed,
}

impl Registry {
    /// A registry with no engine running yet. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// When the installed models cannot be listed.
    pub fn open(config: RegistryConfig) -> Result<Self, ModelsError> {
        let mut headers = Headers::default();
        let models = local_models(&config, &config.store.list()?, &mut headers);
        Ok(Self::with(config, models, headers))
    }

    fn with(config: RegistryConfig, models: Vec<Arc<LocalModel>>, headers: Headers) -> Self {
        let (config, models) = (Arc::new(config), Arc::new(models));
        let (keeper, commands) = mpsc::channel(COMMANDS_WAITING_MAX);
        let (view, seen) = watch::channel(Arc::new(View::new()));
        let (gpu_view, gpu) = watch::channel(Arc::new(GpuView::looking()));
        let views = (view, gpu_view);
        let task = Keeper::new(Arc::clone(&config), commands, keeper.downgrade(), views, Arc::clone(&models));
        tokio::spawn(task.run());
        Self {
            pulls: Pulls::default(),
            config,
            models: Arc::new(watch::Sender::new(models)),
            headers: Arc::new(tokio::sync::Mutex::new(headers)),
            keeper,
            view: seen,
            gpu,
            warm: Arc::default(),
        }
    }

    /// A registry of these models, which are nowhere.
    #[cfg(test)]
    pub(crate) fn test(models: Vec<LocalModel>) -> Self {
        let memory = Memory { budget_bytes: u64::MAX, free_bytes: Arc::new(|| u64::MAX) };
        let config = RegistryConfig {
            binary: "e".into(),
            settings: EngineSettings::default(),
            store: Store::open(std::path::Path::new("/nowhere")),
            drafts: Drafts::new(),
            preferred: Vec::new(),
            kv: None,
            common_prompts: Vec::new(),
            memory,
            idle: None,
            pinned: HashSet::new(),
            shader_cache: "/nowhere".into(),
        };
        Self::with(config, models.into_iter().map(Arc::new).collect(), Headers::default())
    }

    /// The installed models.
    #[must_use]
    pub fn models(&self) -> Models {
        Arc::clone(&self.models.borrow())
    }

    pub(crate) fn config(&self) -> &RegistryConfig {
        &self.config
    }

    /// Where models are kept.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.config.store
    }

    /// Downloads.
    #[must_use]
    pub fn pulls(&self) -> &Pulls {
        &self.pulls
    }

    /// The model that answers when nobody chose one.
    #[must_use]
    pub fn default_model(&self) -> Option<String> {
        let models = self.models();
        // An adapter is what somebody wanted to try: it answers for others where it is preferred, or nothing else is there.
        let (whole, adapters) =
            (|model: &&Arc<LocalModel>| model.base.is_none(), |model: &&Arc<LocalModel>| model.base.is_some());
        let ordered = models.iter().filter(whole).chain(models.iter().filter(adapters));
        let kinds = ordered.map(|model| (model.id.as_str(), model.kind));
        default_model(&self.config.preferred, kinds).map(str::to_owned)
    }

    /// An installed model by its id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Arc<LocalModel>> {
        self.models.borrow().iter().find(|model| model.id == id).cloned()
    }

    /// The id of the installed model that a name with a tag means.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<String> {
        let models = self.models.borrow();
        named(name, models.iter().map(|model| model.id.as_str())).map(str::to_owned)
    }

    /// The engine of a model, which is started now if it was not running, when there is memory for it. It stays until
    /// the lease is dropped, and then for `keep`, or as long as the administrator said.
    ///
    /// # Errors
    /// [`NoEngine`]; that the model cannot be loaded shows when it is asked something.
    pub async fn engine(&self, model: &Arc<LocalModel>, keep: Option<Duration>) -> Result<Lease, NoEngine> {
        let closed = |_| NoEngine::Engine(EngineError::Stopped);
        let release = self.keeper.clone().reserve_owned().await.map_err(closed)?;
        let (reply, answer) = oneshot::channel();
        let wanted = Wanted { model: Arc::clone(model), keep, file: model.file_mark(), release, reply };
        self.keeper.send(Command::Want(wanted)).await.map_err(|_| EngineError::Stopped)?;
        Ok(answer.await.map_err(|_| EngineError::Stopped)??)
    }

    /// Lets a model leave memory as soon as nobody uses it.
    pub async fn unload(&self, model: &LocalModel) {
        self.ask(|reply| Command::Unload(Arc::clone(&model.key), reply)).await;
    }

    /// What becomes of the graphics processor.
    #[must_use]
    pub fn gpu(&self) -> Arc<GpuView> {
        Arc::clone(&self.gpu.borrow())
    }

    /// Has models leave the graphics processor as their answers end, and loads none onto it any more. They go on without it.
    pub async fn eject_gpu(&self) {
        self.ask(Command::EjectGpu).await;
    }

    /// Uses the graphics processor again; models that gain by it are loaded onto it when nobody uses them.
    pub async fn use_gpu(&self) {
        self.ask(Command::UseGpu).await;
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<()>) -> Command) {
        let (reply, told) = oneshot::channel();
        // Where the keeper is gone, nothing is in memory.
        if self.keeper.send(command(reply)).await.is_ok() {
            let _ = told.await;
        }
    }

    /// Begins to load the default model, so that the first request does not wait for it; on a box without a model to chat
    /// with another one.
    pub fn warm(&self) {
        self.load_beforehand(self.default_model().or_else(|| self.models().first().map(|model| model.id.clone())));
    }

    fn load_beforehand(&self, default: Option<String>) {
        let model = default.as_deref().and_then(|id| self.find(id));
        let wanted = default.map(|id| (id, model.as_ref().map(|model| Arc::clone(&model.key))));
        {
            let mut warm = self.warm.lock().expect("no code panics while it holds this");
            if warm.0 == wanted {
                return;
            }
            let id = |state: &Option<Beforehand>| state.as_ref().map(|(id, _)| id.clone());
            // Where there is none to load, nothing is waited for, nor where the model answers without what it just got.
            warm.1 = match &wanted {
                None => Warmth::Done,
                Some(_) if id(&warm.0) == id(&wanted) => warm.1,
                Some(_) => Warmth::Pending,
            };
            warm.0.clone_from(&wanted);
        }
        let Some(model) = model else { return };
        let this = self.clone();
        tokio::spawn(async move {
            let warmth = match this.engine(&model, None).await {
                Ok(lease) => lease.load().await.map_or(Warmth::Failed, |_| Warmth::Done),
                Err(error) => {
                    tracing::warn!(model = model.id, "not loaded: {error}");
                    Warmth::Failed
                }
            };
            let mut warm = this.warm.lock().expect("no code panics while it holds this");
            if warm.0 == wanted {
                warm.1 = warmth;
            }
        });
    }

    /// How it went to load the default model beforehand.
    #[must_use]
    pub fn warmth(&self) -> Warmth {
        self.warm.lock().expect("no code panics while it holds this").1
    }

    /// Removes a model: it takes no new requests, leaves memory when those that run have ended, and then its files go.
    /// `false` where it was not installed.
    ///
    /// # Errors
    /// When what is written of it cannot be removed.
    pub async fn remove(&self, id: &str) -> Result<bool, ModelsError> {
        let (store, id) = (self.config.store.clone(), id.to_owned());
        let forgotten = blocking(move || store.forget(&id)).await?;
        self.refresh().await?;
        Ok(forgotten)
    }

    /// Gives a model another name as well.
    ///
    /// # Errors
    /// As [`Store::copy`].
    pub async fn copy(&self, from: &str, to: &str) -> Result<(), ModelsError> {
        let (store, from, to) = (self.config.store.clone(), from.to_owned(), to.to_owned());
        blocking(move || store.copy(&from, &to)).await?;
        self.refresh().await
    }

    /// The longest prompt and output together of a model, in tokens, as far as is known before it is loaded.
    #[must_use]
    pub fn context(&self, model: &LocalModel) -> u32 {
        let of_header = model.header.as_ref().and_then(|header| header.own("context_length"));
        let of_entry = || model.entry().map(|entry| u64::from(entry.context));
        let trained = of_header.or_else(of_entry).unwrap_or(u64::MAX);
        self.config.settings.context.min(u32::try_from(trained).unwrap_or(u32::MAX))
    }

    /// Every installed model, and what its engine is doing.
    #[must_use]
    pub fn states(&self) -> Vec<ModelState> {
        let view = Arc::clone(&self.view.borrow());
        let models = self.models();
        models.iter().map(|model| state(model, &view)).collect()
    }

    /// What is measured of each engine, under one name only where a model has several.
    #[must_use]
    pub fn engines(&self) -> Vec<ModelState> {
        let mut states = self.states();
        // Its own name before others, and before those of its adapters.
        states.sort_by_key(|state| (state.model.base.is_some(), state.model.id != state.model.model));
        let mut seen = HashSet::new();
        states.retain(|state| seen.insert(Arc::clone(&state.model.key)));
        states.sort_by(|a, b| a.model.id.cmp(&b.model.id));
        states
    }

    /// Looks at what is installed now. What is new can be used at once; what is gone takes no new requests, and leaves
    /// memory when those that run have ended.
    ///
    /// # Errors
    /// When the installed models cannot be listed.
    pub async fn refresh(&self) -> Result<(), ModelsError> {
        let mut headers = Arc::clone(&self.headers).lock_owned().await;
        let config = Arc::clone(&self.config);
        // The lock goes with the list, so that lists become known in the order in which they were read.
        let (models, _headers) = blocking(move || {
            let models = local_models(&config, &config.store.list()?, &mut headers);
            headers.only(&models);
            Ok((models, headers))
        })
        .await?;
        let models = Arc::new(models);
        if **self.models.borrow() == *models {
            return Ok(());
        }
        let _ = self.keeper.send(Command::Installed(Arc::clone(&models))).await;
        self.models.send_replace(models);
        self.load_beforehand(self.default_model());
        Ok(())
    }

    /// Follows what other processes install and remove, for ever.
    pub async fn follow(&self) {
        let mut seen = self.config.store.changed();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let changed = self.config.store.changed();
            let is_recent = changed.is_some_and(|at| at + SETTLED_AFTER > SystemTime::now());
            if changed == seen && !is_recent {
                continue;
            }
            match self.refresh().await {
                Ok(()) => seen = changed,
                Err(error) => tracing::warn!("the installed models cannot be listed: {error}"),
            }
        }
    }

    /// Ends all engines.
    pub async fn shutdown(&self) {
        let (reply, ended) = oneshot::channel();
        if self.keeper.send(Command::Shutdown(reply)).await.is_ok() {
            let _ = ended.await;
        }
    }
}

/// Runs what waits for the disk beside the others.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ModelsError> + Send + 'static,
) -> Result<T, ModelsError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ModelsError::Download(error.to_string()))?
}

fn local_models(config: &RegistryConfig, installed: &[Installed], headers: &mut Headers) -> Vec<Arc<LocalModel>> {
    let local = |model| LocalModel::new(model, installed, &config.drafts, headers).map(Arc::new);
    installed.iter().filter_map(local).collect()
}
