//! What can go wrong with the ledger.

use std::path::PathBuf;

use crate::sql::{DatabaseError, InvalidAddress};

/// An operation that the ledger could not do.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The disk is full: nothing more is reserved until there is room.
    #[error("the disk is full; free some space in the data directory")]
    Full,
    /// The directory or its files cannot be written.
    #[error("cannot write to {path}; check that the directory exists and belongs to this user")]
    NotWritable {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another server uses this data directory.
    #[error("another allerac server uses {0}; stop it first, or choose another --data-dir")]
    InUse(crate::lock::Occupied),
    /// The box has an owner already.
    #[error("this box was claimed already")]
    AlreadyClaimed,
    /// No key with this public id.
    #[error("there is no key {0}; see `allerac keys list`")]
    UnknownKey(String),
    /// A name that cannot be used.
    #[error("a name has 1 to 64 visible characters")]
    InvalidName,
    /// The plan keeps everything on the box.
    #[error("the plan {plan} does not include other servers; use --plan pro or --plan unlimited")]
    PlanForbidsUpstreams {
        /// Which plan.
        plan: String,
    },
    /// No plan of this name.
    #[error("there is no plan {0}; see `allerac plans list`")]
    UnknownPlan(String),
    /// There is a plan of this name already.
    #[error("there is a plan {0} already; change it with `allerac plans set {0}`")]
    PlanExists(String),
    /// Limits that cannot be.
    #[error("the plan cannot be like that: {0}")]
    InvalidPlan(String),
    /// Somebody has the plan.
    #[error("{users} users and {keys} keys have the plan {plan}; give them another one first: `allerac users set`")]
    PlanInUse {
        /// Which plan.
        plan: String,
        /// Users who have it.
        users: u64,
        /// Keys that have it.
        keys: u64,
    },
    /// New users or the owner get this plan.
    #[error("the plan {0} is given to new users or owners; change it instead: `allerac plans set {0}`")]
    PlanNeeded(&'static str),
    /// No user of this name.
    #[error("there is no user {0}; see `allerac users list`")]
    UnknownUser(String),
    /// The owner is asked to be erased.
    #[error("the owner of the box cannot be erased; reset the box instead")]
    OwnerStays,
    /// A temporary increase that cannot be.
    #[error("the increase cannot be like that: {0}")]
    InvalidIncrease(String),
    /// Something that cannot be.
    #[error("{reason}")]
    Invalid {
        /// What it is about.
        field: &'static str,
        /// What is wrong, and what would not be.
        reason: String,
    },
    /// Nothing of this name.
    #[error("there is no {what} {id}")]
    Missing {
        /// What it would be.
        what: &'static str,
        /// How it would be called.
        id: String,
    },
    /// Something that stands against it.
    #[error("{reason}")]
    Conflict {
        /// A word for it.
        code: &'static str,
        /// What it is, and what to do first.
        reason: String,
    },
    /// Somebody's role does not reach so far.
    #[error("{0}")]
    Forbidden(String),
    /// The numbers do not add up.
    #[error("the ledger is inconsistent: {0}")]
    Inconsistent(String),
    /// The file itself is damaged.
    #[error("the ledger is damaged: {0}; restore the data directory from a backup")]
    Damaged(String),
    /// The audit log is not as it was written.
    #[error("the audit log was tampered with: {0}")]
    Tampered(#[from] crate::audit::Tampered),
    /// The writer has ended.
    #[error("the ledger is closed")]
    Closed,
    /// Anything else that the database says.
    #[error("the ledger's database failed")]
    Database(#[source] DatabaseError),
    /// The database's server is not there.
    #[error("the ledger's database cannot be reached")]
    Unreachable(#[source] DatabaseError),
    /// Where the database is cannot be read.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// Something that only a ledger in a file can do.
    #[error("the ledger is in PostgreSQL: {0}")]
    Elsewhere(&'static str),
    /// The file has a shape that this program does not know.
    #[error("a newer version of allerac wrote this ledger; update allerac, or take it back by `allerac downgrade`")]
    Newer,
    /// The same, and it does not say how it is taken back.
    #[error("a newer version of allerac wrote this ledger and left no way back; update allerac, or restore a backup")]
    NoWayBack,
    /// The schema could not be brought up to date.
    #[error("the ledger's schema cannot be migrated")]
    Migration(#[source] rusqlite_migration::Error),
}

impl From<rusqlite_migration::Error> for LedgerError {
    fn from(error: rusqlite_migration::Error) -> Self {
        use rusqlite_migration::{Error, MigrationDefinitionError};
        match error {
            Error::MigrationDefinition(MigrationDefinitionError::DatabaseTooFarAhead) => Self::Newer,
            Error::MigrationDefinition(MigrationDefinitionError::DownNotDefined { .. }) => Self::NoWayBack,
            Error::RusqliteError { err, .. } => Self::from(err),
            other => Self::Migration(other),
        }
    }
}

impl From<DatabaseError> for LedgerError {
    fn from(error: DatabaseError) -> Self {
        if error.is_full() {
            return Self::Full;
        }
        if error.is_damaged() {
            return Self::Damaged(error.to_string());
        }
        if error.is_away() { Self::Unreachable(error) } else { Self::Database(error) }
    }
}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> Self {
        DatabaseError::from(error).into()
    }
}

/// A key that does not open.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// Not of the form of a key.
    #[error("this is no allerac key; it begins with sk-allerac-")]
    Malformed,
    /// No such key, or a wrong secret.
    #[error("this key is not known here")]
    Unknown,
    /// Revoked.
    #[error("this key was revoked")]
    Revoked,
    /// Its time is over.
    #[error("this key has expired; make another one, or ask for one")]
    Expired,
    /// A session that has ended.
    #[error("you are signed out; sign in again")]
    SignedOut,
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// A reservation that was not made.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// The plan has not enough left this month.
    #[error("{requested} tokens may be needed and {free} of {limit} are left this month")]
    QuotaExceeded {
        /// Tokens of the plan a month.
        limit: u64,
        /// Tokens left now.
        free: u64,
        /// Tokens that this request may need.
        requested: u64,
        /// When the month ends, in seconds since 1970.
        renews_at: i64,
    },
    /// The plan, or the server's own budget, has not enough money left for other servers this month.
    #[error("it may cost {requested} billionths and {free} of {limit} are left this month")]
    BudgetExceeded {
        /// The server whose own budget it is; `None` for the plan's.
        upstream: Option<String>,
        /// Billionths of the currency a month.
        limit: u64,
        /// What is left of them now.
        free: u64,
        /// What this request may cost.
        requested: u64,
        /// Which currency, as ISO 4217 has it, in lower case.
        currency: String,
        /// When the month ends, in seconds since 1970.
        renews_at: i64,
    },
    /// More requests run than the ledger can follow.
    #[error("too many requests are running")]
    TooMany,
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}
