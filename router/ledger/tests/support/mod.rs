//! What the tests of the ledger share.

#![allow(dead_code, reason = "each test uses a part of it")]

pub(crate) mod life;
pub(crate) mod server;

use std::path::Path;

use allerac_ledger::{
    Clock, KeyLimits, Ledger, NewKey, Options, Outcome, Principal, Reserve, Settlement, UpstreamPolicy,
};
use jiff::tz::TimeZone;
use tempfile::TempDir;
use uuid::Uuid;

/// A data directory of the test's own, and its ledger.
pub(crate) struct Home {
    pub(crate) ledger: Ledger,
    pub(crate) folder: TempDir,
    clock: Clock,
    zone: TimeZone,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self::with_clock(Clock::default(), TimeZone::UTC)
    }

    pub(crate) fn with_clock(clock: Clock, zone: TimeZone) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = open(folder.path(), zone.clone(), clock.clone());
        Self { ledger, folder, clock, zone }
    }

    /// As another process has it.
    pub(crate) fn open_again(&self) -> Ledger {
        open(self.folder.path(), self.zone.clone(), self.clock.clone())
    }

    /// The books are what the journal adds up to.
    #[track_caller]
    pub(crate) fn check(&self) {
        assert_eq!(self.ledger.verify().unwrap().differences, []);
    }
}

/// Opens a ledger that is checked at each commit, where this run has its books.
pub(crate) fn open(directory: &Path, zone: TimeZone, clock: Clock) -> Ledger {
    let database = server::database(directory);
    Ledger::open_with(directory, zone, Options { clock, check: true, database }).unwrap()
}

pub(crate) fn new_key(user: &str, plan: Option<&str>) -> NewKey {
    let plan = plan.map(str::to_owned);
    NewKey {
        user: user.into(),
        label: "test".into(),
        plan,
        upstreams: UpstreamPolicy::None,
        limits: KeyLimits::default(),
    }
}

pub(crate) async fn principal(ledger: &Ledger, user: &str, plan: Option<&str>) -> Principal {
    let key = ledger.create_key(new_key(user, plan)).await.unwrap();
    ledger.authenticate(&key.secret).unwrap()
}

pub(crate) fn reserve(prompt_tokens: u32, max_output_tokens: u32) -> Reserve {
    Reserve {
        request_id: Uuid::now_v7(),
        model: "m".into(),
        endpoint: "chat.completions",
        served_by: "local".into(),
        prompt_tokens,
        max_output_tokens,
    }
}

pub(crate) fn settlement(prompt_tokens: u32, completion_tokens: u32) -> Settlement {
    Settlement { prompt_tokens, cached_tokens: 0, completion_tokens, outcome: Outcome::Completed }
}

/// Used and reserved tokens of a user.
pub(crate) fn balance(ledger: &Ledger, principal: &Principal) -> (u64, u64) {
    let quota = ledger.quota(principal).unwrap();
    (quota.used, quota.reserved)
}
