//! The file of a measurement.

use serde::{Deserialize, Serialize};

use super::{Choice, Trial};
use crate::bandwidth::Bandwidth;
use crate::cpus::CpuSet;
use crate::probe::Probe;

/// The version of the format that this program reads.
const VERSION: u32 = 1;

/// As many threads, and tokens in one step, as the configuration file may ask for.
const THREADS_MAX: u32 = 1024;
const BATCH_MAX: u32 = 8192;

/// What was chosen, what it was chosen from, and what it was measured on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    version: u32,
    /// When, as RFC 3339 has it.
    pub measured_at: String,
    /// The model that was measured with.
    pub model: String,
    /// Its file's digest.
    pub model_sha256: String,
    /// The processor's name.
    pub cpu_model: String,
    /// Processors that could be used.
    pub processors: u32,
    /// Of the engine.
    pub engine_version: String,
    /// Whether less was measured, once.
    pub quick: bool,
    /// Whether it was believed although other programs were at work.
    pub busy: bool,
    /// What was chosen.
    pub engine: Choice,
    /// How fast memory is read.
    #[serde(default)]
    pub bandwidth: Vec<Bandwidth>,
    /// What it was chosen from; the first is what would be used without measuring.
    #[serde(default, rename = "trial")]
    pub trials: Vec<Trial>,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TuningError {
    /// Not of the format.
    #[error("{0}")]
    Invalid(#[from] toml::de::Error),
    /// Of another version of it.
    #[error("it is of version {0}, and this program knows version {VERSION}")]
    Version(u32),
    /// A number that no measurement can have chosen.
    #[error("`{key}` in [engine] is {value}, which is not between 1 and {max}")]
    Number {
        /// Its key.
        key: &'static str,
        /// It.
        value: u32,
        /// The most that it may be.
        max: u32,
    },
    /// Settings that cannot be used together.
    #[error(transparent)]
    Attention(#[from] allerac_engine_core::AttentionError),
}

/// Why a measurement says nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// Another processor.
    #[error("it was measured on {then}, and this is {now}")]
    Processor {
        /// The name then.
        then: String,
        /// The name now.
        now: String,
    },
    /// More or fewer processors.
    #[error("it was measured with {then} processors, and now there are {now}")]
    Processors {
        /// Then.
        then: u32,
        /// Now.
        now: u32,
    },
    /// Other processors.
    #[error("it chose the processors {chosen}, and this machine has {now}")]
    Cpus {
        /// The choice.
        chosen: CpuSet,
        /// Those that can be used.
        now: CpuSet,
    },
    /// Another engine.
    #[error("it was measured with version {then}, and this is {now}")]
    Version {
        /// Then.
        then: String,
        /// Now.
        now: String,
    },
}

/// Only to learn the version of a file whose other keys may be unknown.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Tuning {
    /// Of the present version, without measurements yet.
    #[must_use]
    pub fn new(probe: &Probe, engine_version: &str, engine: Choice) -> Self {
        Self {
            version: VERSION,
            measured_at: String::new(),
            model: String::new(),
            model_sha256: String::new(),
            cpu_model: probe.cpu_model.clone(),
            processors: probe.topology.processors(),
            engine_version: engine_version.to_owned(),
            quick: false,
            busy: false,
            engine,
            bandwidth: Vec::new(),
            trials: Vec::new(),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`TuningError`].
    pub fn parse(text: &str) -> Result<Self, TuningError> {
        let Versioned { version } = toml::from_str(text)?;
        if version != VERSION {
            return Err(TuningError::Version(version));
        }
        let tuning: Self = toml::from_str(text)?;
        let Choice { threads, threads_batch, batch, .. } = tuning.engine;
        for (key, value, max) in [
            ("threads", threads, THREADS_MAX),
            ("threads_batch", threads_batch, THREADS_MAX),
            ("batch", batch, BATCH_MAX),
        ] {
            if value == 0 || value > max {
                return Err(TuningError::Number { key, value, max });
            }
        }
        tuning.engine.attention().check()?;
        Ok(tuning)
    }

    /// The file's text.
    ///
    /// # Panics
    /// Never: everything in it can be written as TOML.
    #[must_use]
    pub fn render(&self) -> String {
        let body = toml::to_string(self).expect("tables of numbers and words");
        format!(
            "# Written by `allerac tune`, which measures anew. Without this file the hardware profile holds.\n{body}"
        )
    }

    /// Why it does not hold for this machine and this version; `None` while it does.
    #[must_use]
    pub fn stale(&self, probe: &Probe, engine_version: &str) -> Option<Stale> {
        let (now, processors) = (&probe.cpu_model, probe.topology.processors());
        if self.cpu_model != *now {
            return Some(Stale::Processor { then: self.cpu_model.clone(), now: now.clone() });
        }
        if self.processors != processors {
            return Some(Stale::Processors { then: self.processors, now: processors });
        }
        let all = probe.topology.all();
        if let Some(chosen) = self.engine.cpus.as_ref().filter(|chosen| chosen.and(&all) != **chosen) {
            return Some(Stale::Cpus { chosen: chosen.clone(), now: all });
        }
        let version = (self.engine_version.clone(), engine_version.to_owned());
        (version.0 != version.1).then_some(Stale::Version { then: version.0, now: version.1 })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{choice, trial};
    use super::*;
    use crate::topology::fixtures::{i5_13400, n100};

    fn probe() -> Probe {
        let cpu_model = "13th Gen Intel(R) Core(TM) i5-13400".to_owned();
        Probe { cpu_model, features: Vec::new(), topology: i5_13400(), memory_bytes: 0 }
    }

    fn tuning() -> Tuning {
        let engine = Choice { cpus: Some("0-11".parse().unwrap()), ..choice(6) };
        let failed =
            Trial { failure: Some("no memory".into()), measured: Vec::new(), ..trial(choice(3), 1.0, 1.0, 1.0) };
        Tuning {
            measured_at: "2026-11-03T12:00:00Z".into(),
            model: "m".into(),
            model_sha256: "ab".into(),
            bandwidth: vec![Bandwidth { threads: 1, gigabytes_per_second: 20.5 }],
            trials: vec![trial(choice(10), 300.0, 50.5, 100.0), trial(engine.clone(), 310.0, 60.0, 110.0), failed],
            ..Tuning::new(&probe(), "0.1.0", engine)
        }
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let text = tuning().render();
        assert_eq!(Tuning::parse(&text).unwrap(), tuning(), "{text}");
        assert!(text.contains("[engine]\nthreads = 6\nthreads_batch = 6\ncpus = \"0-11\"\n"), "{text}");
    }

    #[test]
    fn each_mistake_is_named() {
        let valid = tuning().render();
        for (from, to, said) in [
            ("version = 1", "version = 2", "it is of version 2, and this program knows version 1"),
            ("version = 1", "", "missing field `version`"),
            ("quick = false", "quick = false\nslow = true", "unknown field `slow`"),
            ("threads_batch = 6", "threads_batch = 6\nsequences = 1", "unknown field `sequences`"),
            (
                "threads_batch = 6",
                "threads_batch = 0",
                "`threads_batch` in [engine] is 0, which is not between 1 and 1024",
            ),
            ("batch = 512", "batch = 8193", "`batch` in [engine] is 8193, which is not between 1 and 8192"),
            ("cpus = \"0-11\"", "cpus = \"all\"", "`all` is no list of processors"),
            ("flash_attention = \"auto\"", "flash_attention = \"maybe\"", "unknown variant `maybe`"),
            ("[engine]", "[motor]", "unknown field `motor`"),
        ] {
            assert!(valid.contains(from), "{from}");
            let error = Tuning::parse(&valid.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let impossible =
            valid.replacen("\"auto\"", "\"off\"", 1).replacen("kv_type_v = \"f16\"", "kv_type_v = \"q8_0\"", 1);
        assert!(Tuning::parse(&impossible).unwrap_err().to_string().contains("need flash attention"));
        // A file cut short, as it would be by a power cut if it were not written whole.
        assert!(Tuning::parse(&valid[..valid.len() / 4]).is_err());
    }

    #[test]
    fn it_holds_for_the_machine_and_the_version_it_was_measured_on() {
        let stale = |probe: &Probe, version: &str| tuning().stale(probe, version).map(|stale| stale.to_string());
        assert_eq!(stale(&probe(), "0.1.0"), None);
        let other = Probe { cpu_model: "Intel(R) N100".into(), ..probe() };
        let expected = "it was measured on 13th Gen Intel(R) Core(TM) i5-13400, and this is Intel(R) N100";
        assert_eq!(stale(&other, "0.1.0").as_deref(), Some(expected));
        let fewer = Probe { topology: n100(), ..probe() };
        let expected = "it was measured with 16 processors, and now there are 4";
        assert_eq!(stale(&fewer, "0.1.0").as_deref(), Some(expected));
        // As many processors, but others: what a container may use changed.
        let engine = Choice { cpus: Some("4-19".parse().unwrap()), ..choice(6) };
        let moved = Tuning { engine, ..tuning() }.stale(&probe(), "0.1.0").map(|stale| stale.to_string());
        assert_eq!(moved.as_deref(), Some("it chose the processors 4-19, and this machine has 0-15"));
        let expected = "it was measured with version 0.1.0, and this is 0.2.0";
        assert_eq!(stale(&probe(), "0.2.0").as_deref(), Some(expected));
    }
}
