//! Puts together what decides how engines run: the configuration file, the hardware profile, the installed models and
//! the engine's program.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

use allerac_engine_link::EngineSettings;
use allerac_hardware::{Probe, Profile};
use allerac_models::fit::Facts;
use allerac_models::{Catalogue, Installed, ModelKind, Store};
use allerac_router_core::{KvFolder, RegistryConfig};

use jiff::tz::TimeZone;

use crate::args::Setup;
use crate::commands::models::models_failure;
use crate::config::ConfigFile;
use crate::failure::{Exit, Failure};
use crate::tuned::{self, Tuned};

/// The program that runs a model.
const ENGINE: &str = "allerac-engine";

/// All of it, checked.
pub(crate) struct Prepared {
    pub(crate) config: ConfigFile,
    pub(crate) profile: Profile,
    pub(crate) settings: EngineSettings,
    pub(crate) binary: PathBuf,
    /// Models that guess, by those that they guess for.
    drafts: BTreeMap<String, String>,
    installed: Vec<Installed>,
    /// What the profile recommends and this machine has memory for, the best first.
    pub(crate) worth_having: Vec<String>,
    /// The models to begin with, where they are there.
    preferred: Vec<String>,
    default_model: Option<String>,
}

impl Prepared {
    /// With what was found by measuring, where that holds; else the log says why not.
    pub(crate) fn new(setup: &Setup, data_dir: &Path) -> Result<Self, Failure> {
        let probe = allerac_hardware::probe();
        let tuned = Tuned::load(data_dir, &probe);
        tuned.log(data_dir);
        Self::with(setup, data_dir, &probe, &tuned)
    }

    /// As if nothing had been measured.
    pub(crate) fn untuned(setup: &Setup, data_dir: &Path) -> Result<Self, Failure> {
        Self::with(setup, data_dir, &allerac_hardware::probe(), &Tuned::Not)
    }

    fn with(setup: &Setup, data_dir: &Path, probe: &Probe, tuned: &Tuned) -> Result<Self, Failure> {
        let memory_bytes = allerac_hardware::memory().total_bytes;
        let config = ConfigFile::load(setup.config.as_deref())?;
        let profile = profile(setup, &config, probe)?;
        let settings = settings(&config, &profile, probe, tuned)?;
        let binary = engine_binary(&config)?;
        let installed = Store::open(data_dir).list().map_err(|error| models_failure(&error))?;
        let worth_having = worth_having(&profile, &settings, config.models.memory(memory_bytes).budget_bytes);
        let preferred = preferred(&config, &profile, &worth_having);
        let default_model = default_model(&config, &preferred, &installed);
        let drafts = config.engine.drafts_over(&profile.engine.drafts);
        for (missing, hint) in missing_drafts(&drafts, &installed) {
            tracing::warn!("{missing}: {hint}");
        }
        Ok(Self { config, profile, settings, binary, drafts, installed, worth_having, preferred, default_model })
    }

    /// The named model, or the one that is loaded at the start.
    pub(crate) fn model(&self, id: Option<&str>) -> Result<&Installed, Failure> {
        let id = id.or(self.default_model.as_deref());
        let found = id.and_then(|id| self.installed.iter().find(|model| model.id == id));
        found.ok_or_else(|| match id {
            None => Failure::new(Exit::NotFound, "no model is installed")
                .hint(format!("fetch one: allerac models pull {}", self.suggestion())),
            Some(id) => Failure::new(Exit::NotFound, format!("the model {id} is not installed"))
                .hint(format!("see `allerac models list`, or fetch it: allerac models pull {id}")),
        })
    }

    /// What engines are started from. `kv` is where they keep what they know.
    pub(crate) fn registry_config(
        &self,
        data_dir: &Path,
        kv: Option<KvFolder>,
        zone: TimeZone,
    ) -> Result<RegistryConfig, Failure> {
        let models = &self.config.models;
        Ok(RegistryConfig {
            binary: self.binary.clone(),
            settings: self.settings.clone(),
            store: Store::open(data_dir).with(self.config.downloads(zone)?),
            drafts: self.drafts.clone(),
            preferred: self.preferred.clone(),
            kv: kv.filter(|_| self.settings.kv_disk_mib > 0),
            common_prompts: self.config.engine.common_prompts.clone(),
            memory: models.memory(allerac_hardware::memory().total_bytes),
            idle: models.idle(),
            pinned: models.pinned.iter().cloned().collect(),
            shader_cache: data_dir.join("shaders"),
        })
    }

    /// The digests of the installed models.
    pub(crate) fn digests(&self) -> Vec<String> {
        self.installed.iter().map(|model| model.sha256.clone()).collect()
    }

    /// The best model for this machine, where that is not installed.
    pub(crate) fn better(&self) -> Option<&str> {
        let best = self.worth_having.first()?;
        let is_here = self.installed.iter().any(|model| model.model == *best);
        (!is_here).then_some(best)
    }

    /// The model to suggest when none is installed.
    pub(crate) fn suggestion(&self) -> &str {
        &self.profile.starter_model
    }
}

/// The named profile, else the one that fits this machine.
pub(crate) fn profile(setup: &Setup, config: &ConfigFile, probe: &Probe) -> Result<Profile, Failure> {
    match setup.profile.as_deref().or(config.profile.as_deref()) {
        None => Ok(Profile::detect(probe)),
        Some(name) => Profile::named(name).ok_or_else(|| {
            Failure::new(Exit::Usage, format!("there is no hardware profile `{name}`"))
                .hint("use lite, home, pro or generic, or leave it out to take the one that fits")
        }),
    }
}

/// How engines run: as the configuration file says, else as was measured, else as the profile says.
pub(crate) fn settings(
    config: &ConfigFile,
    profile: &Profile,
    probe: &Probe,
    tuned: &Tuned,
) -> Result<EngineSettings, Failure> {
    let profile = engine_settings(profile);
    let measured = match tuned.choice() {
        Some(choice) => tuned::apply(profile, choice, config.engine.configured()),
        None => profile,
    };
    let mut settings = config.engine.over(&measured);
    settings.attention().map_err(|error| Failure::from_error(Exit::Usage, &error))?;
    let all = probe.topology.all();
    if let Some(cpus) = settings.cpus.as_ref().filter(|cpus| cpus.and(&all).is_empty()) {
        let message = format!("engines are to run on the processors {cpus}, and this machine has {all}");
        return Err(Failure::new(Exit::Usage, message).hint("correct cpus in [engine] of the configuration file"));
    }
    if settings.threads == 0 {
        (settings.threads, settings.cpus) = match settings.cpus {
            None => probe.topology.placement(),
            Some(cpus) => (probe.topology.cores(Some(&cpus)), Some(cpus)),
        };
    }
    Ok(settings)
}

/// What the profile says about engines, in the engine's own terms.
fn engine_settings(profile: &Profile) -> EngineSettings {
    let engine = &profile.engine;
    EngineSettings {
        threads: engine.threads.unwrap_or(0),
        cpus: engine.cpus.clone(),
        context: engine.context,
        sequences: engine.sequences,
        cells: engine.cells,
        batch: engine.batch,
        chunk_ms: engine.chunk_ms,
        speculate: engine.speculate,
        flash_attention: engine.flash_attention,
        kv_type_k: engine.kv_type_k,
        kv_type_v: engine.kv_type_v,
        kv_memory_mib: engine.kv_memory_mib,
        kv_disk_mib: engine.kv_disk_mib,
        ..EngineSettings::default()
    }
}

/// The engine's program: as configured, else beside this program, else on the PATH.
pub(crate) fn engine_binary(config: &ConfigFile) -> Result<PathBuf, Failure> {
    let missing = |place: &str| {
        Failure::new(Exit::NotFound, format!("the program {ENGINE} is missing: {place}"))
            .hint("build it with `make build`, or name it in the configuration file: [engine] binary")
    };
    if let Some(configured) = &config.engine.binary {
        let path = config.resolve(configured);
        return if is_program(&path) { Ok(path) } else { Err(missing(&format!("{} is no program", path.display()))) };
    }
    let beside = env::current_exe().ok().and_then(|program| Some(program.parent()?.join(ENGINE)));
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).map(|folder| folder.join(ENGINE));
    let found = beside.into_iter().chain(on_path).find(|path| is_program(path));
    found.ok_or_else(|| missing("it is neither beside allerac nor on the PATH"))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// What is to be said of models that are to guess and are not there, and what to do. A model that is not installed
/// misses none.
pub(crate) fn missing_drafts(drafts: &BTreeMap<String, String>, installed: &[Installed]) -> Vec<(String, String)> {
    let has = |id: &str| installed.iter().any(|model| model.id == id);
    let missing = drafts.iter().filter(|(model, draft)| has(model) && !has(draft));
    let say = |(model, draft): (&String, &String)| {
        let what = format!("{model} answers without its draft model {draft}, which is not installed");
        let hint = match Catalogue::builtin().get(draft) {
            Some(_) => format!("fetch it with `allerac models pull {draft}`"),
            None => {
                "the catalogue does not have it either; correct [engine] drafts in the configuration file".to_owned()
            }
        };
        (what, hint)
    };
    missing.map(say).collect()
}

/// The model loaded at the start: the first preferred one that is here, else the first installed one to chat with.
fn default_model(config: &ConfigFile, preferred: &[String], installed: &[Installed]) -> Option<String> {
    let installed: Vec<&Installed> = installed.iter().filter(|model| model.kind == ModelKind::Chat).collect();
    let has = |id: &str| installed.iter().any(|model| model.id == id);
    if let Some(missing) = config.engine.default_model.as_deref().filter(|id| !has(id)) {
        tracing::warn!(
            model = missing,
            "the configured default model is not installed, or no model to chat with; fetch it with `allerac models pull {missing}`"
        );
    }
    let kinds = installed.iter().map(|model| (model.id.as_str(), model.kind));
    allerac_router_core::default_model(preferred, kinds).map(str::to_owned)
}

/// The models to begin with, where they are there: as configured, else what is worth having, else the starter.
fn preferred(config: &ConfigFile, profile: &Profile, worth_having: &[String]) -> Vec<String> {
    let configured = config.engine.default_model.iter();
    configured.chain(worth_having).chain([&profile.starter_model]).cloned().collect()
}

/// The profile's models for which there is memory: a profile is of a kind of machine, and this one may have less.
pub(crate) fn worth_having(profile: &Profile, settings: &EngineSettings, memory_bytes: u64) -> Vec<String> {
    let plan = allerac_router_core::plan(settings);
    let fits = |id: &&String| {
        let facts = Catalogue::builtin().get(id).and_then(Facts::of_entry);
        facts.is_some_and(|facts| facts.needed(&plan).lasting() <= memory_bytes)
    };
    profile.models.iter().filter(fits).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use allerac_hardware::{CpuSet, Topology};

    const GIB: u64 = 1 << 30;

    fn named(name: &str) -> (Profile, EngineSettings) {
        let profile = Profile::named(name).unwrap();
        let settings = engine_settings(&profile);
        (profile, settings)
    }

    #[test]
    fn the_catalogue_has_every_model_that_a_profile_names() {
        for name in ["lite", "home", "pro", "generic"] {
            let (profile, settings) = named(name);
            assert!(Catalogue::builtin().get(&profile.starter_model).is_some(), "{name}");
            assert_eq!(worth_having(&profile, &settings, u64::MAX), profile.models, "{name}");
        }
    }

    #[test]
    fn what_the_memory_does_not_hold_is_not_recommended() {
        let worth = |name: &str, gib: u64| {
            let (profile, settings) = named(name);
            worth_having(&profile, &settings, gib * GIB)
        };
        // What is left for models of 16, 32 and 64 GiB; then machines that have too little for the best ones.
        assert_eq!(worth("lite", 14)[0], "qwen2.5-7b-instruct");
        assert_eq!(worth("home", 28)[0], "qwen2.5-14b-instruct");
        assert_eq!(worth("pro", 60)[0], "qwen3-30b-a3b-instruct-2507");
        assert_eq!(worth("lite", 4), ["deepseek-r1-distill-qwen-1.5b"]);
        assert_eq!(worth("home", 2), [""; 0]);
    }

    #[test]
    fn the_starter_answers_until_something_better_is_there() {
        let (profile, settings) = named("lite");
        let worth = worth_having(&profile, &settings, 14 * GIB);
        let config = ConfigFile::default();
        let order = preferred(&config, &profile, &worth);
        assert_eq!(order, ["qwen2.5-7b-instruct", "deepseek-r1-distill-qwen-1.5b", "smollm2-135m-instruct"]);
        let model = |id: &'static str| (id, ModelKind::Chat);
        let default = |here: &[&'static str]| {
            allerac_router_core::default_model(&order, here.iter().map(|id| model(id))).map(str::to_owned)
        };
        assert_eq!(default(&["a", "smollm2-135m-instruct"]).as_deref(), Some("smollm2-135m-instruct"));
        assert_eq!(
            default(&["smollm2-135m-instruct", "deepseek-r1-distill-qwen-1.5b"]).as_deref(),
            Some("deepseek-r1-distill-qwen-1.5b")
        );
    }

    #[test]
    fn threads_are_one_a_core_unless_somebody_says_otherwise() {
        let config = |text: &str| toml::from_str::<ConfigFile>(text).unwrap();
        let probe =
            |topology: Topology| Probe { cpu_model: String::new(), features: Vec::new(), topology, memory_bytes: 0 };
        let here = Topology::probe();
        let (profile, _) = named("generic");
        let on = |text: &str| {
            let settings = settings(&config(text), &profile, &probe(here.clone()), &Tuned::Not).unwrap();
            (settings.threads, settings.cpus)
        };
        assert_eq!(on(""), here.placement());
        let first: CpuSet = here.all().iter().take(1).collect();
        assert_eq!(on(&format!("[engine]\ncpus = \"{first}\"")), (1, Some(first)));
        assert_eq!(on("[engine]\nthreads = 1"), (1, None));
    }
}
