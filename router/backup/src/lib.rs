//! Backups: everything that a box knows of its people in one file, sealed so that it can lie anywhere.
//!
//! A backup is an [age](https://age-encryption.org/v1) file, sealed with a passphrase or to recipients; in it a gzipped
//! tar archive: `manifest.json` first, then the files that it names. So `age -d FILE | tar -xz` opens it without this
//! program. Models are not in it; their names are.
//!
//! # What is of which moment
//! What people keep is copied first, the ledger after it, each as it stands at one moment. So each answer in the copy
//! is paid for in the copy. A request that is paid and whose answer is missing (a line of a batch) is computed again
//! under its name and charged for once. What is open at the ledger's moment is settled in the copy as after a crash.

mod check;
mod error;
mod keep;
mod key;
mod manifest;
mod name;
mod pack;
mod restore;
mod target;
mod unpack;

pub use check::{Checked, check};
pub use error::BackupError;
pub use keep::Keep;
pub use key::{Lock, Unlock};
pub use manifest::{FORMAT, Manifest};
pub use name::Name;
pub use pack::{Made, What, create};
pub use restore::{Restored, finish, restore};
pub use target::{S3Config, Stored, Target};
pub use unpack::unpack;
