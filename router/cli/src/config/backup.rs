use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use allerac_backup::{Keep, Lock, S3Config, Target};
use serde::Deserialize;

use super::load::Bounded;
use crate::failure::{Exit, Failure};

/// Once a day.
const EVERY_MINUTES: u32 = 1440;
/// What is larger is sent in parts: few requests, and little to send again.
const PART_MIB: u32 = 64;

/// `[backup]`: when backups are made, where they go, what seals them and which stay.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BackupSection {
    folder: Option<PathBuf>,
    /// The folder must be on another disk than the data.
    other_disk: bool,
    s3: Option<S3Section>,
    passphrase_file: Option<PathBuf>,
    recipients: Vec<String>,
    every_minutes: Option<Bounded<15, 525_600>>,
    keep_last: Option<Bounded<1, 10_000>>,
    keep_daily: Option<Bounded<0, 10_000>>,
    keep_weekly: Option<Bounded<0, 10_000>>,
    keep_monthly: Option<Bounded<0, 10_000>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct S3Section {
    endpoint: String,
    bucket: String,
    #[serde(default = "first_region")]
    region: String,
    #[serde(default)]
    prefix: String,
    #[serde(default = "yes")]
    path_style: bool,
    access_key_file: PathBuf,
    secret_key_file: PathBuf,
    part_mib: Option<Bounded<5, 1024>>,
}

fn first_region() -> String {
    "us-east-1".to_owned()
}

fn yes() -> bool {
    true
}

/// Backups that are made by themselves.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    pub(crate) target: Target,
    pub(crate) lock: Lock,
    pub(crate) every: Duration,
    pub(crate) keep: Keep,
}

impl BackupSection {
    /// Where backups go; `None` where nothing is said. `folder` is the file's.
    pub(crate) fn target(&self, folder: &Path) -> Result<Option<Target>, Failure> {
        match (&self.folder, &self.s3) {
            (Some(_), Some(_)) => Err(mistake("[backup] names a folder and a store", "leave one of them out")),
            (Some(path), None) => Ok(Some(Target::folder(folder.join(path), self.other_disk))),
            (None, Some(s3)) => Ok(Some(Target::s3(s3.config(folder)?)?)),
            (None, None) => Ok(None),
        }
    }

    /// What seals them; `None` where nothing is said.
    pub(crate) fn lock(&self, folder: &Path) -> Result<Option<Lock>, Failure> {
        let lock = match (&self.passphrase_file, self.recipients.as_slice()) {
            (Some(_), [_, ..]) => {
                return Err(mistake("[backup] has a passphrase_file and recipients", "leave one of them out"));
            }
            (Some(path), []) => Lock::Passphrase(line(&folder.join(path))?),
            (None, []) => return Ok(None),
            (None, recipients) => Lock::Recipients(recipients.to_vec()),
        };
        lock.check()?;
        Ok(Some(lock))
    }

    /// What is made by itself; `None` where no place is named.
    pub(crate) fn schedule(&self, folder: &Path) -> Result<Option<Schedule>, Failure> {
        let Some(target) = self.target(folder)? else { return Ok(None) };
        let lock = self.lock(folder)?.ok_or_else(|| {
            mistake("[backup] names nothing that seals backups", "give passphrase_file, or recipients")
        })?;
        let minutes = self.every_minutes.map_or(EVERY_MINUTES, Bounded::get);
        let keep = Keep {
            last: self.keep_last.map_or(3, Bounded::get),
            daily: self.keep_daily.map_or(7, Bounded::get),
            weekly: self.keep_weekly.map_or(4, Bounded::get),
            monthly: self.keep_monthly.map_or(6, Bounded::get),
        };
        Ok(Some(Schedule { target, lock, every: Duration::from_secs(u64::from(minutes) * 60), keep }))
    }
}

impl S3Section {
    fn config(&self, folder: &Path) -> Result<S3Config, Failure> {
        Ok(S3Config {
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
            path_style: self.path_style,
            access_key: line(&folder.join(&self.access_key_file))?,
            secret_key: line(&folder.join(&self.secret_key_file))?,
            part_bytes: u64::from(self.part_mib.map_or(PART_MIB, Bounded::get)) << 20,
        })
    }
}

fn mistake(message: &str, hint: &str) -> Failure {
    Failure::new(Exit::Usage, message).hint(hint)
}

/// A secret of one line in a file.
pub(crate) fn line(path: &Path) -> Result<String, Failure> {
    let text = fs::read_to_string(path).map_err(|error| {
        Failure::from_io("read the secret in", path, &error).hint("correct its path, or make it readable for this user")
    })?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() || text.contains(char::is_control) {
        let message = format!("{} is not one line of text", path.display());
        return Err(mistake(&message, "write the secret alone into the file"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(text: &str) -> BackupSection {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_schedule_needs_a_place_and_a_seal() {
        let folder = tempfile::tempdir().unwrap();
        let schedule = |text: &str| section(text).schedule(folder.path());
        assert!(schedule("").unwrap().is_none());
        let unsealed = schedule("folder = 'x'").unwrap_err();
        assert_eq!(unsealed.exit, Exit::Usage);
        let message = schedule("folder = 'x'\nrecipients = ['age1x']").unwrap_err().into_parts().0;
        assert!(message.contains("`age1x` is no age recipient"), "{message}");
        fs::write(folder.path().join("p"), "four words of it\n").unwrap();
        let daily = schedule("folder = 'x'\npassphrase_file = 'p'").unwrap().unwrap();
        assert_eq!(daily.every, Duration::from_secs(86_400));
        assert_eq!(daily.keep, Keep { last: 3, daily: 7, weekly: 4, monthly: 6 });
        assert_eq!(daily.target.describe(), folder.path().join("x").display().to_string());
        fs::write(folder.path().join("p"), "\n").unwrap();
        assert!(schedule("folder = 'x'\npassphrase_file = 'p'").is_err(), "an empty passphrase");
        assert!(schedule("folder = 'x'\npassphrase_file = 'nowhere'").is_err());
        let both = schedule("folder = 'x'\npassphrase_file = 'p'\nrecipients = ['age1x']").unwrap_err();
        assert!(both.into_parts().0.contains("a passphrase_file and recipients"));
    }
}
