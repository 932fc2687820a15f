//! `allerac-install.toml`, the file on a stick's boot partition by which an installation needs nobody.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::plan::{Request, Treatment};

/// Where the boot partition that the system was started from is mounted.
const FOLDERS: [&str; 2] = ["/efi", "/boot"];
const NAME: &str = "allerac-install.toml";
/// What the file is called once it was followed.
const DONE_NAME: &str = "allerac-install.done.toml";
/// What went wrong, for who has no screen.
const ERROR_NAME: &str = "allerac-install.error.txt";
/// A file that is longer is no seed.
const BYTES_MAX: u64 = 16 * 1024;
const VERSION: u32 = 1;

/// What the file says.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seed {
    version: u32,
    /// Of the disk to install on.
    serial: String,
    /// The same again: everything on the disk may go.
    #[serde(default)]
    replace: Option<String>,
    /// What a box remembers on that disk stays.
    #[serde(default)]
    preserve: bool,
    #[serde(default)]
    pub(crate) then: Then,
}

/// What the machine does afterwards.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Then {
    #[default]
    PowerOff,
    Restart,
}

impl Then {
    /// What systemctl calls it.
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Self::PowerOff => "poweroff",
            Self::Restart => "reboot",
        }
    }
}

impl Seed {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let seed: Self = toml::from_str(text).context("it is not written as it should be")?;
        if seed.version != VERSION {
            bail!("it is of version {}, and this stick knows version {VERSION}", seed.version);
        }
        if seed.serial.trim().is_empty() {
            bail!("`serial` is empty; it names the disk to install on");
        }
        match &seed.replace {
            Some(_) if seed.preserve => bail!("`replace` and `preserve` exclude each other"),
            Some(replace) if *replace != seed.serial => bail!("`replace` must be the same as `serial`"),
            _ => Ok(seed),
        }
    }

    pub(crate) fn request(&self) -> Request {
        let treatment = match (&self.replace, self.preserve) {
            (Some(_), _) => Treatment::Replace,
            (None, true) => Treatment::Preserve,
            (None, false) => Treatment::Empty,
        };
        Request { serial: self.serial.trim().to_owned(), treatment }
    }
}

/// The file, where there is one.
pub(crate) struct SeedFile(PathBuf);

impl SeedFile {
    pub(crate) fn find() -> Option<Self> {
        FOLDERS.iter().map(|folder| Path::new(folder).join(NAME)).find(|file| file.is_file()).map(Self)
    }

    pub(crate) fn read(&self) -> anyhow::Result<Seed> {
        let read = || {
            if fs::metadata(&self.0)?.len() > BYTES_MAX {
                bail!("it is longer than {BYTES_MAX} bytes");
            }
            Seed::parse(&fs::read_to_string(&self.0)?)
        };
        read().with_context(|| format!("cannot follow {NAME}"))
    }

    /// It was followed: it is not followed again.
    pub(crate) fn done(&self) -> io::Result<()> {
        fs::rename(&self.0, self.0.with_file_name(DONE_NAME))?;
        match fs::remove_file(self.0.with_file_name(ERROR_NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => sync(&self.0),
        }
    }

    pub(crate) fn failed(&self, why: &str) -> io::Result<()> {
        fs::write(self.0.with_file_name(ERROR_NAME), format!("{why}\n"))?;
        sync(&self.0)
    }
}

/// A stick is pulled out when its reader pleases.
fn sync(file: &Path) -> io::Result<()> {
    let folder = fs::File::open(file.parent().unwrap_or(Path::new("/")))?;
    Ok(rustix::fs::syncfs(&folder)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_names_a_disk_and_what_becomes_of_it() {
        let seed = Seed::parse("version = 1\nserial = \"A1\"\n").unwrap();
        assert_eq!(seed.request(), Request { serial: "A1".to_owned(), treatment: Treatment::Empty });
        assert_eq!(seed.then.verb(), "poweroff");
        let seed = Seed::parse("version = 1\nserial = \"A1\"\nreplace = \"A1\"\nthen = \"restart\"\n").unwrap();
        assert_eq!((seed.request().treatment, seed.then.verb()), (Treatment::Replace, "reboot"));
        let seed = Seed::parse("version = 1\nserial = \"A1\"\npreserve = true\n").unwrap();
        assert_eq!(seed.request().treatment, Treatment::Preserve);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, told) in [
            ("serial = \"A1\"", "missing field `version`"),
            ("version = 2\nserial = \"A1\"", "version 2"),
            ("version = 1", "missing field `serial`"),
            ("version = 1\nserial = \" \"", "`serial` is empty"),
            ("version = 1\nserial = \"A1\"\nreplace = \"B2\"", "must be the same"),
            ("version = 1\nserial = \"A1\"\nreplace = \"A1\"\npreserve = true", "exclude each other"),
            ("version = 1\nserial = \"A1\"\ndisk = \"/dev/sda\"", "unknown field `disk`"),
            ("version = 1\nserial = \"A1\"\nthen = \"dance\"", "unknown variant `dance`"),
            ("version", "not written as it should be"),
        ] {
            let error = format!("{:#}", Seed::parse(text).unwrap_err());
            assert!(error.contains(told), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_seed_is_followed_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = SeedFile(folder.path().join(NAME));
        fs::write(&file.0, "version = 1\nserial = \"A1\"\n").unwrap();
        file.failed("no disk has it").unwrap();
        assert_eq!(fs::read_to_string(folder.path().join(ERROR_NAME)).unwrap(), "no disk has it\n");
        assert_eq!(file.read().unwrap().serial, "A1");
        file.done().unwrap();
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [DONE_NAME]);
        fs::write(&file.0, "#".repeat(20_000)).unwrap();
        assert_eq!(
            format!("{:#}", file.read().unwrap_err()),
            "cannot follow allerac-install.toml: it is longer than 16384 bytes"
        );
    }
}
