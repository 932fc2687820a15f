//! Where this box keeps its data.

use std::env;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use allerac_ledger::{Ledger, Options, Postgres};
use jiff::tz::TimeZone;

use crate::args::Place;
use crate::failure::{Exit, Failure};
use crate::output;

impl Place {
    /// The data directory: the flag or `ALLERAC_DATA_DIR`, else the user's own.
    pub(crate) fn data_dir(&self) -> Result<PathBuf, Failure> {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let given = self.data_dir.clone().filter(|path| !path.as_os_str().is_empty());
        let chosen = given
            .or_else(|| set("XDG_DATA_HOME").map(|base| base.join("allerac")))
            .or_else(|| set("HOME").map(|home| home.join(".local/share/allerac")));
        let chosen = chosen.ok_or_else(|| {
            Failure::new(Exit::Usage, "there is no place for the data: HOME is not set").hint("use --data-dir DIR")
        })?;
        std::path::absolute(&chosen).map_err(|error| Failure::from_io("use", &chosen, &error))
    }

    /// The time zone of days and months: the flag or `ALLERAC_TIME_ZONE`, else what the server was last told, else the
    /// system's.
    pub(crate) fn time_zone(&self) -> TimeZone {
        let kept = || allerac_ledger::time_zone(&self.data_dir().ok()?, self.database().ok()?.as_ref());
        self.time_zone.clone().or_else(kept).unwrap_or_else(TimeZone::system)
    }

    /// The ledger, made where it is missing. What is changed in it was done by whoever typed the command.
    pub(crate) fn ledger(&self) -> Result<Ledger, Failure> {
        let data_dir = self.data_dir()?;
        finish_restore(&data_dir)?;
        let ledger = Ledger::open_with(&data_dir, self.time_zone(), self.options()?)?;
        Ok(ledger.acting_as(&format!("command line, user {}", user())))
    }

    /// The ledger, where there is one: what only looks makes nothing.
    pub(crate) fn existing_ledger(&self) -> Result<Ledger, Failure> {
        let data_dir = self.data_dir()?;
        finish_restore(&data_dir)?;
        if self.database()?.is_none() && !data_dir.join("ledger.db").exists() {
            return Err(Failure::new(Exit::NotFound, format!("there is no ledger in {}", data_dir.display()))
                .hint("start the server once, or choose another directory with --data-dir"));
        }
        self.ledger()
    }

    /// The database's server that the ledger is on, if it is on one.
    pub(crate) fn database(&self) -> Result<Option<Postgres>, Failure> {
        let Some(address) = self.database.as_ref().filter(|address| !address.is_empty()) else { return Ok(None) };
        Ok(Some(database(address, self.database_ca.as_ref())?))
    }

    /// How the ledger is opened. Tests have each of its commits checked.
    pub(crate) fn options(&self) -> Result<Options, Failure> {
        let check = env::var_os("ALLERAC_CHECK_BOOKS").is_some();
        Ok(Options { check, database: self.database()?, ..Options::default() })
    }
}

/// A database's server by its address.
pub(crate) fn database(address: &str, authorities: Option<&PathBuf>) -> Result<Postgres, Failure> {
    Postgres::new(address, authorities).map_err(|error| {
        Failure::new(Exit::Usage, error.to_string()).hint(
            "write it like postgres://allerac:password@host/allerac, with ?sslmode=disable for a network you trust",
        )
    })
}

/// A restore that was interrupted ends before the data are used.
pub(crate) fn finish_restore(data_dir: &Path) -> Result<(), Failure> {
    if allerac_backup::finish(data_dir)? {
        tracing::warn!("finished restoring a backup, which was interrupted");
    }
    Ok(())
}

/// The number of the system's user who runs this.
pub(crate) fn user() -> String {
    // A process's folder there belongs to its user.
    fs::metadata("/proc/self").map_or_else(|_| "unknown".to_owned(), |folder| folder.uid().to_string())
}

/// The ledger with its log and its shared memory take a few megabytes; with less nothing can be accounted for.
const FREE_BYTES_MIN: u64 = 8 * 1024 * 1024;

/// Parses the name of a time zone.
pub(crate) fn parse_time_zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| "no such time zone; write it like Europe/Vienna".to_owned())
}

/// Makes the data directory where it is missing (nobody else may look into it) and checks that it can be written.
pub(crate) fn prepare(data_dir: &Path) -> Result<(), Failure> {
    let unusable = |error: &std::io::Error| {
        Failure::new(Exit::Storage, format!("the data directory {} cannot be used: {error}", data_dir.display()))
            .hint("check its owner and the free space, or choose another one with --data-dir")
    };
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(|error| unusable(&error))?;
    let probe = data_dir.join(format!(".write-test-{}", std::process::id()));
    let written = fs::write(&probe, b"allerac");
    let removed = fs::remove_file(&probe);
    written.and(removed).map_err(|error| unusable(&error))?;
    let free = free_bytes(data_dir).map_err(|error| unusable(&error))?;
    if free < FREE_BYTES_MIN {
        let message = format!("the disk is full: {} has {} left", data_dir.display(), output::bytes(free));
        return Err(Failure::new(Exit::Storage, message).hint("free some space, or choose another one with --data-dir"));
    }
    Ok(())
}

/// What this user may still write to the file system of a path.
pub(crate) fn free_bytes(path: &Path) -> std::io::Result<u64> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}
