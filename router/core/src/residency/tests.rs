//! The policy, step by step, and under storms of requests.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::policy::{PATIENCE, RETRY_FIRST, RETRY_MAX, Residents};
use super::terms::{Action, Key, Moment, Need, Refusal, Rules, Ticket, Want};

const PLENTY: u64 = u64::MAX;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn key(name: &str) -> Key {
    Arc::from(name)
}

fn want(ticket: Ticket, name: &str, bytes: u64) -> Want {
    let need = Need { mapped: bytes / 2, own: bytes - bytes / 2 };
    Want { ticket, key: key(name), need, pinned: false, keep: None, file: 0 }
}

fn rules(budget: u64) -> Rules {
    Rules { budget, idle: None }
}

/// A policy with models of 40 bytes in memory, each used once, in the order of their names, and not in use.
fn with(budget: u64, names: &[&str]) -> Residents {
    let mut residents = Residents::new(rules(budget));
    for (ticket, name) in (1000..).zip(names) {
        let now = s(ticket - 1000);
        residents.wanted(want(ticket, name, 40), now);
        let number = ticket - 999;
        let begun = [Action::Start(key(name), number), Action::Grant(ticket, key(name), number)];
        assert_eq!(residents.decide(now, PLENTY), begun);
        residents.loaded(&key(name), now + s(1));
        residents.released(&key(name), number, now + s(1));
    }
    residents
}

#[test]
fn a_model_is_loaded_once_for_all_who_want_it() {
    let mut residents = Residents::new(rules(100));
    residents.wanted(want(1, "a", 40), s(0));
    residents.wanted(want(2, "a", 40), s(0));
    let actions = residents.decide(s(0), PLENTY);
    assert_eq!(actions, [Action::Start(key("a"), 1), Action::Grant(1, key("a"), 1), Action::Grant(2, key("a"), 1)]);
    residents.wanted(want(3, "a", 40), s(1));
    assert_eq!(residents.decide(s(1), PLENTY), [Action::Grant(3, key("a"), 1)]);
}

#[test]
fn while_starts_are_held_back_all_else_goes_on() {
    let mut residents = with(100, &["a", "b"]);
    residents.hold_starts(true);
    residents.wanted(want(1, "c", 40), s(5));
    residents.wanted(want(2, "a", 40), s(5));
    assert_eq!(residents.decide(s(5), PLENTY), [Action::Grant(2, key("a"), 1)]);
    residents.unload(&key("b"));
    assert_eq!(residents.decide(s(6), PLENTY), [Action::Stop(key("b"))]);
    residents.stopped(&key("b"));
    residents.hold_starts(false);
    assert_eq!(residents.decide(s(7), PLENTY), [Action::Start(key("c"), 3), Action::Grant(1, key("c"), 3)]);
}

#[test]
fn the_idle_one_of_least_worth_makes_room() {
    // `a` was used longer ago than `b`, and both take as long to load.
    let mut residents = with(100, &["a", "b"]);
    residents.wanted(want(1, "c", 30), s(10));
    assert_eq!(residents.decide(s(10), PLENTY), [Action::Stop(key("a"))]);
    // Its memory is not free before it is gone.
    assert_eq!(residents.decide(s(11), PLENTY), []);
    residents.stopped(&key("a"));
    assert_eq!(residents.decide(s(12), PLENTY), [Action::Start(key("c"), 3), Action::Grant(1, key("c"), 3)]);
}

#[test]
fn what_loads_slowly_or_is_used_more_stays() {
    let mut residents = with(100, &["a", "b"]);
    for ticket in 1..4 {
        residents.wanted(want(ticket, "a", 40), s(5));
        residents.decide(s(5), PLENTY);
        residents.released(&key("a"), 1, s(5));
    }
    residents.wanted(want(9, "c", 30), s(10));
    assert_eq!(residents.decide(s(10), PLENTY), [Action::Stop(key("b"))]);
}

#[test]
fn no_more_go_than_are_needed() {
    let mut residents = with(140, &["a", "b", "c"]);
    residents.wanted(want(1, "d", 100), s(10));
    assert_eq!(residents.decide(s(10), PLENTY), [Action::Stop(key("a")), Action::Stop(key("b"))]);
    let mut residents = Residents::new(rules(100));
    for (ticket, name, bytes) in [(1, "small", 10), (2, "large", 80)] {
        residents.wanted(want(ticket, name, bytes), s(ticket));
        residents.decide(s(ticket), PLENTY);
        residents.loaded(&key(name), s(ticket));
        residents.released(&key(name), ticket, s(ticket));
    }
    residents.wanted(want(3, "next", 50), s(9));
    // The small one would not be enough, and is not needed beside the large one.
    assert_eq!(residents.decide(s(9), PLENTY), [Action::Stop(key("large"))]);
}

#[test]
fn what_is_to_come_back_in_another_way_goes_when_nobody_uses_it() {
    for must in [false, true] {
        let mut residents = Residents::new(rules(100));
        residents.wanted(Want { pinned: true, ..want(1, "a", 40) }, s(0));
        residents.decide(s(0), PLENTY);
        residents.loaded(&key("a"), s(1));
        residents.leave(&key("a"), must);
        residents.wanted(want(2, "a", 40), s(2));
        let granted: &[Action] = if must { &[] } else { &[Action::Grant(2, key("a"), 1)] };
        assert_eq!(residents.decide(s(2), PLENTY), granted);
        residents.released(&key("a"), 1, s(3));
        if !must {
            assert_eq!(residents.decide(s(3), PLENTY), []);
            residents.released(&key("a"), 1, s(3));
        }
        assert_eq!(residents.decide(s(3), PLENTY), [Action::Stop(key("a"))]);
        residents.stopped(&key("a"));
        residents.wanted(want(3, "a", 40), s(4));
        // Whoever waited is served by the one that comes back, which stays.
        let begun = residents.decide(s(4), PLENTY);
        assert_eq!(begun[0], Action::Start(key("a"), 2));
        assert_eq!(begun.len(), if must { 3 } else { 2 });
        residents.loaded(&key("a"), s(5));
        assert_eq!(residents.decide(s(5), PLENTY), []);
    }
}

#[test]
fn pinned_models_never_go() {
    let mut residents = Residents::new(Rules { budget: 100, idle: Some(s(5)) });
    residents.wanted(Want { pinned: true, keep: Some(s(0)), ..want(1, "a", 60) }, s(0));
    residents.decide(s(0), PLENTY);
    residents.loaded(&key("a"), s(1));
    residents.released(&key("a"), 1, s(1));
    assert_eq!(residents.decide(s(1000), PLENTY), []);
    assert_eq!(residents.next_moment(s(1000)), None);
    residents.wanted(want(2, "b", 60), s(1000));
    let refusal = Refusal::NoMemory { needs: 60, free: 40 };
    assert_eq!(residents.decide(s(1000), PLENTY), [Action::Refuse(2, refusal)]);
    // Removed, it goes all the same.
    residents.installed(&[]);
    assert_eq!(residents.decide(s(1000), PLENTY), [Action::Stop(key("a"))]);
}

#[test]
fn a_model_goes_when_nobody_used_it_for_as_long_as_it_was_kept() {
    let mut residents = Residents::new(Rules { budget: 100, idle: Some(s(60)) });
    let ask = |residents: &mut Residents, ticket, keep, now| {
        residents.wanted(Want { keep, ..want(ticket, "a", 40) }, now);
        residents.decide(now, PLENTY)
    };
    ask(&mut residents, 1, None, s(0));
    residents.loaded(&key("a"), s(1));
    // In use it stays, however long.
    assert_eq!(residents.decide(s(500), PLENTY), []);
    residents.released(&key("a"), 1, s(500));
    assert_eq!(residents.next_moment(s(500)), Some(s(560)));
    assert_eq!(residents.seen(&key("a"), s(500)).unwrap().until, Some(s(560)));
    // The last request says how long.
    ask(&mut residents, 2, Some(Duration::MAX), s(510));
    residents.released(&key("a"), 1, s(511));
    assert_eq!(residents.next_moment(s(511)), None);
    assert_eq!(residents.seen(&key("a"), s(511)).unwrap().until, None);
    // So long that no clock has it is for ever.
    ask(&mut residents, 3, Some(Duration::MAX - s(512)), s(550));
    assert_eq!(residents.seen(&key("a"), s(551)).unwrap().until, None);
    residents.released(&key("a"), 1, s(551));
    assert_eq!(residents.next_moment(s(551)), None);
    ask(&mut residents, 3, Some(s(5)), s(600));
    residents.released(&key("a"), 1, s(601));
    assert_eq!(residents.decide(s(605), PLENTY), []);
    assert_eq!(residents.decide(s(606), PLENTY), [Action::Stop(key("a"))]);
    assert!(residents.seen(&key("a"), s(606)).unwrap().is_going);
    // Who comes while it goes gets a new one.
    assert_eq!(ask(&mut residents, 4, Some(s(0)), s(606)), []);
    residents.stopped(&key("a"));
    assert_eq!(residents.decide(s(607), PLENTY), [Action::Start(key("a"), 2), Action::Grant(4, key("a"), 2)]);
    // An end that comes late is of another engine.
    residents.released(&key("a"), 1, s(608));
    residents.loaded(&key("a"), s(608));
    assert_eq!(residents.decide(s(608), PLENTY), []);
    residents.released(&key("a"), 2, s(609));
    assert_eq!(residents.decide(s(609), PLENTY), [Action::Stop(key("a"))]);
}

#[test]
fn unloading_waits_for_those_who_use_it() {
    let mut residents = with(100, &["a"]);
    residents.wanted(want(1, "a", 40), s(5));
    residents.decide(s(5), PLENTY);
    residents.unload(&key("a"));
    assert_eq!(residents.decide(s(5), PLENTY), []);
    residents.released(&key("a"), 1, s(6));
    assert_eq!(residents.decide(s(6), PLENTY), [Action::Stop(key("a"))]);
}

#[test]
fn who_waits_long_for_memory_has_others_drained() {
    let mut residents = with(60, &["a"]);
    residents.wanted(want(1, "a", 40), s(5));
    residents.decide(s(5), PLENTY);
    residents.wanted(want(2, "b", 40), s(6));
    assert_eq!(residents.decide(s(6), PLENTY), []);
    // Until then `a` serves on.
    residents.wanted(want(3, "a", 40), s(7));
    assert_eq!(residents.decide(s(7), PLENTY), [Action::Grant(3, key("a"), 1)]);
    let patience = s(6) + PATIENCE;
    assert_eq!(residents.next_moment(s(7)), Some(patience));
    assert_eq!(residents.decide(patience, PLENTY), []);
    residents.wanted(want(4, "a", 40), patience);
    assert_eq!(residents.decide(patience, PLENTY), []);
    residents.released(&key("a"), 1, patience);
    assert_eq!(residents.decide(patience, PLENTY), []);
    residents.released(&key("a"), 1, patience);
    assert_eq!(residents.decide(patience, PLENTY), [Action::Stop(key("a"))]);
    residents.stopped(&key("a"));
    assert_eq!(residents.decide(patience, PLENTY), [Action::Start(key("b"), 2), Action::Grant(2, key("b"), 2)]);
    // And now it is the other's turn to wait.
    residents.loaded(&key("b"), patience);
    residents.released(&key("b"), 2, patience);
    assert_eq!(residents.decide(patience, PLENTY), [Action::Stop(key("b"))]);
    residents.stopped(&key("b"));
    assert_eq!(residents.decide(patience, PLENTY), [Action::Start(key("a"), 3), Action::Grant(4, key("a"), 3)]);
}

#[test]
fn nobody_is_drained_for_one_who_left() {
    let mut residents = with(60, &["a"]);
    residents.wanted(want(1, "a", 40), s(5));
    residents.wanted(want(2, "b", 40), s(5));
    residents.decide(s(5) + PATIENCE, PLENTY);
    residents.cancelled(2);
    residents.wanted(want(3, "a", 40), s(30));
    assert_eq!(residents.decide(s(30), PLENTY), [Action::Grant(3, key("a"), 1)]);
}

#[test]
fn memory_that_others_have_counts() {
    let mut residents = with(1000, &["a"]);
    residents.wanted(want(1, "b", 40), s(5));
    // 50 bytes are free, but half of `a` is mapped and only counts as free.
    assert_eq!(residents.decide(s(5), 50), [Action::Stop(key("a"))]);
    residents.stopped(&key("a"));
    assert_eq!(residents.decide(s(6), 39), [Action::Refuse(1, Refusal::NoMemory { needs: 40, free: 39 })]);
    residents.wanted(want(2, "b", 1001), s(7));
    assert_eq!(residents.decide(s(7), PLENTY), [Action::Refuse(2, Refusal::TooLarge { needs: 1001, allowed: 1000 })]);
}

#[test]
fn a_model_that_fails_is_left_alone_for_longer_and_longer() {
    let mut residents = Residents::new(rules(100));
    let mut now = s(0);
    let mut wait = RETRY_FIRST;
    for time in 1..=20 {
        residents.wanted(want(time, "a", 40), now);
        assert_eq!(residents.decide(now, PLENTY).len(), 2, "it is tried");
        residents.failed(&key("a"), "damaged".into(), now);
        residents.stopped(&key("a"));
        assert_eq!(residents.failure(&key("a")), Some(("damaged", u32::try_from(time).unwrap())));
        residents.wanted(want(100, "a", 40), now);
        let refusal = Refusal::Failed { reason: "damaged".into(), retry_in: wait };
        assert_eq!(residents.decide(now, PLENTY), [Action::Refuse(100, refusal)]);
        now += wait;
        wait = (wait * 2).min(RETRY_MAX);
    }
    assert_eq!(wait, RETRY_MAX);
    residents.wanted(want(1, "a", 40), now);
    residents.decide(now, PLENTY);
    residents.failed(&key("a"), "damaged".into(), now);
    residents.stopped(&key("a"));
    // Another file is tried at once, and what works is forgiven.
    residents.wanted(Want { file: 1, ..want(2, "a", 40) }, now);
    assert_eq!(residents.decide(now, PLENTY).len(), 2);
    residents.loaded(&key("a"), now);
    assert_eq!(residents.failure(&key("a")), None);
}

#[test]
fn what_is_removed_is_forgotten() {
    let mut residents = Residents::new(rules(100));
    residents.wanted(want(1, "a", 40), s(0));
    residents.decide(s(0), PLENTY);
    residents.failed(&key("a"), "damaged".into(), s(0));
    residents.stopped(&key("a"));
    residents.installed(&[key("b")]);
    residents.installed(&[key("a")]);
    residents.wanted(want(2, "a", 40), s(1));
    assert_eq!(residents.decide(s(1), PLENTY).len(), 2);
}

/// What may happen.
#[derive(Debug, Clone)]
enum Event {
    Want { model: u8, keep: Option<u8> },
    Leave,
    Release,
    Load,
    Fail,
    Stopped,
    Unload(u8),
    Pass(u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..4u8, proptest::option::of(0..20u8)).prop_map(|(model, keep)| Event::Want { model, keep }),
        1 => Just(Event::Leave),
        3 => Just(Event::Release),
        3 => Just(Event::Load),
        1 => Just(Event::Fail),
        3 => Just(Event::Stopped),
        1 => (0..4u8).prop_map(Event::Unload),
        2 => (0..30u8).prop_map(Event::Pass),
    ]
}

/// A machine that does what it is told, and checks that it may.
struct Machine {
    residents: Residents,
    now: Moment,
    budget: u64,
    next: Ticket,
    waiting: Vec<Ticket>,
    leases: Vec<(Key, u64)>,
    loading: Vec<Key>,
    ready: HashSet<Key>,
    stopping: Vec<Key>,
    started: HashMap<Key, u64>,
}

/// The fourth model is pinned.
const SIZES: [u64; 4] = [30, 45, 60, 35];

impl Machine {
    fn new(budget: u64) -> Self {
        Self {
            residents: Residents::new(Rules { budget, idle: Some(s(15)) }),
            now: s(0),
            budget,
            next: 0,
            waiting: Vec::new(),
            leases: Vec::new(),
            loading: Vec::new(),
            ready: HashSet::new(),
            stopping: Vec::new(),
            started: HashMap::new(),
        }
    }

    fn name(model: u8) -> Key {
        key(&model.to_string())
    }

    fn size(key: &Key) -> u64 {
        SIZES[key.parse::<usize>().unwrap()]
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Want { model, keep } => {
                self.next += 1;
                let keep = keep.map(|keep| s(keep.into()));
                let plain = want(self.next, &model.to_string(), SIZES[usize::from(*model)]);
                self.residents.wanted(Want { keep, pinned: *model == 3, ..plain }, self.now);
                self.waiting.push(self.next);
            }
            Event::Leave => {
                if !self.waiting.is_empty() {
                    self.residents.cancelled(self.waiting.remove(0));
                }
            }
            Event::Release => {
                if !self.leases.is_empty() {
                    let (key, number) = self.leases.remove(0);
                    self.residents.released(&key, number, self.now);
                }
            }
            Event::Load => {
                if let Some(key) = self.loading.pop() {
                    self.residents.loaded(&key, self.now);
                    self.ready.insert(key);
                }
            }
            Event::Fail => {
                if let Some(key) = self.loading.pop() {
                    self.residents.failed(&key, "x".into(), self.now);
                    self.stopping.push(key);
                }
            }
            Event::Stopped => {
                if let Some(key) = self.stopping.pop() {
                    self.residents.stopped(&key);
                    self.started.remove(&key);
                }
            }
            Event::Unload(model) => self.residents.unload(&Self::name(*model)),
            Event::Pass(seconds) => self.now += s((*seconds).into()),
        }
        self.decide();
    }

    fn decide(&mut self) {
        for action in self.residents.decide(self.now, PLENTY) {
            match action {
                Action::Start(key, number) => {
                    assert!(self.started.insert(key.clone(), number).is_none(), "one engine a model");
                    self.loading.push(key);
                }
                Action::Grant(ticket, key, number) => {
                    assert_eq!(self.started.get(&key), Some(&number), "an engine that is there");
                    assert!(!self.stopping.contains(&key), "none on its way out");
                    self.answered(ticket);
                    self.leases.push((key, number));
                }
                Action::Stop(key) => {
                    assert!(self.ready.remove(&key), "only what was loaded, and once");
                    assert!(self.leases.iter().all(|(used, _)| *used != key), "nobody uses it");
                    assert_ne!(&*key, "3", "it is pinned");
                    self.stopping.push(key);
                }
                Action::Refuse(ticket, _) => self.answered(ticket),
            }
        }
        let all: u64 = self.started.keys().map(Self::size).sum();
        assert!(all <= self.budget, "{all} of {}", self.budget);
    }

    fn answered(&mut self, ticket: Ticket) {
        let place = self.waiting.iter().position(|waiting| *waiting == ticket).expect("it waits, and is answered once");
        self.waiting.remove(place);
    }
}

proptest! {
    /// Whatever happens, the budget holds, nothing in use goes, and who waits is answered once all others are done.
    #[test]
    fn storms_are_weathered(events in proptest::collection::vec(event(), 1..200), budget in 60..150u64) {
        let mut machine = Machine::new(budget);
        for event in &events {
            machine.apply(event);
        }
        for _ in 0..200 {
            for event in [Event::Load, Event::Release, Event::Stopped, Event::Pass(11)] {
                machine.apply(&event);
            }
        }
        prop_assert!(machine.waiting.is_empty(), "{:?} still wait", machine.waiting);
    }
}
