//! Who gets which slot.

use crate::active::{Active, cells_of, length};
use crate::backend::Backend;
use crate::engine::Engine;
use crate::event::Event;
use crate::request::{Class, Generate};
use crate::sampler::Sampler;
use crate::slot::{Slot, State};

/// One in so many slots is kept free for others where several people use the machine.
const KEPT_FREE: usize = 4;

impl<B: Backend> Engine<B> {
    /// Moves requests into slots, for as long as slots and cells last: those that were paused, and those of the
    /// queue in its order.
    pub(crate) fn admit(&mut self, events: &mut Vec<Event>) {
        loop {
            let next = self.queue.next(|owner, class| self.may_have_another(owner, class));
            let class = next.map(|(_, class)| class);
            let has_moved = match (next, self.next_paused()) {
                (_, Some((place, paused))) if class <= Some(paused) => self.resume(place, events),
                (Some((request, class)), _) => {
                    let request = request.clone();
                    self.admit_one(&request, class)
                }
                (None, _) => false,
            };
            if !has_moved {
                return;
            }
        }
    }

    /// Moves a request of the queue into a slot; `false` when there is none for it.
    fn admit_one(&mut self, request: &Generate, class: Class) -> bool {
        let Some(slot) = self.choose_slot(request).or_else(|| self.pause_one(class)) else { return false };
        if !self.make_room(slot, cells_of(request), class) {
            return false;
        }
        let job = self.queue.take(request.id).expect("the queue has the request it gave");
        self.count_passed();
        let cached_tokens = self.take_over(slot, request);
        self.ticks += 1;
        self.known.insert(slot, request.scope(), request.common, &request.prompt);
        let bytes = |token| self.backend.token_bytes(token);
        let sampler = Sampler::after(request.sampling.clone(), &request.prompt, bytes);
        self.slots[slot].state = State::Active(Box::new(Active::new(job, sampler, cached_tokens, self.ticks)));
        true
    }

    /// Whether an owner may have one more slot. Where several people use the machine, nobody has all of it: who
    /// comes next begins at once. What would be paused for the request does not count.
    fn may_have_another(&self, owner: u64, class: Class) -> bool {
        let all = self.slots.len();
        let most = if self.queue.has_others(owner) { all - all / KEPT_FREE } else { all };
        let active = self.slots.iter().filter_map(Slot::active).map(|active| &active.request);
        active.filter(|request| request.salt == owner && request.class >= class.min(Class::Chat)).count() < most.max(1)
    }

    /// The slot for a request. The one whose KV is mostly the beginning of its prompt (the same conversation
    /// goes on), where it is no worse placed than others or could not be copied; else the best placed one.
    fn choose_slot(&self, request: &Generate) -> Option<usize> {
        let best = self.best_slot()?;
        let common = self.known.common(request);
        let free = (0..self.slots.len()).filter(|index| !self.slots[*index].is_active());
        let known = free.max_by_key(|index| (common.get(index).copied(), std::cmp::Reverse(*index)))?;
        let common = common.get(&known).copied().unwrap_or(0);
        let same_conversation = common > 0 && common.saturating_mul(2) >= self.slots[known].resident_cells();
        let well_placed = self.limits.copy_min.is_none() || self.distance(known) <= self.distance(best);
        Some(if same_conversation && well_placed { known } else { best })
    }

    /// Of the free slots that are placed best an empty one, or the one unused for the longest.
    pub(crate) fn best_slot(&self) -> Option<usize> {
        let free = (0..self.slots.len()).filter(|index| !self.slots[*index].is_active());
        free.min_by_key(|index| (self.distance(*index), self.slots[*index].last_used(), *index))
    }

    /// How far a slot is from those at work, where only neighbours are computed together; 0 between them.
    fn distance(&self, index: usize) -> usize {
        let active = || (0..self.slots.len()).filter(|index| self.slots[*index].is_active());
        match (active().next(), active().next_back()) {
            (Some(first), Some(last)) if self.limits.neighbours => {
                first.saturating_sub(index) + index.saturating_sub(last)
            }
            _ => 0,
        }
    }

    fn oldest_resident(&self, except: usize) -> Option<usize> {
        let others = (0..self.slots.len()).filter(|index| *index != except);
        let residents = others.filter_map(|index| Some((self.slots[index].last_used()?, index)));
        residents.min().map(|(_, index)| index)
    }

    /// Until `cells` more can be promised to `slot`: archives what other slots remember, oldest first, then pauses
    /// what is less urgent.
    pub(crate) fn make_room(&mut self, slot: usize, cells: u32, class: Class) -> bool {
        let others = |slots: &[Slot]| -> u32 {
            let others = slots.iter().enumerate().filter(|(index, _)| *index != slot);
            others.map(|(_, slot)| slot.promised_cells()).sum()
        };
        while others(&self.slots) + cells > self.limits.cells {
            if let Some(oldest) = self.oldest_resident(slot) {
                self.archive(oldest, 0);
                self.clear(oldest);
            } else if self.pause_one(class).is_none() {
                return false;
            }
        }
        true
    }

    /// Keeps what the slot already knows of the prompt; the rest goes to the archive.
    fn take_over(&mut self, index: usize, request: &Generate) -> u32 {
        let common = self.known.common(request).get(&index).copied().unwrap_or(0);
        let keep = self.slots[index].usable(common, request);
        self.archive(index, keep);
        let slot = &mut self.slots[index];
        if keep < length(&request.prompt) {
            slot.after_prompt = None;
        }
        if keep > 0 && (keep == slot.resident_cells() || self.backend.truncate(slot.sequence, keep)) {
            return keep;
        }
        self.clear(index);
        0
    }
}
