//! One file for each command but `serve`.

pub(crate) mod alerts;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod console;
pub(crate) mod doctor;
pub(crate) mod downgrade;
pub(crate) mod gpu;
pub(crate) mod health;
pub(crate) mod invitations;
pub(crate) mod keys;
pub(crate) mod ledger;
pub(crate) mod models;
pub(crate) mod person;
pub(crate) mod plans;
pub(crate) mod system;
pub(crate) mod teams;
pub(crate) mod top;
pub(crate) mod tune;
pub(crate) mod update;
mod upstreams;
pub(crate) mod usage;
pub(crate) mod usage_export;
pub(crate) mod users;
