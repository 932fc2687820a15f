//! The system that runs, as what is installed is copied from it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::mounted::Mounted;
use super::{MODELS, blocks, models};
use crate::plan::Facts;
use crate::scan;
use crate::table::{RootHash, STATE_NAME};
use crate::tool;

const OS_RELEASE: &str = "/usr/lib/os-release";
/// The partitions that `/usr` is read from; a rule of udev that the image brings makes these names.
const USR: &str = "/dev/allerac/usr";
const VERITY: &str = "/dev/allerac/usr-verity";
/// Where the boot partition is mounted when somebody looks.
const BOOT_FOLDERS: [&str; 2] = ["/efi", "/boot"];
/// The models that every stick brings.
const IMAGE_MODELS: &str = "/usr/share/allerac/models";

pub(crate) struct Source {
    pub(crate) facts: Facts,
    pub(super) usr: PathBuf,
    pub(super) verity: PathBuf,
    pub(super) kernel: PathBuf,
    pub(super) loader: PathBuf,
    /// Stores of models, the more important first.
    pub(super) models: Vec<PathBuf>,
    _mounts: Vec<Mounted>,
}

impl Source {
    /// # Errors
    /// What runs is not the image, or cannot be read.
    pub(crate) fn look() -> anyhow::Result<Self> {
        let release = fs::read_to_string(OS_RELEASE).context("cannot read what this system is")?;
        let version = version(&release).context("this system was not made from Allerac's image")?;
        let root_hash = RootHash::from_command_line(&fs::read_to_string("/proc/cmdline")?)
            .context("this system was started without the hash of its files")?;
        let mut mounts = Vec::new();
        let (kernel, loader) = boot_files(&version, &mut mounts)?;
        let models = stores(&mut mounts)?;
        let size = |path: &str| -> anyhow::Result<u64> {
            let mut device = File::open(path).with_context(|| format!("cannot open {path}"))?;
            Ok(blocks::size(&mut device)?)
        };
        let (usr_bytes, verity_bytes) = (size(USR)?, size(VERITY)?);
        let models_bytes = models::size(&models).context("cannot read the models of this stick")?;
        let facts = Facts { version, root_hash, usr_bytes, verity_bytes, models_bytes };
        Ok(Self { facts, usr: USR.into(), verity: VERITY.into(), kernel, loader, models, _mounts: mounts })
    }
}

/// The kernel's file of the version that runs, and how the boot loader is set.
fn boot_files(version: &str, mounts: &mut Vec<Mounted>) -> anyhow::Result<(PathBuf, PathBuf)> {
    let find = |folder: &Path| {
        let kernel = kernel_in(&folder.join("EFI/Linux"), version)?;
        Some((kernel, folder.join("loader/loader.conf")))
    };
    if let Some(files) = BOOT_FOLDERS.iter().find_map(|folder| find(Path::new(folder))) {
        return Ok(files);
    }
    let booted = scan::booted()?;
    let listing = scan::listing()?;
    let Some(device) = listing.partition(&booted) else {
        bail!("the partition that this system was started from is gone")
    };
    let boot = Mounted::new("vfat", device, "ro,nosuid,nodev")?;
    let files = find(boot.path()).with_context(|| format!("{device} has no kernel of version {version}"));
    mounts.push(boot);
    files
}

/// A version that is still being tried has more in its name.
fn kernel_in(folder: &Path, version: &str) -> Option<PathBuf> {
    let mut files = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    files.find(|file| file.file_name().and_then(|name| name.to_str()).is_some_and(|name| is_kernel(name, version)))
}

fn is_kernel(name: &str, version: &str) -> bool {
    let rest = name.strip_prefix("allerac_").and_then(|name| name.strip_prefix(version));
    rest.is_some_and(|rest| rest == ".efi" || (rest.starts_with('+') && rest.ends_with(".efi")))
}

/// What was fetched while the stick served, and what the image brings.
fn stores(mounts: &mut Vec<Mounted>) -> anyhow::Result<Vec<PathBuf>> {
    let image = PathBuf::from(IMAGE_MODELS);
    let booted = scan::booted()?;
    let listing = scan::listing()?;
    let Some(disk) = listing.disk_of(&booted) else { bail!("the disk that this system was started from is gone") };
    let (table, nodes) = scan::table(disk)?;
    let parts = table.map(|table| table.partitions).unwrap_or_default();
    let state = parts.iter().position(|part| part.name == STATE_NAME).and_then(|place| nodes.get(place));
    let Some(state) = state else { return Ok(vec![image]) };
    let root = tool::run("findmnt", &["--noheadings", "--output", "SOURCE", "/"])?;
    if root.trim() == state {
        return Ok(vec![Path::new("/").join(MODELS), image]);
    }
    // Its journal is not replayed: nothing is written on the stick.
    match Mounted::new("ext4", state, "ro,noload,nosuid,nodev") {
        Ok(mounted) => {
            let store = mounted.path().join(MODELS);
            mounts.push(mounted);
            Ok(vec![store, image])
        }
        Err(error) => {
            eprintln!("note: {error:#}; only the image's own models are installed");
            Ok(vec![image])
        }
    }
}

fn version(os_release: &str) -> Option<String> {
    let value =
        |key: &str| os_release.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim_matches('"'));
    (value("IMAGE_ID=") == Some("allerac")).then(|| value("IMAGE_VERSION=").map(str::to_owned))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_images() {
        assert_eq!(version("ID=debian\nIMAGE_ID=\"allerac\"\nIMAGE_VERSION=\"0.1.0.7\"\n").as_deref(), Some("0.1.0.7"));
        assert_eq!(version("ID=debian\nIMAGE_VERSION=2\n"), None);
        assert_eq!(version("IMAGE_ID=allerac\n"), None);
    }

    #[test]
    fn the_kernel_is_that_of_the_version() {
        for (name, is_it) in [
            ("allerac_0.1.7.efi", true),
            ("allerac_0.1.7+2-1.efi", true),
            ("allerac_0.1.70.efi", false),
            ("allerac_0.1.7.efi.extra.d", false),
            ("debian_0.1.7.efi", false),
        ] {
            assert_eq!(is_kernel(name, "0.1.7"), is_it, "{name}");
        }
    }
}
