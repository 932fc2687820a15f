//! How much comes in a minute, and how much runs at once, for each account. Pure: time is told, as what has passed since
//! some beginning.
//!
//! A minute is any sixty seconds, not one of the clock's: whoever watches for sixty seconds never sees more than the
//! limit. What came is counted in steps of half a second and forgotten when the whole step is sixty seconds past; so an
//! account costs a hundred numbers at most, whatever its limits are, and a limit is never exceeded for the sake of
//! that. (GCRA needs one number only, but lets twice the limit through in the minute after a rest.)

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::window::{Window, step};

/// Accounts kept before those that are at rest are looked for and forgotten.
const ACCOUNTS_BEFORE_SWEEP: usize = 1024;

/// What an account may do; `None` for no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Requests in any minute.
    pub requests_a_minute: Option<u64>,
    /// Tokens in any minute.
    pub tokens_a_minute: Option<u64>,
    /// Requests at once.
    pub concurrency: Option<u64>,
}

/// An account, by its name in the books, with its limits as they are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limited {
    /// Its name.
    pub account: String,
    /// What it may do.
    pub limits: RateLimits,
}

/// What there is too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Requests in a minute.
    Requests,
    /// Tokens in a minute.
    Tokens,
    /// Requests at once.
    Concurrency,
}

/// Too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Of what.
    pub measure: Measure,
    /// The limit.
    pub limit: u64,
    /// What was asked for beside what came already: 1 for a request.
    pub asked: u64,
    /// When the same will fit if nothing else comes; `None` where that cannot be told, or never.
    pub wait: Option<Duration>,
}

/// How far one limit is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauge {
    /// The limit.
    pub limit: u64,
    /// What may still come now.
    pub remaining: u64,
    /// When all of it may come again.
    pub reset: Duration,
}

/// How far the limits of a minute are used: of the account that has the least left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Requests.
    pub requests: Option<Gauge>,
    /// Tokens.
    pub tokens: Option<Gauge>,
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct Rates {
    accounts: HashMap<String, Account>,
    /// At so many accounts, those at rest are looked for.
    sweep_at: usize,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Account {
    requests: Window,
    tokens: Window,
    running: u64,
    /// By server, where several count together: how many of these run there, and when that last changed, in seconds.
    #[serde(default)]
    servers: HashMap<String, (u64, u64)>,
}

/// A server's count of what runs is forgotten when nothing began or ended there for so long: it is gone.
const SERVER_GONE: Duration = Duration::from_secs(3600);

impl Account {
    fn forget(&mut self, now: Duration) {
        self.requests.forget(now);
        self.tokens.forget(now);
    }

    fn is_at_rest(&self) -> bool {
        self.running == 0 && self.requests.is_empty() && self.tokens.is_empty()
    }
}

/// Whether so much more fits a limit.
fn fits(window: &Window, now: Duration, amount: u64, (limit, measure): (Option<u64>, Measure)) -> Result<(), Refused> {
    match limit {
        Some(limit) if window.total().saturating_add(amount) > limit => {
            Err(Refused { measure, limit, asked: amount, wait: window.wait(now, amount, limit) })
        }
        _ => Ok(()),
    }
}

impl Rates {
    /// What several servers have counted of an account, as one of them wrote it down. `server` is this one's name: what
    /// comes before a `/` in it stays when it starts again.
    pub fn read(&mut self, account: &str, note: &str, (server, now): (&str, Duration)) {
        // What cannot be read was written by another version: it is a minute's worth.
        let mut state: Account = serde_json::from_str(note).unwrap_or_default();
        let gone = |seen: u64| now.saturating_sub(Duration::from_secs(seen)) > SERVER_GONE;
        let host = |name: &str| name.split('/').next().map(str::to_owned);
        // What this server counted in an earlier life ended with that.
        let before = |name: &str| name != server && host(name) == host(server);
        state.servers.retain(|name, (_, seen)| !gone(*seen) && !before(name));
        state.running = state.servers.values().map(|(running, _)| running).sum();
        self.accounts.insert(account.to_owned(), state);
    }

    /// What is counted of an account, for the other servers; `None` where it is at rest.
    #[must_use]
    pub fn write(&mut self, account: &str, (server, now): (&str, Duration)) -> Option<String> {
        let state = self.state(account, now);
        let others: u64 =
            state.servers.iter().filter(|(name, _)| *name != server).map(|(_, (running, _))| running).sum();
        // Less where this server's part was forgotten: with a crash of the database, or because nothing changed for long.
        match state.running.saturating_sub(others) {
            0 => drop(state.servers.remove(server)),
            here => drop(state.servers.insert(server.to_owned(), (here, now.as_secs()))),
        }
        (!state.is_at_rest()).then(|| serde_json::to_string(state).expect("numbers are JSON"))
    }

    /// Counts a request with all of its accounts, or with none.
    pub(crate) fn begin(&mut self, all: &[Limited], now: Duration) -> Result<(), Refused> {
        for Limited { account, limits } in all {
            let state = self.state(account, now);
            if let Some(limit) = limits.concurrency.filter(|limit| state.running >= *limit) {
                return Err(Refused { measure: Measure::Concurrency, limit, asked: 1, wait: None });
            }
            fits(&state.requests, now, 1, (limits.requests_a_minute, Measure::Requests))?;
        }
        for Limited { account, .. } in all {
            let state = self.state(account, now);
            state.running += 1;
            state.requests.add(now, 1);
        }
        Ok(())
    }

    /// A request of these accounts has ended.
    pub(crate) fn end<'a>(&mut self, accounts: impl Iterator<Item = &'a String>) {
        for account in accounts {
            if let Some(state) = self.accounts.get_mut(account) {
                state.running = state.running.saturating_sub(1);
            }
        }
    }

    /// Counts tokens with all accounts, or with none; the step in which they are counted.
    pub(crate) fn take(&mut self, all: &[Limited], tokens: u64, now: Duration) -> Result<u64, Refused> {
        for Limited { account, limits } in all {
            let state = self.state(account, now);
            fits(&state.tokens, now, tokens, (limits.tokens_a_minute, Measure::Tokens))?;
        }
        for Limited { account, .. } in all {
            self.state(account, now).tokens.add(now, tokens);
        }
        Ok(step(now))
    }

    /// Corrects tokens that were taken in a step to what they came to.
    pub(crate) fn correct<'a>(
        &mut self,
        accounts: impl Iterator<Item = &'a String>,
        (step, taken, used): (u64, u64, u64),
        now: Duration,
    ) {
        for account in accounts {
            let state = self.state(account, now);
            if used < taken {
                state.tokens.take_back(step, taken - used);
            } else if used > taken {
                state.tokens.add(now, used - taken);
            }
        }
    }

    /// How far the limits are used.
    pub(crate) fn gauges(&mut self, all: &[Limited], now: Duration) -> Gauges {
        let mut gauges = Gauges::default();
        let least = |so_far: Option<Gauge>, gauge: Gauge| match so_far {
            Some(other) if other.remaining <= gauge.remaining => Some(other),
            _ => Some(gauge),
        };
        for Limited { account, limits } in all {
            let state = self.state(account, now);
            if let Some(limit) = limits.requests_a_minute {
                gauges.requests = least(gauges.requests, state.requests.gauge(now, limit));
            }
            if let Some(limit) = limits.tokens_a_minute {
                gauges.tokens = least(gauges.tokens, state.tokens.gauge(now, limit));
            }
        }
        gauges
    }

    /// An account as of now.
    fn state(&mut self, account: &str, now: Duration) -> &mut Account {
        if !self.accounts.contains_key(account) {
            self.sweep(now);
            self.accounts.insert(account.to_owned(), Account::default());
        }
        let state = self.accounts.get_mut(account).expect("it was just made where it was missing");
        state.forget(now);
        state
    }

    /// Forgets accounts at rest, each time their number has doubled.
    fn sweep(&mut self, now: Duration) {
        if self.accounts.len() < self.sweep_at.max(ACCOUNTS_BEFORE_SWEEP) {
            return;
        }
        self.accounts.retain(|_, account| {
            account.forget(now);
            !account.is_at_rest()
        });
        self.sweep_at = 2 * self.accounts.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limited(account: &str, limits: RateLimits) -> Limited {
        Limited { account: account.into(), limits }
    }

    fn requests(limit: u64) -> RateLimits {
        RateLimits { requests_a_minute: Some(limit), ..RateLimits::default() }
    }

    fn tokens(limit: u64) -> RateLimits {
        RateLimits { tokens_a_minute: Some(limit), ..RateLimits::default() }
    }

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn the_wait_is_the_time_after_which_it_fits() {
        let anna = [limited("user:1", requests(2))];
        let mut rates = Rates::default();
        rates.begin(&anna, at(1.2)).unwrap();
        rates.begin(&anna, at(10.0)).unwrap();
        let refused = rates.begin(&anna, at(20.0)).unwrap_err();
        // The first came in the step that ends at 1.5, and is forgotten sixty seconds after that.
        let wait = at(41.5);
        assert_eq!(refused, Refused { measure: Measure::Requests, limit: 2, asked: 1, wait: Some(wait) });
        assert!(rates.begin(&anna, at(20.0) + wait - Duration::from_millis(1)).is_err());
        rates.begin(&anna, at(20.0) + wait).unwrap();
    }

    /// Does something at a server with what all of them noted.
    fn at_server<T>(
        note: &mut Option<String>,
        (server, now): (&str, f64),
        work: impl FnOnce(&mut Rates, Duration) -> T,
    ) -> T {
        let (mut rates, now) = (Rates::default(), at(now));
        if let Some(note) = note.as_ref() {
            rates.read("user:1", note, (server, now));
        }
        let result = work(&mut rates, now);
        *note = rates.write("user:1", (server, now));
        result
    }

    #[test]
    fn servers_count_together_and_forget_those_that_are_gone() {
        let few = RateLimits { requests_a_minute: Some(4), tokens_a_minute: None, concurrency: Some(2) };
        let anna = [limited("user:1", few)];
        let begin = |rates: &mut Rates, now| rates.begin(&anna, now).map_err(|refused| refused.measure);
        let end = |rates: &mut Rates, _| rates.end([&anna[0].account].into_iter());
        let mut note = None;
        at_server(&mut note, ("a/1", 0.0), begin).unwrap();
        at_server(&mut note, ("b/1", 1.0), begin).unwrap();
        assert_eq!(at_server(&mut note, ("c/1", 2.0), begin), Err(Measure::Concurrency));
        at_server(&mut note, ("b/1", 3.0), end);
        at_server(&mut note, ("c/1", 4.0), begin).unwrap();
        at_server(&mut note, ("c/1", 5.0), end);
        // The first has died; started again, it knows that nothing runs there.
        at_server(&mut note, ("a/2", 6.0), begin).unwrap();
        assert_eq!(at_server(&mut note, ("b/1", 7.0), begin), Err(Measure::Requests));
        assert!(note.as_ref().unwrap().contains("a/2") && !note.as_ref().unwrap().contains("a/1"));
        // It dies again and stays away.
        at_server(&mut note, ("b/1", 100.0), begin).unwrap();
        assert_eq!(at_server(&mut note, ("c/1", 200.0), begin), Err(Measure::Concurrency));
        at_server(&mut note, ("c/1", 3700.0), begin).unwrap();
        at_server(&mut note, ("c/1", 3800.0), end);
        assert_eq!(note, None, "nothing is noted of an account at rest");
    }

    #[test]
    fn what_ends_after_its_count_was_lost_counts_for_nobody_else() {
        let few = RateLimits { requests_a_minute: None, tokens_a_minute: None, concurrency: Some(2) };
        let anna = [limited("user:1", few)];
        let begin = |rates: &mut Rates, now| rates.begin(&anna, now).map_err(|refused| refused.measure);
        let end = |rates: &mut Rates, _| rates.end([&anna[0].account].into_iter());
        let mut note = None;
        at_server(&mut note, ("a/1", 0.0), begin).unwrap();
        note = None;
        at_server(&mut note, ("b/1", 1.0), begin).unwrap();
        at_server(&mut note, ("a/1", 2.0), end);
        // What runs at the other server still does.
        at_server(&mut note, ("a/1", 3.0), begin).unwrap();
        assert_eq!(at_server(&mut note, ("a/1", 4.0), begin), Err(Measure::Concurrency));
    }

    #[test]
    fn what_is_refused_counts_with_no_account() {
        let both = [limited("user:1", requests(5)), limited("key:7", requests(1))];
        let mut rates = Rates::default();
        rates.begin(&both, at(0.0)).unwrap();
        rates.begin(&both, at(0.0)).unwrap_err();
        assert_eq!(rates.gauges(&both[..1], at(0.0)).requests.unwrap().remaining, 4);
        // The account with the least left is the one that is told of.
        let gauge = Gauge { limit: 1, remaining: 0, reset: at(60.5) };
        assert_eq!(rates.gauges(&both, at(0.0)).requests, Some(gauge));
        assert_eq!(rates.gauges(&both, at(0.0)).tokens, None);
    }

    #[test]
    fn as_many_run_at_once_as_may() {
        let anna = [limited("user:1", RateLimits { concurrency: Some(2), ..RateLimits::default() })];
        let mut rates = Rates::default();
        rates.begin(&anna, at(0.0)).unwrap();
        rates.begin(&anna, at(0.0)).unwrap();
        assert_eq!(rates.begin(&anna, at(0.0)).unwrap_err().measure, Measure::Concurrency);
        rates.end(anna.iter().map(|limited| &limited.account));
        rates.begin(&anna, at(0.0)).unwrap();
    }

    #[test]
    fn tokens_that_were_not_used_are_given_back() {
        let anna = [limited("user:1", tokens(100))];
        let names = || anna.iter().map(|limited| &limited.account);
        let mut rates = Rates::default();
        let step = rates.take(&anna, 90, at(0.0)).unwrap();
        let refused = rates.take(&anna, 11, at(1.0)).unwrap_err();
        assert_eq!(
            (refused.measure, refused.limit, refused.asked, refused.wait),
            (Measure::Tokens, 100, 11, Some(at(59.5)))
        );
        rates.correct(names(), (step, 90, 30), at(2.0));
        rates.take(&anna, 70, at(2.0)).unwrap();
        // One that came to more than was set aside counts in full.
        rates.correct(names(), (4, 70, 75), at(3.0));
        assert_eq!(rates.gauges(&anna, at(3.0)).tokens.unwrap().remaining, 0);
        // Of those forgotten nothing is given back.
        rates.correct(names(), (step, 30, 0), at(70.0));
        assert_eq!(rates.gauges(&anna, at(70.0)).tokens.unwrap(), Gauge { limit: 100, remaining: 100, reset: at(0.0) });
    }

    #[test]
    fn what_never_fits_has_no_wait() {
        let anna = [limited("user:1", tokens(100))];
        let refused = Rates::default().take(&anna, 101, at(0.0)).unwrap_err();
        assert_eq!((refused.asked, refused.wait), (101, None));
    }

    #[test]
    fn accounts_at_rest_are_forgotten() {
        let mut rates = Rates::default();
        for number in 0..5000u32 {
            let one = [limited(&format!("user:{number}"), requests(1))];
            rates.begin(&one, at(f64::from(number))).unwrap();
            rates.end(one.iter().map(|limited| &limited.account));
        }
        assert!(rates.accounts.len() <= ACCOUNTS_BEFORE_SWEEP, "{}", rates.accounts.len());
    }

    proptest! {
        #[test]
        fn no_minute_has_more_than_the_limit(
            limit in 1u64..20,
            pauses in proptest::collection::vec(0u64..4000, 1..400),
        ) {
            let anna = [limited("user:1", requests(limit))];
            let mut rates = Rates::default();
            let (mut now, mut came) = (Duration::ZERO, Vec::new());
            for pause in pauses {
                now += Duration::from_millis(pause);
                match rates.begin(&anna, now) {
                    Ok(()) => came.push(now),
                    Err(refused) => {
                        let wait = refused.wait.unwrap();
                        assert!(wait > Duration::ZERO && wait <= at(60.5));
                    }
                }
                let minute = came.iter().filter(|time| **time + Duration::from_secs(60) > now).count();
                assert!(minute as u64 <= limit);
            }
        }
    }
}
