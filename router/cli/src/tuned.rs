//! What `allerac tune` found, in a file of the data directory, and how it becomes settings.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use allerac_engine_link::EngineSettings;
use allerac_hardware::Probe;
use allerac_hardware::tuning::{Choice, Stale, Tuning};

use crate::failure::Failure;

/// The file in the data directory.
pub(crate) const FILE: &str = "tuned.toml";

/// The version of the engine, which is built and installed together with this program.
pub(crate) const ENGINE_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Whether this machine was tuned.
#[derive(Debug)]
pub(crate) enum Tuned {
    /// Never.
    Not,
    /// It holds.
    Current(Tuning),
    /// It was for another machine or version.
    Stale(Tuning, Stale),
    /// The file says nothing that can be used.
    Unusable(String),
}

impl Tuned {
    /// Reads the file of a data directory.
    pub(crate) fn load(data_dir: &Path, probe: &Probe) -> Self {
        let text = match fs::read_to_string(path(data_dir)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::Not,
            Err(error) => return Self::Unusable(error.to_string()),
        };
        match Tuning::parse(&text) {
            Err(error) => Self::Unusable(error.to_string().trim().replace('\n', " ")),
            Ok(tuning) => match tuning.stale(probe, ENGINE_VERSION) {
                Some(stale) => Self::Stale(tuning, stale),
                None => Self::Current(tuning),
            },
        }
    }

    /// What was chosen, where it holds.
    pub(crate) fn choice(&self) -> Option<&Choice> {
        match self {
            Self::Current(tuning) => Some(&tuning.engine),
            Self::Not | Self::Stale(..) | Self::Unusable(_) => None,
        }
    }

    /// Says once, in the log, whether it is used.
    pub(crate) fn log(&self, data_dir: &Path) {
        let path = path(data_dir);
        let path = path.display();
        match self {
            Self::Not => {}
            Self::Current(tuning) => tracing::info!(at = tuning.measured_at, model = tuning.model, "tuned"),
            Self::Stale(_, why) => tracing::warn!("{path} is not used: {why}; measure again with `allerac tune`"),
            Self::Unusable(why) => tracing::warn!("{path} is not used: {why}; measure again with `allerac tune`"),
        }
    }
}

/// Where the file is.
pub(crate) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE)
}

/// Writes the file whole or not at all, and so that it survives a power cut.
pub(crate) fn save(data_dir: &Path, tuning: &Tuning) -> Result<PathBuf, Failure> {
    let path = path(data_dir);
    let partial = path.with_extension("partial");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(tuning.render().as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, &path)?;
        File::open(data_dir)?.sync_all()
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&partial);
        Failure::from_io("write", &path, &error)
    })?;
    Ok(path)
}

/// Which settings the configuration file has taken into its own hands. Those that belong together are taken together: a
/// number of threads was measured on its processors, numbers of KV with their attention.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Configured {
    pub(crate) threads: bool,
    pub(crate) attention: bool,
    pub(crate) batch: bool,
}

impl Configured {
    /// What they are, for people.
    pub(crate) fn words(self) -> Vec<&'static str> {
        let groups =
            [(self.threads, "threads or processors"), (self.attention, "attention or KV types"), (self.batch, "batch")];
        groups.into_iter().filter(|(is_set, _)| *is_set).map(|(_, what)| what).collect()
    }
}

/// The settings with what was chosen instead, but for what is configured.
pub(crate) fn apply(settings: EngineSettings, choice: &Choice, configured: Configured) -> EngineSettings {
    let mut settings = settings;
    if !configured.threads {
        settings.threads = choice.threads;
        settings.threads_batch = choice.threads_batch;
        settings.cpus.clone_from(&choice.cpus);
    }
    if !configured.attention {
        settings.flash_attention = choice.flash_attention;
        settings.kv_type_k = choice.kv_type_k;
        settings.kv_type_v = choice.kv_type_v;
    }
    if !configured.batch {
        settings.batch = choice.batch;
    }
    settings
}

/// The part of the settings that is found by measuring.
pub(crate) fn choice_of(settings: &EngineSettings) -> Choice {
    Choice {
        threads: settings.threads,
        threads_batch: if settings.threads_batch == 0 { settings.threads } else { settings.threads_batch },
        cpus: settings.cpus.clone(),
        flash_attention: settings.flash_attention,
        kv_type_k: settings.kv_type_k,
        kv_type_v: settings.kv_type_v,
        batch: settings.batch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use allerac_engine_link::{FlashAttention, KvType};

    fn choice() -> Choice {
        Choice {
            threads: 3,
            threads_batch: 6,
            cpus: Some("0-5".parse().unwrap()),
            flash_attention: FlashAttention::Off,
            kv_type_k: KvType::Q8_0,
            kv_type_v: KvType::F16,
            batch: 256,
        }
    }

    #[test]
    fn what_belongs_together_is_applied_together() {
        let plain = EngineSettings { threads: 2, ..EngineSettings::default() };
        let all = apply(plain.clone(), &choice(), Configured::default());
        assert_eq!(choice_of(&all), choice());
        assert_eq!(
            EngineSettings { context: 77, ..all.clone() },
            apply(EngineSettings { context: 77, ..plain.clone() }, &choice(), Configured::default())
        );
        let but = |threads, attention, batch| apply(plain.clone(), &choice(), Configured { threads, attention, batch });
        let attention = but(true, false, true);
        assert_eq!((attention.threads, attention.cpus.clone(), attention.kv_type_k), (2, None, KvType::Q8_0));
        assert_eq!(attention.batch, plain.batch);
        let threads = but(false, true, false);
        assert_eq!((threads.threads_batch, threads.flash_attention, threads.batch), (6, FlashAttention::Auto, 256));
        assert_eq!(but(true, true, true), plain);
    }

    #[test]
    fn a_file_is_current_stale_unusable_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let probe = allerac_hardware::probe();
        let load = || Tuned::load(folder.path(), &probe);
        assert!(matches!(load(), Tuned::Not));
        let anywhere = Choice { cpus: None, ..choice() };
        let tuning = Tuning::new(&probe, ENGINE_VERSION, anywhere.clone());
        let written = save(folder.path(), &tuning).unwrap();
        assert_eq!(load().choice(), Some(&anywhere));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        let mut elsewhere = tuning;
        elsewhere.cpu_model = "another".into();
        save(folder.path(), &elsewhere).unwrap();
        assert!(matches!(load(), Tuned::Stale(_, Stale::Processor { .. })));
        assert_eq!(load().choice(), None);
        fs::write(written, "version = 9").unwrap();
        let Tuned::Unusable(why) = load() else { panic!("it is usable") };
        assert!(why.contains("version 9"), "{why}");
    }
}
