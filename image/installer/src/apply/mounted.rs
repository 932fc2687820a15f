//! A file system that is mounted for as long as it is needed, where nobody else looks.

use std::fs;
use std::path::{Path, PathBuf};

use crate::tool;

const FOLDER: &str = "/run/allerac-install";

/// A mount that ends with it.
pub(super) struct Mounted {
    at: PathBuf,
    is_over: bool,
}

impl Mounted {
    pub(super) fn new(kind: &str, device: &str, options: &str) -> anyhow::Result<Self> {
        let name = device.rsplit('/').next().unwrap_or(device);
        let at = Path::new(FOLDER).join(name);
        fs::create_dir_all(&at)?;
        let at_text = at.to_string_lossy();
        tool::run("mount", &["-t", kind, "-o", options, device, &at_text])?;
        Ok(Self { is_over: false, at })
    }

    pub(super) fn path(&self) -> &Path {
        &self.at
    }

    /// Ends it, and tells when that fails: what is written may not be on the disk then.
    pub(super) fn end(mut self) -> anyhow::Result<()> {
        self.is_over = true;
        tool::run("umount", &[&self.at.to_string_lossy()]).map(drop)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if !self.is_over {
            // Something else failed before, which is told.
            let _ = tool::run("umount", &[&self.at.to_string_lossy()]);
        }
    }
}
