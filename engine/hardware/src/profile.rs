//! Hardware profiles: how to recognise a machine, and how to run engines on it.

use std::collections::BTreeMap;

use allerac_engine_core::{FlashAttention, KvType};
use serde::Deserialize;

use crate::cpus::CpuSet;
use crate::probe::Probe;

/// The version of the format that this program reads.
const VERSION: u32 = 1;

/// In the order in which they are tried; `generic` fits everything.
const BUILTIN: [&str; 4] = [
    include_str!("../../../hw-profiles/lite.toml"),
    include_str!("../../../hw-profiles/home.toml"),
    include_str!("../../../hw-profiles/pro.toml"),
    include_str!("../../../hw-profiles/generic.toml"),
];

/// A kind of machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    version: u32,
    /// `lite`, `home`, `pro` or `generic`.
    pub name: String,
    /// For people.
    pub description: String,
    #[serde(default)]
    recognise: Recognise,
    /// How engines run on it.
    pub engine: EngineProfile,
    /// Models that are worth having on it, the best first.
    pub models: Vec<String>,
    /// A small one that answers until another one is there.
    pub starter_model: String,
}

/// Which machines are of this kind. An empty list or an absent bound fits all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Recognise {
    /// Parts of the processor's name; one must be in it.
    cpu_models: Vec<String>,
    memory_gib_min: u64,
}

/// How engines run on a machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineProfile {
    /// Compute threads; absent means one a physical core, of the fast ones where there are two kinds.
    pub threads: Option<u32>,
    /// The processors that engines run on; absent means all.
    pub cpus: Option<CpuSet>,
    /// Longest prompt and output together, in tokens.
    pub context: u32,
    /// Requests that decode together.
    pub sequences: u32,
    /// KV cells shared by all of them.
    pub cells: u32,
    /// Tokens computed in one step.
    pub batch: u32,
    /// How long the prompts in one step may take while others generate, in milliseconds.
    pub chunk_ms: u32,
    /// Whether to guess what follows from what came before, where that is measured to pay.
    pub speculate: bool,
    /// Smaller models that guess what larger ones say, by the id of the larger one.
    #[serde(default)]
    pub drafts: BTreeMap<String, String>,
    /// When to use flash attention. Absent: llama.cpp decides.
    #[serde(default)]
    pub flash_attention: FlashAttention,
    /// The numbers in which keys are kept; absent means `f16`.
    #[serde(default)]
    pub kv_type_k: KvType,
    /// The numbers in which values are kept; absent means `f16`.
    #[serde(default)]
    pub kv_type_v: KvType,
    /// Memory for KV that has no place among the cells, in MiB, for each model.
    pub kv_memory_mib: u32,
    /// The same on disk.
    pub kv_disk_mib: u32,
}

/// A profile that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Not of the format.
    #[error("a hardware profile is not valid: {0}")]
    Invalid(#[from] toml::de::Error),
    /// Of another version of it.
    #[error("a hardware profile of version {0} is not of version {VERSION}; update allerac")]
    Version(u32),
}

impl Profile {
    /// The profile of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        builtin().find(|profile| profile.name == name)
    }

    /// The profile that fits a machine.
    #[must_use]
    pub fn detect(probe: &Probe) -> Self {
        builtin().find(|profile| profile.recognise.fits(probe)).expect("generic fits everything")
    }

    /// The part of the processor's name that it goes by: `Ryzen 5 7600`. `None` for the one that fits everything, and where somebody
    /// chose it for a machine that it was not made for.
    #[must_use]
    pub fn reason(&self, probe: &Probe) -> Option<&str> {
        let part = self.recognise.cpu_models.iter().find(|part| probe.cpu_model.contains(*part))?;
        self.recognise.fits(probe).then_some(part)
    }

    /// Reads a profile.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let profile: Self = toml::from_str(text)?;
        if profile.version == VERSION { Ok(profile) } else { Err(ProfileError::Version(profile.version)) }
    }
}

impl Recognise {
    fn fits(&self, probe: &Probe) -> bool {
        // Firmware and integrated graphics take some of the memory that is printed on the box.
        let enough = probe.memory_bytes >= (self.memory_gib_min << 30) / 10 * 9;
        let known = self.cpu_models.is_empty() || self.cpu_models.iter().any(|part| probe.cpu_model.contains(part));
        enough && known
    }
}

fn builtin() -> impl Iterator<Item = Profile> {
    BUILTIN.iter().map(|text| Profile::parse(text).expect("a test reads every profile"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Topology;

    fn detected(cpu_model: &str, memory_gib: u64) -> String {
        let probe = Probe {
            cpu_model: cpu_model.into(),
            features: Vec::new(),
            topology: Topology::default(),
            memory_bytes: memory_gib << 30,
        };
        Profile::detect(&probe).name
    }

    #[test]
    fn machines_of_the_line_are_recognised() {
        assert_eq!(detected("Intel(R) N100", 16), "lite");
        assert_eq!(detected("13th Gen Intel(R) Core(TM) i5-13400", 32), "home");
        assert_eq!(detected("AMD Ryzen 5 7600 6-Core Processor", 31), "home");
        assert_eq!(detected("13th Gen Intel(R) Core(TM) i7-13700", 64), "pro");
        assert_eq!(detected("AMD Ryzen 7 7700X 8-Core Processor", 64), "pro");
        assert_eq!(detected("13th Gen Intel(R) Core(TM) i7-13700", 16), "generic");
        assert_eq!(detected("AMD EPYC", 24), "generic");
        let probe = Probe {
            cpu_model: "Intel(R) N100".into(),
            features: Vec::new(),
            topology: Topology::default(),
            memory_bytes: 16 << 30,
        };
        let reason = |name| Profile::named(name).unwrap().reason(&probe).map(str::to_owned);
        assert_eq!((reason("lite").as_deref(), reason("home"), reason("generic")), (Some("N100"), None, None));
    }

    #[test]
    fn every_profile_is_valid_and_named() {
        for name in ["lite", "home", "pro", "generic"] {
            let profile = Profile::named(name).unwrap();
            let engine = &profile.engine;
            assert!(engine.cells >= engine.context && engine.batch >= engine.sequences, "{name}");
            assert_eq!(profile.starter_model, "smollm2-135m-instruct", "{name}");
            let drafts = engine.drafts.iter().flat_map(|(model, draft)| [model, draft]);
            assert!(drafts.into_iter().all(|id| profile.models.contains(id)), "{name}");
        }
        assert_eq!(builtin().count(), BUILTIN.len());
        assert_eq!(Profile::named("none"), None);
    }

    #[test]
    fn models_that_guess_are_named_by_those_that_they_guess_for() {
        let text = include_str!("../../../hw-profiles/lite.toml")
            .replace("[engine]", "[engine]\ndrafts = { big = \"small\" }");
        assert_eq!(Profile::parse(&text).unwrap().engine.drafts["big"], "small");
    }

    #[test]
    fn each_mistake_is_named() {
        let valid = include_str!("../../../hw-profiles/lite.toml");
        for (from, to, said) in [
            ("version = 1", "version = 9", "version 9"),
            ("context =", "contexts =", "unknown field `contexts`"),
            ("sequences = ", "sequences = -", "invalid value"),
            ("speculate = true", "speculate = true\nkv_type_k = \"q9\"", "unknown variant `q9`"),
            ("speculate = true", "speculate = true\ncpus = \"p\"", "no list of processors"),
            ("memory_gib_min", "memory_gb_min", "unknown field `memory_gb_min`"),
            ("starter_model =", "#", "missing field `starter_model`"),
        ] {
            let error = Profile::parse(&valid.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
