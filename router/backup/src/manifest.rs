//! What a backup says of itself.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::BackupError;

/// The format of the backups that this program makes: what files are in it, and what they are called.
pub const FORMAT: u32 = 1;

/// The first file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format.
    pub format: u32,
    /// Which program made it.
    pub made_by: String,
    /// When.
    pub made_at: Timestamp,
    /// The box's name.
    pub name: String,
    /// Requests that were open, and are settled in it: charged what was counted.
    pub charged: u32,
    /// Requests that were open and had not started.
    pub released: u32,
    /// The models that were installed.
    pub models: Vec<String>,
    /// What follows it.
    pub files: Vec<Packed>,
}

/// A file in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// What it is called in the data directory.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its hash, in hexadecimal.
    pub blake3: String,
}

impl Manifest {
    /// Reads one, and only of a format that is known.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, BackupError> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
            made_by: String,
        }
        let damaged = |error: serde_json::Error| BackupError::Damaged(format!("its manifest cannot be read: {error}"));
        let head: Head = serde_json::from_slice(text).map_err(damaged)?;
        match head.format {
            FORMAT => serde_json::from_slice(text).map_err(damaged),
            newer if newer > FORMAT => Err(BackupError::Newer(format!("{}, format {newer}", head.made_by))),
            older => Err(BackupError::Older(older)),
        }
    }
}
