//! What nobody waits for gives up its slot to what somebody does, and goes on later where it was.

use crate::active::{Active, Outcome};
use crate::backend::Backend;
use crate::engine::Engine;
use crate::event::{Event, Failure, FinishReason};
use crate::queue::PATIENCE;
use crate::request::{Class, RequestId};
use crate::slot::{AfterPrompt, State};

/// A request without a slot.
#[derive(Debug)]
pub(crate) struct Paused {
    active: Box<Active>,
    after_prompt: Option<AfterPrompt>,
    /// Its KV; nothing where nothing was computed.
    state: Option<Vec<u8>>,
    /// How many others came before, since it is paused.
    passed: u32,
}

impl Paused {
    fn class(&self) -> Class {
        if self.passed < PATIENCE { Class::Batch } else { Class::Chat }
    }
}

impl<B: Backend> Engine<B> {
    /// Takes the slot of what nobody waits for and was admitted last, for something more urgent. `None` where there
    /// is no such slot, or its KV cannot be saved.
    pub(crate) fn pause_one(&mut self, class: Class) -> Option<usize> {
        if class <= Class::Batch || self.paused.len() >= self.slots.len() {
            return None;
        }
        let admitted = |index: usize| Some((self.slots[index].active()?, index));
        let active = (0..self.slots.len()).filter_map(admitted);
        let patient = active.filter(|(active, _)| active.request.class == Class::Batch);
        let (active, index) = patient.max_by_key(|(active, _)| active.admitted())?;
        let state = match active.computed() {
            0 => None,
            _ => Some(self.backend.save(self.slots[index].sequence)?),
        };
        let slot = &mut self.slots[index];
        let (after_prompt, taken) = (slot.after_prompt.take(), std::mem::replace(&mut slot.state, State::Empty));
        let State::Active(active) = taken else { unreachable!("the slot was active above") };
        self.clear(index);
        self.counters.paused += 1;
        self.paused.push(Paused { active, after_prompt, state, passed: 0 });
        Some(index)
    }

    /// The paused request that is next, by its place, and how urgent it has become.
    pub(crate) fn next_paused(&self) -> Option<(usize, Class)> {
        let by_place = self.paused_classes().enumerate();
        // Of equal ones the first.
        by_place.min_by_key(|(place, class)| (std::cmp::Reverse(*class), *place))
    }

    /// How urgent each paused request has become.
    pub(crate) fn paused_classes(&self) -> impl Iterator<Item = Class> {
        self.paused.iter().map(Paused::class)
    }

    /// Counts a request that came before those that are paused.
    pub(crate) fn count_passed(&mut self) {
        for paused in &mut self.paused {
            paused.passed = paused.passed.saturating_add(1);
        }
    }

    /// Gives a paused request a slot again; `false` when there is none.
    pub(crate) fn resume(&mut self, place: usize, events: &mut Vec<Event>) -> bool {
        let (Some(index), Some((_, class))) = (self.best_slot(), self.next_paused()) else { return false };
        if !self.make_room(index, self.paused[place].active.cells(), class) {
            return false;
        }
        self.archive(index, 0);
        self.clear(index);
        let Paused { mut active, after_prompt, state, .. } = self.paused.remove(place);
        self.counters.resumed += 1;
        active.request.class = class;
        let slot = &mut self.slots[index];
        let is_restored = state.is_none_or(|state| self.backend.restore(slot.sequence, &state));
        let request = &active.request;
        self.known.insert(index, request.scope(), request.common, &request.prompt);
        (slot.state, slot.after_prompt) = (State::Active(active), after_prompt);
        if !is_restored {
            self.end(
                index,
                Outcome::Failed(Failure::Backend("its KV could not be restored after a pause".to_owned())),
                events,
            );
            self.clear(index);
        }
        true
    }

    /// Ends a paused request.
    pub(crate) fn cancel_paused(&mut self, id: RequestId) -> Option<Event> {
        let place = self.paused.iter().position(|paused| paused.active.request.id == id)?;
        let (event, ..) = self.paused.remove(place).active.end(Outcome::Finished(FinishReason::Cancelled));
        Some(event)
    }
}
