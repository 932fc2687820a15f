//! Which models are in memory: pure. Time and free memory are told, what is to be done is answered.
//!
//! A model is loaded when somebody wants it and there is room. Room is made by those that nobody uses at the moment,
//! the least worth first (`worth.rs`), and only as many as are needed. Where all are in use, whoever waits long enough
//! for memory has the least worth of them take no new requests until it can go: so nobody waits for ever, and what
//! runs ends well. Those that wait do so in the order in which they came.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::terms::{Action, Key, Moment, Need, Refusal, Rules, Seen, Ticket, Want};
use super::worth::{Heat, LoadSpeed};

/// How long a request waits for memory that is in use before what uses it takes no more requests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long a model is left alone that failed to load; it doubles with each failure in a row.
pub(crate) const RETRY_FIRST: Duration = Duration::from_secs(5);
/// The longest such time.
pub(crate) const RETRY_MAX: Duration = Duration::from_secs(60 * 60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Loading,
    Ready,
    Stopping,
}

/// Whether a model is to go, to come back in another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    No,
    WhenIdle,
    /// It takes no new requests until it can go.
    Drains,
}

/// A model in memory, or on its way in or out.
#[derive(Debug)]
struct Resident {
    number: u64,
    need: Need,
    phase: Phase,
    since: Moment,
    /// Requests that use it.
    leases: u32,
    idle_since: Moment,
    /// How long it stays when nobody uses it; [`Duration::MAX`] for ever.
    keep: Duration,
    pinned: bool,
    /// It takes no new requests, because somebody waits for its memory.
    draining: bool,
    leave: Leave,
    file: u64,
}

impl Resident {
    fn is_idle(&self) -> bool {
        self.phase == Phase::Ready && self.leases == 0
    }

    /// When it goes, if nobody uses it from a moment on.
    fn until(&self, from: Moment) -> Option<Moment> {
        if self.pinned { None } else { from.checked_add(self.keep).filter(|until| *until < Duration::MAX) }
    }
}

/// What is remembered of a model, in memory or not.
#[derive(Debug, Default)]
struct Past {
    heat: Heat,
    load_time: Option<Duration>,
    failure: Option<Failure>,
}

/// A model that failed to load the last time.
#[derive(Debug)]
struct Failure {
    in_a_row: u32,
    reason: String,
    file: u64,
    retry: Moment,
}

struct Waiter {
    want: Want,
    since: Moment,
}

/// All of it.
pub(crate) struct Residents {
    rules: Rules,
    residents: HashMap<Key, Resident>,
    past: HashMap<Key, Past>,
    waiting: VecDeque<Waiter>,
    speed: LoadSpeed,
    started: u64,
    /// Whether nothing is started for now.
    holds: bool,
}

enum Served {
    Yes,
    /// It waits for an engine that is there, or on its way out.
    Waits,
    /// It waits for memory, and so do all after it whose engines are not there.
    WaitsForMemory,
}

impl Residents {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            residents: HashMap::new(),
            past: HashMap::new(),
            waiting: VecDeque::new(),
            speed: LoadSpeed::default(),
            started: 0,
            holds: false,
        }
    }

    /// Whether engines are held back that would be started: all else goes on.
    pub(crate) fn hold_starts(&mut self, holds: bool) {
        self.holds = holds;
    }

    /// Somebody wants an engine.
    pub(crate) fn wanted(&mut self, want: Want, now: Moment) {
        self.waiting.push_back(Waiter { want, since: now });
    }

    /// Somebody wants it no more who had not got it.
    pub(crate) fn cancelled(&mut self, ticket: Ticket) {
        self.waiting.retain(|waiter| waiter.want.ticket != ticket);
    }

    /// A request ended that had the engine of this number.
    pub(crate) fn released(&mut self, key: &Key, number: u64, now: Moment) {
        let Some(resident) = self.residents.get_mut(key).filter(|resident| resident.number == number) else { return };
        resident.leases = resident.leases.saturating_sub(1);
        if resident.leases == 0 {
            resident.idle_since = now;
        }
    }

    /// The model is in memory.
    pub(crate) fn loaded(&mut self, key: &Key, now: Moment) {
        let Some(resident) = self.residents.get_mut(key).filter(|resident| resident.phase == Phase::Loading) else {
            return;
        };
        resident.phase = Phase::Ready;
        resident.idle_since = now;
        let took = now.saturating_sub(resident.since);
        self.speed.note(resident.need.mapped, took);
        let past = self.past.entry(Arc::clone(key)).or_default();
        past.load_time = Some(took);
        past.failure = None;
    }

    /// The model cannot be loaded; its engine is on its way out.
    pub(crate) fn failed(&mut self, key: &Key, reason: String, now: Moment) {
        let Some(resident) = self.residents.get_mut(key).filter(|resident| resident.phase != Phase::Stopping) else {
            return;
        };
        resident.phase = Phase::Stopping;
        let past = self.past.entry(Arc::clone(key)).or_default();
        let before = past.failure.as_ref().map_or(0, |failure| failure.in_a_row);
        let wait = RETRY_FIRST.saturating_mul(1 << before.min(16)).min(RETRY_MAX);
        past.failure = Some(Failure { in_a_row: before + 1, reason, file: resident.file, retry: now + wait });
    }

    /// The engine is gone, and its memory free.
    pub(crate) fn stopped(&mut self, key: &Key) {
        self.residents.remove(key);
    }

    /// The model is to go as soon as nobody uses it.
    pub(crate) fn unload(&mut self, key: &Key) {
        if let Some(resident) = self.residents.get_mut(key) {
            resident.keep = Duration::ZERO;
        }
    }

    /// The model is to go as soon as nobody uses it, pinned or not; where it must, it takes no new requests until then.
    pub(crate) fn leave(&mut self, key: &Key, must: bool) {
        if let Some(resident) = self.residents.get_mut(key) {
            resident.leave = if must { Leave::Drains } else { Leave::WhenIdle };
        }
    }

    /// Only these models are installed: what else is in memory goes, and is forgotten.
    pub(crate) fn installed(&mut self, keys: &[Key]) {
        for (key, resident) in &mut self.residents {
            if !keys.contains(key) {
                resident.pinned = false;
                resident.keep = Duration::ZERO;
            }
        }
        self.past.retain(|key, _| keys.contains(key));
    }

    /// Why a model cannot be loaded that failed the last time, and how often in a row it did.
    pub(crate) fn failure(&self, key: &Key) -> Option<(&str, u32)> {
        let failure = self.past.get(key)?.failure.as_ref()?;
        Some((&failure.reason, failure.in_a_row))
    }

    /// A model in memory.
    pub(crate) fn seen(&self, key: &Key, now: Moment) -> Option<Seen> {
        let resident = self.residents.get(key)?;
        let until = resident.until(if resident.leases == 0 { resident.idle_since } else { now });
        Some(Seen { need: resident.need, until, is_going: resident.phase == Phase::Stopping })
    }

    /// How long a model is likely to take to be loaded.
    pub(crate) fn load_time(&self, key: &Key, need: Need) -> Duration {
        let measured = self.past.get(key).and_then(|past| past.load_time);
        measured.unwrap_or_else(|| self.speed.time(need.mapped))
    }

    /// Whether somebody waits for a model that is not in memory: then [`decide`](Self::decide) looks at free memory.
    pub(crate) fn wants_memory(&self) -> bool {
        self.waiting.iter().any(|waiter| !self.residents.contains_key(&waiter.want.key))
    }

    /// When there is something to decide though nothing happens.
    pub(crate) fn next_moment(&self, now: Moment) -> Option<Moment> {
        let idle = self.residents.values().filter(|resident| resident.is_idle());
        let idle = idle.filter_map(|resident| resident.until(resident.idle_since));
        let patience = self.waiting.iter().map(|waiter| waiter.since + PATIENCE).filter(|moment| *moment > now);
        idle.chain(patience).min()
    }

    /// What is to be done now, with so much memory free for models.
    pub(crate) fn decide(&mut self, now: Moment, free: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        // Whoever still waits for their memory says so again.
        self.residents.values_mut().for_each(|resident| resident.draining = false);
        let mut blocked = false;
        for waiter in std::mem::take(&mut self.waiting) {
            match self.serve(&waiter, (now, free), blocked, &mut actions) {
                Served::Yes => continue,
                Served::Waits => {}
                Served::WaitsForMemory => blocked = true,
            }
            self.waiting.push_back(waiter);
        }
        self.expire(now, &mut actions);
        actions
    }

    /// Ends what stayed for as long as it was to.
    fn expire(&mut self, now: Moment, actions: &mut Vec<Action>) {
        for (key, resident) in &mut self.residents {
            let is_due = resident.until(resident.idle_since).is_some_and(|until| until <= now);
            if resident.is_idle() && (is_due || resident.leave != Leave::No) {
                resident.phase = Phase::Stopping;
                actions.push(Action::Stop(Arc::clone(key)));
            }
        }
    }

    fn serve(&mut self, waiter: &Waiter, at: (Moment, u64), blocked: bool, actions: &mut Vec<Action>) -> Served {
        let (now, free) = at;
        let Want { ticket, key, need, .. } = &waiter.want;
        if let Some(resident) = self.residents.get(key) {
            if resident.phase == Phase::Stopping || resident.draining || resident.leave == Leave::Drains {
                return Served::Waits;
            }
            self.grant(&waiter.want, now, actions);
            return Served::Yes;
        }
        let refusal = self.refusal(&waiter.want, now);
        if let Some(refusal) = refusal {
            actions.push(Action::Refuse(*ticket, refusal));
            return Served::Yes;
        }
        if blocked || self.holds {
            return Served::WaitsForMemory;
        }
        let short = self.short(*need, free);
        if short == 0 {
            self.start(&waiter.want, now, actions);
            return Served::Yes;
        }
        let going: u64 = self.sum(|resident| resident.phase == Phase::Stopping);
        if going >= short || self.make_room(short - going, waiter, now, actions) {
            return Served::WaitsForMemory;
        }
        let free = need.all().saturating_sub(short);
        actions.push(Action::Refuse(*ticket, Refusal::NoMemory { needs: need.all(), free }));
        Served::Yes
    }

    fn start(&mut self, want: &Want, now: Moment, actions: &mut Vec<Action>) {
        self.started += 1;
        let resident = Resident {
            number: self.started,
            need: want.need,
            phase: Phase::Loading,
            since: now,
            leases: 0,
            idle_since: now,
            keep: Duration::MAX,
            pinned: want.pinned,
            draining: false,
            leave: Leave::No,
            file: want.file,
        };
        self.residents.insert(Arc::clone(&want.key), resident);
        actions.push(Action::Start(Arc::clone(&want.key), self.started));
        self.grant(want, now, actions);
    }

    fn grant(&mut self, want: &Want, now: Moment, actions: &mut Vec<Action>) {
        let idle = self.rules.idle.unwrap_or(Duration::MAX);
        let Some(resident) = self.residents.get_mut(&want.key) else { return };
        resident.leases += 1;
        resident.keep = want.keep.unwrap_or(idle);
        resident.pinned = want.pinned;
        actions.push(Action::Grant(want.ticket, Arc::clone(&want.key), resident.number));
        self.past.entry(Arc::clone(&want.key)).or_default().heat.used(now);
    }

    /// Why a model is not even tried.
    fn refusal(&self, want: &Want, now: Moment) -> Option<Refusal> {
        let failure = self.past.get(&want.key).and_then(|past| past.failure.as_ref());
        if let Some(failure) = failure.filter(|failure| failure.file == want.file && failure.retry > now) {
            return Some(Refusal::Failed { reason: failure.reason.clone(), retry_in: failure.retry - now });
        }
        let (needs, allowed) = (want.need.all(), self.rules.budget);
        (needs > allowed).then_some(Refusal::TooLarge { needs, allowed })
    }

    fn sum(&self, which: impl Fn(&Resident) -> bool) -> u64 {
        let all = self.residents.values().filter(|resident| which(resident));
        all.fold(0, |sum, resident| sum.saturating_add(resident.need.all()))
    }

    /// How much memory is missing for a model.
    fn short(&self, need: Need, free: u64) -> u64 {
        let promised = self.sum(|_| true).saturating_add(need.all());
        let of_budget = promised.saturating_sub(self.rules.budget);
        // What loads has not taken its memory yet; what is loaded has files mapped that count as free.
        let taken = self.residents.values().fold(0u64, |sum, resident| {
            let takes = if resident.phase == Phase::Loading { resident.need.all() } else { resident.need.mapped };
            sum.saturating_add(takes)
        });
        of_budget.max(need.all().saturating_sub(free.saturating_sub(taken)))
    }

    /// Ends idle models until so much more is free, or has those in use take no more requests where the one who waits
    /// did so for long enough. `false` where all of it would not be enough.
    fn make_room(&mut self, short: u64, waiter: &Waiter, now: Moment, actions: &mut Vec<Action>) -> bool {
        let idle = self.least_worth(now, Resident::is_idle);
        let in_idle = self.sum(|resident| resident.is_idle() && !resident.pinned);
        if in_idle >= short {
            for key in self.enough(idle, short) {
                if let Some(resident) = self.residents.get_mut(&key) {
                    resident.phase = Phase::Stopping;
                    actions.push(Action::Stop(key));
                }
            }
            return true;
        }
        let is_busy = |resident: &Resident| resident.phase != Phase::Stopping && !resident.is_idle();
        if in_idle.saturating_add(self.sum(|resident| is_busy(resident) && !resident.pinned)) < short {
            return false;
        }
        if now.saturating_sub(waiter.since) >= PATIENCE {
            let busy = self.least_worth(now, is_busy);
            for key in self.enough(busy, short - in_idle) {
                if let Some(resident) = self.residents.get_mut(&key) {
                    resident.draining = true;
                }
            }
        }
        true
    }

    /// Models that may go, the least worth first.
    fn least_worth(&self, now: Moment, which: impl Fn(&Resident) -> bool) -> Vec<Key> {
        let may_go = self.residents.iter().filter(|(_, resident)| !resident.pinned && which(resident));
        let mut all: Vec<(f64, &Key)> =
            may_go.map(|(key, resident)| (self.worth(key, resident.need, now), key)).collect();
        // Of equal ones always the same goes first.
        all.sort_by(|(a, one), (b, other)| a.total_cmp(b).then_with(|| one.cmp(other)));
        all.into_iter().map(|(_, key)| Arc::clone(key)).collect()
    }

    /// What it would cost to load a model again, times how likely it is wanted.
    fn worth(&self, key: &Key, need: Need, now: Moment) -> f64 {
        let uses = self.past.get(key).map_or(0.0, |past| past.heat.now(now));
        self.load_time(key, need).as_secs_f64() * uses
    }

    /// The first of these that together free so much, without those that are not needed for it.
    fn enough(&self, keys: Vec<Key>, short: u64) -> Vec<Key> {
        let need = |key: &Key| self.residents.get(key).map_or(0, |resident| resident.need.all());
        let mut freed = 0u64;
        let mut chosen: Vec<Key> = Vec::new();
        for key in keys {
            if freed >= short {
                break;
            }
            freed = freed.saturating_add(need(&key));
            chosen.push(key);
        }
        // The one most worth is spared first.
        for index in (0..chosen.len()).rev() {
            let without = freed - need(&chosen[index]);
            if without >= short {
                freed = without;
                chosen.remove(index);
            }
        }
        chosen
    }
}
