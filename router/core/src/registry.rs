//! The models of this box, each with an engine that is started when it is first needed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use allerac_engine_link::{Engine, EngineConfig, EngineSettings, EngineStatus, Report};
use allerac_models::{Catalogue, Entry, ModelKind, SamplingDefaults};

use crate::kv::KvFolder;

/// An installed model.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalModel {
    /// The name that clients use.
    pub id: String,
    /// What it is for.
    pub kind: ModelKind,
    /// Whether the beginning of a vector is a vector by itself.
    pub matryoshka: bool,
    /// Its file, or that of its weights.
    pub path: PathBuf,
    /// Its other files, by their names in the model.
    pub parts: Vec<(String, PathBuf)>,
    /// The file of a smaller model that guesses what it says.
    pub draft: Option<PathBuf>,
    /// The SHA-256 of its file, in hexadecimal.
    pub digest: String,
    /// The length of its file.
    pub size_bytes: u64,
    /// Parameters.
    pub parameters: u64,
    /// What a request gets that says nothing else.
    pub sampling: SamplingDefaults,
    /// When it was installed, in seconds since 1970.
    pub created: i64,
}

impl LocalModel {
    /// What the catalogue says of it, where it is there.
    #[must_use]
    pub fn entry(&self) -> Option<&'static Entry> {
        Catalogue::builtin().get(&self.id)
    }
}

/// What the registry needs to start engines.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// The program `allerac-engine`.
    pub binary: PathBuf,
    /// Sizes and switches of each engine.
    pub settings: EngineSettings,
    /// The installed models.
    pub models: Vec<LocalModel>,
    /// The model to start with, when there is one.
    pub default_model: Option<String>,
    /// Where engines keep what they know; nowhere but in memory when it is not to be written.
    pub kv: Option<KvFolder>,
    /// System prompts that are common to all.
    pub common_prompts: Vec<String>,
}

/// The models of this box. Clones share them.
#[derive(Debug, Clone)]
pub struct Registry {
    config: Arc<RegistryConfig>,
    engines: Arc<Mutex<HashMap<String, Engine>>>,
}

impl Registry {
    /// A registry with no engine running yet.
    #[must_use]
    pub fn new(config: RegistryConfig) -> Self {
        Self { config: Arc::new(config), engines: Arc::default() }
    }

    /// The installed models.
    #[must_use]
    pub fn models(&self) -> &[LocalModel] {
        &self.config.models
    }

    /// The model that answers when nobody chose one.
    #[must_use]
    pub fn default_model(&self) -> Option<&str> {
        self.config.default_model.as_deref()
    }

    /// An installed model by its id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&LocalModel> {
        self.config.models.iter().find(|model| model.id == id)
    }

    /// The engine of a model, started now if it was not running. Must be called on a tokio runtime.
    #[must_use]
    pub fn engine(&self, model: &LocalModel) -> Engine {
        let mut engines = self.engines();
        let engine = engines.entry(model.id.clone()).or_insert_with(|| {
            Engine::spawn(EngineConfig {
                binary: self.config.binary.clone(),
                model_path: model.path.clone(),
                parts: model.parts.clone(),
                draft_path: model.draft.clone(),
                name: model.id.clone(),
                settings: self.config.settings.clone(),
                kv_file: self
                    .config
                    .kv
                    .as_ref()
                    .filter(|_| model.kind == ModelKind::Chat)
                    .map(|folder| folder.file(&model.digest)),
                common_prompts: self.config.common_prompts.clone(),
            })
        });
        engine.clone()
    }

    /// The longest prompt and output together of a model, in tokens, as far as is known before it is loaded.
    #[must_use]
    pub fn context(&self, model: &LocalModel) -> u32 {
        let trained = model.entry().map_or(u32::MAX, |entry| entry.context);
        self.config.settings.context.min(trained)
    }

    /// What each started engine is doing.
    #[must_use]
    pub fn statuses(&self) -> Vec<(String, EngineStatus)> {
        self.engines().iter().map(|(id, engine)| (id.clone(), engine.status())).collect()
    }

    /// Every installed model: what its engine is doing, where it has one, and what that did so far.
    #[must_use]
    pub fn reports(&self) -> Vec<(String, Option<(EngineStatus, Report)>)> {
        let engines = self.engines();
        let of = |id: &str| engines.get(id).map(|engine| (engine.status(), engine.report()));
        self.config.models.iter().map(|model| (model.id.clone(), of(&model.id))).collect()
    }

    /// Ends all engines.
    pub async fn shutdown(&self) {
        let engines: Vec<Engine> = self.engines().drain().map(|(_, engine)| engine).collect();
        for engine in engines {
            engine.shutdown().await;
        }
    }

    fn engines(&self) -> std::sync::MutexGuard<'_, HashMap<String, Engine>> {
        self.engines.lock().expect("no code panics while it holds the engines")
    }
}
