//! Who is next: fair between owners, in tokens. Whoever was served least comes first. More urgent classes come before;
//! what nobody waits for is passed over, but not for ever.

use std::cmp::Reverse;
use std::collections::VecDeque;

use crate::request::{Class, Generate, Job, RequestId};
use crate::shares::Shares;

/// What a token of output counts, in tokens of prompt: it takes a step of its own.
const OUTPUT_WEIGHT: u64 = 2;
/// Requests that say who uses the machine these days.
const RECENT: usize = 64;
/// Requests of others that come before one that nobody waits for. Then it counts as one that somebody does.
pub(crate) const PATIENCE: u32 = 64;

/// Requests that wait, and what their owners had so far. An owner is known by the salt of their requests.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// In the order of arrival.
    waiting: Vec<Waiting>,
    /// What each owner was served, in tokens of prompt.
    served: Shares,
    /// The owners of the requests that left the queue last.
    recent: VecDeque<u64>,
}

#[derive(Debug)]
struct Waiting {
    job: Job,
    /// The place in the queue that was last told; 0 before any.
    told: u32,
    /// How many others came before, since it waits.
    passed: u32,
}

impl Waiting {
    fn class(&self) -> Class {
        let class = self.job.request.class;
        if self.passed < PATIENCE { class } else { class.max(Class::Chat) }
    }
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Appends a request. `present` are the owners that are being served.
    pub(crate) fn push(&mut self, job: impl Into<Job>, present: impl Iterator<Item = u64>) {
        let job = job.into();
        let owner = job.request.salt;
        let here: Vec<u64> = self.owners().chain(present).collect();
        self.served.arrive(owner, &here);
        self.waiting.push(Waiting { job, told: 0, passed: 0 });
    }

    /// The owners of what waits.
    pub(crate) fn owners(&self) -> impl Iterator<Item = u64> {
        self.waiting.iter().map(|waiting| waiting.job.request.salt)
    }

    /// How urgent each of what waits is.
    pub(crate) fn classes(&self) -> impl Iterator<Item = Class> {
        self.waiting.iter().map(Waiting::class)
    }

    /// Whether somebody else was served lately, or waits.
    pub(crate) fn has_others(&self, owner: u64) -> bool {
        self.recent.iter().copied().chain(self.owners()).any(|other| other != owner)
    }

    /// What an owner was served.
    pub(crate) fn served(&self, owner: u64) -> u64 {
        self.served.of(owner)
    }

    /// Counts what was computed for an owner.
    pub(crate) fn count(&mut self, owner: u64, prompt: u32, output: u32) {
        self.served.count(owner, u64::from(prompt) + OUTPUT_WEIGHT * u64::from(output));
    }

    /// The next request, of owners that `may` have another, and its class: of the most urgent ones, of the owner
    /// served least, the one that came first.
    pub(crate) fn next(&self, may: impl Fn(u64, Class) -> bool) -> Option<(&Generate, Class)> {
        let allowed = self.waiting.iter().filter(|waiting| may(waiting.job.request.salt, waiting.class()));
        // Of equal ones the first is taken.
        let next = allowed.min_by_key(|waiting| self.order(waiting))?;
        Some((&next.job.request, next.class()))
    }

    fn order(&self, waiting: &Waiting) -> (Reverse<Class>, u64) {
        (Reverse(waiting.class()), self.served(waiting.job.request.salt))
    }

    /// Takes a request out to be served. One that was passed over for too long is from now on as urgent as others.
    pub(crate) fn take(&mut self, id: RequestId) -> Option<Job> {
        let class = self.waiting.iter().find(|waiting| waiting.job.request.id == id)?.class();
        let mut job = self.remove(id)?;
        job.request.class = class;
        for waiting in &mut self.waiting {
            waiting.passed = waiting.passed.saturating_add(1);
        }
        self.recent.truncate(RECENT - 1);
        self.recent.push_front(job.request.salt);
        Some(job)
    }

    /// Takes a request out.
    pub(crate) fn remove(&mut self, id: RequestId) -> Option<Job> {
        let index = self.waiting.iter().position(|waiting| waiting.job.request.id == id)?;
        Some(self.waiting.remove(index).job)
    }

    /// The requests whose place changed since they were told, with their places from 1 on: the order in which they
    /// would be served if nothing else came.
    pub(crate) fn moved(&mut self) -> Vec<(RequestId, u32)> {
        let mut order: Vec<usize> = (0..self.waiting.len()).collect();
        order.sort_by_key(|index| self.order(&self.waiting[*index]));
        let mut moved = Vec::new();
        for (place, index) in (1..).zip(order) {
            let waiting = &mut self.waiting[index];
            if waiting.told != place {
                waiting.told = place;
                moved.push((waiting.job.request.id, place));
            }
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{AdapterId, SamplingParams, TokenId};
    use crate::shares::OWNERS_MAX;

    fn request(id: u64, owner: u64) -> Generate {
        Generate {
            id: RequestId(id),
            salt: owner,
            adapter: AdapterId::NONE,
            class: Class::Chat,
            common: 0,
            prompt: vec![TokenId(1)],
            max_tokens: 1,
            sampling: SamplingParams::default(),
            stop: Vec::new(),
            control_words: false,
            prediction: Vec::new(),
            top_logprobs: None,
            score_prompt: false,
        }
    }

    fn take(queue: &mut Queue) -> Option<u64> {
        let id = queue.next(|_, _| true)?.0.id;
        queue.take(id).map(|job| job.request.id.0)
    }

    #[test]
    fn whoever_was_served_least_comes_first_and_else_who_came_first() {
        let mut queue = Queue::default();
        for (id, owner) in [(1, 7), (2, 7), (3, 8), (4, 7)] {
            queue.push(request(id, owner), std::iter::empty());
        }
        assert_eq!(take(&mut queue), Some(1));
        queue.count(7, 100, 0);
        assert_eq!(take(&mut queue), Some(3));
        queue.count(8, 0, 51);
        assert_eq!([take(&mut queue), take(&mut queue), take(&mut queue)], [Some(2), Some(4), None]);
    }

    #[test]
    fn nobody_saves_up_by_being_away() {
        let mut queue = Queue::default();
        queue.push(request(1, 7), std::iter::empty());
        queue.count(7, 1000, 0);
        queue.push(request(2, 8), std::iter::empty());
        assert_eq!(queue.served(8), 1000);
        queue.push(request(3, 9), [7].into_iter());
        assert_eq!(queue.served(9), 1000);
    }

    #[test]
    fn places_are_told_when_they_change() {
        let mut queue = Queue::default();
        queue.push(request(1, 7), std::iter::empty());
        queue.push(request(2, 7), std::iter::empty());
        assert_eq!(queue.moved(), [(RequestId(1), 1), (RequestId(2), 2)]);
        assert_eq!(queue.moved(), []);
        queue.push(request(3, 8), std::iter::empty());
        queue.count(7, 10, 0);
        assert_eq!(queue.moved(), [(RequestId(3), 1), (RequestId(1), 2), (RequestId(2), 3)]);
        queue.remove(RequestId(1));
        assert_eq!(queue.moved(), [(RequestId(2), 2)]);
    }

    #[test]
    fn an_owner_who_has_enough_is_passed_over() {
        let mut queue = Queue::default();
        queue.push(request(1, 7), std::iter::empty());
        queue.push(request(2, 8), std::iter::empty());
        assert_eq!(queue.next(|owner, _| owner != 7).map(|(request, _)| request.id.0), Some(2));
        assert!(queue.next(|_, _| false).is_none());
    }

    #[test]
    fn the_more_urgent_comes_first_and_what_nobody_waits_for_in_the_end() {
        let mut queue = Queue::default();
        queue.push(Generate { class: Class::Batch, ..request(0, 7) }, std::iter::empty());
        for id in 1..u64::from(PATIENCE) {
            queue.push(request(id, 8), std::iter::empty());
            queue.push(Generate { class: Class::Voice, ..request(1000 + id, 8) }, std::iter::empty());
            assert_eq!([take(&mut queue), take(&mut queue)], [Some(1000 + id), Some(id)]);
            if 2 * id >= u64::from(PATIENCE) {
                break;
            }
        }
        // It was passed over for long enough, and its owner was served least.
        queue.count(8, 1, 0);
        queue.push(request(1, 8), std::iter::empty());
        assert_eq!(queue.next(|_, _| true).map(|(request, class)| (request.id.0, class)), Some((0, Class::Chat)));
        assert_eq!(queue.take(RequestId(0)).map(|job| job.request.class), Some(Class::Chat));
    }

    #[test]
    fn others_are_known_for_a_while() {
        let mut queue = Queue::default();
        queue.push(request(0, 7), std::iter::empty());
        assert!(!queue.has_others(7));
        queue.push(request(1, 8), std::iter::empty());
        assert!(queue.has_others(7));
        queue.take(RequestId(1));
        for id in 2..RECENT as u64 + 1 {
            queue.push(request(id, 7), std::iter::empty());
            queue.take(RequestId(id));
            assert!(queue.has_others(7));
        }
        take(&mut queue);
        assert!(!queue.has_others(7));
    }

    #[test]
    fn a_bounded_number_of_owners_is_known() {
        let mut queue = Queue::default();
        for owner in 0..3000 {
            queue.push(request(owner, owner), std::iter::empty());
            queue.remove(RequestId(owner));
        }
        assert_eq!(queue.served.len(), OWNERS_MAX);
    }
}
