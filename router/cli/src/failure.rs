//! How the program ends: the exit codes, and the two lines that a failure prints.

use std::error::Error;
use std::fmt::{self, Write};
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

use allerac_backup::BackupError;
use allerac_ledger::LedgerError;
use allerac_objects::StoreError;

/// The exit codes; scripts rely on them, so a number never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Success = 0,
    Failure = 1,
    Usage = 2,
    NotFound = 3,
    Conflict = 4,
    Storage = 5,
}

impl Exit {
    const TABLE: [(Self, &'static str); 6] = [
        (Self::Success, "done"),
        (Self::Failure, "failed, or `doctor` found something broken"),
        (Self::Usage, "the command line or the configuration file is wrong"),
        (Self::NotFound, "no such key, user, plan, model or file"),
        (
            Self::Conflict,
            "refused as things are: port in use, another server on the data directory, plan too small or in use",
        ),
        (Self::Storage, "the data directory cannot be written, or the disk is full"),
    ];

    /// The table for `--help`.
    pub(crate) fn help() -> String {
        let mut text = String::from("Exit codes:");
        for (exit, meaning) in Self::TABLE {
            let _ = write!(text, "\n  {}  {meaning}", exit as u8);
        }
        text
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What a command that did not succeed tells its user.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// What happened, without a final dot.
    message: String,
    /// What to do about it.
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What happened, and what to do.
    pub(crate) fn into_parts(self) -> (String, Option<String>) {
        (self.message, self.hint)
    }

    /// From an error of one of our crates, whose messages read "what happened; what to do".
    pub(crate) fn from_error(exit: Exit, error: &dyn Error) -> Self {
        let text = error.to_string();
        let (mut message, hint) = match text.split_once("; ") {
            Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
            None => (text, None),
        };
        let mut source = error.source();
        while let Some(cause) = source {
            // Some messages end with their cause already.
            let cause_text = cause.to_string();
            if !message.ends_with(&cause_text) {
                let _ = write!(message, ": {cause_text}");
            }
            source = cause.source();
        }
        Self { exit, message, hint }
    }

    /// From an error of the file system about a path.
    pub(crate) fn from_io(what: &str, path: &Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Kind;
        let exit = match error.kind() {
            Kind::NotFound => Exit::NotFound,
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem | Kind::StorageFull | Kind::NotADirectory => {
                Exit::Storage
            }
            _ => Exit::Failure,
        };
        Self::new(exit, format!("cannot {what} {}: {error}", path.display()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        let exit = match &error {
            LedgerError::Full | LedgerError::NotWritable { .. } => Exit::Storage,
            LedgerError::InUse(_)
            | LedgerError::AlreadyClaimed
            | LedgerError::PlanForbidsUpstreams { .. }
            | LedgerError::PlanExists(_)
            | LedgerError::PlanInUse { .. }
            | LedgerError::PlanNeeded(_)
            | LedgerError::Conflict { .. }
            | LedgerError::Forbidden(_)
            | LedgerError::OwnerStays => Exit::Conflict,
            LedgerError::UnknownKey(_)
            | LedgerError::UnknownPlan(_)
            | LedgerError::UnknownUser(_)
            | LedgerError::Missing { .. } => Exit::NotFound,
            LedgerError::InvalidName
            | LedgerError::InvalidPlan(_)
            | LedgerError::InvalidIncrease(_)
            | LedgerError::Invalid { .. } => Exit::Usage,
            _ => Exit::Failure,
        };
        Self::from_error(exit, &error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let exit = match &error {
            StoreError::DiskFull | StoreError::NotWritable { .. } => Exit::Storage,
            _ => Exit::Failure,
        };
        Self::from_error(exit, &error)
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let exit = match &error {
            BackupError::Ledger(_) | BackupError::Objects(_) => {
                return match error {
                    BackupError::Ledger(error) => error.into(),
                    BackupError::Objects(error) => error.into(),
                    _ => unreachable!("matched above"),
                };
            }
            BackupError::Io { source, .. } => match source.kind() {
                ErrorKind::NotFound => Exit::NotFound,
                _ => Exit::Storage,
            },
            BackupError::Setting(_) => Exit::Usage,
            BackupError::Unknown { .. } => Exit::NotFound,
            BackupError::HasData(_) | BackupError::Busy(_) | BackupError::SameDisk(_) => Exit::Conflict,
            _ => Exit::Failure,
        };
        Self::from_error(exit, &error)
    }
}

/// Printing failed. Somebody who closed the pipe (`| head`) has read enough: that is no failure.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        let exit = if error.kind() == ErrorKind::BrokenPipe { Exit::Success } else { Exit::Failure };
        Self::new(exit, format!("cannot print: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_messages_split_into_error_and_hint() {
        let source = std::io::Error::from(ErrorKind::PermissionDenied);
        let failure = Failure::from(LedgerError::NotWritable { path: "/data".into(), source });
        assert_eq!(failure.exit, Exit::Storage);
        let expected = "error: cannot write to /data: permission denied\n\
                        hint: check that the directory exists and belongs to this user";
        assert_eq!(failure.to_string(), expected);
    }

    #[test]
    fn the_exit_codes_keep_their_numbers() {
        let numbers = Exit::TABLE.map(|(exit, _)| exit as u8);
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
        assert!(Exit::help().contains("\n  4  refused"));
    }
}
