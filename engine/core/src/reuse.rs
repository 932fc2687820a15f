//! Nothing known is computed twice: what begins alike is copied from other slots, waited for where it is being
//! computed, or brought back from the archive.

use crate::active::{Active, cells_of, length};
use crate::archive::{Archive, EntryId, Fetched, Kept};
use crate::backend::Backend;
use crate::engine::Engine;
use crate::event::Event;
use crate::request::{Generate, RequestId};
use crate::slot::{Slot, State};
use crate::stats::Known;

/// An entry of the archive is brought back when at least one in so many of its tokens saves work: computing a token
/// takes far longer than bringing it.
const ARCHIVE_USE_MIN: u32 = 32;

/// Where the beginning of a prompt comes from.
enum Source {
    /// The slot has it, or nobody does.
    Here,
    Slot(usize),
    /// An entry, and how many of its tokens begin the prompt.
    Archive(EntryId, u32),
}

impl<B: Backend> Engine<B> {
    /// Before a slot's first piece of prompt: gets the beginning that is known elsewhere. `false` when that is on its
    /// way, or a prompt admitted earlier is about to compute a beginning that saves half of the work or more.
    pub(crate) fn begin(&mut self, index: usize, events: &mut Vec<Event>) -> bool {
        let Some(active) = self.slots[index].active().filter(|active| !active.is_started()) else { return true };
        let request = active.request.clone();
        let (source, usable) = self.source(index, &request);
        if self.is_coming(index, &request, usable) {
            return false;
        }
        let (usable, known) = match source {
            Source::Here => (usable, Known::Slot),
            Source::Slot(other) => {
                self.copy(other, index, usable);
                (usable, Known::Copied)
            }
            Source::Archive(entry, common) => match self.archive.as_mut().map(|archive| archive.fetch(entry)) {
                Some(Fetched::Here(kept, tier)) => {
                    (self.restore(index, entry, &kept, common, &request), Known::Archive(tier))
                }
                Some(Fetched::Coming) => return false,
                // Look again without it.
                Some(Fetched::Gone) | None => return self.begin(index, events),
            },
        };
        self.counters.prompt.note_known(known, usable);
        let active = self.slots[index].active_mut().expect("the slot was active above");
        active.set_cached(usable);
        events.push(active.start());
        true
    }

    /// Who has most of a request's prompt, and how many tokens of it need not be computed then.
    fn source(&mut self, index: usize, request: &Generate) -> (Source, u32) {
        let own = self.slots[index].computed();
        let (mut source, mut usable) = (Source::Here, own);
        if request.score_prompt {
            return (source, usable);
        }
        if let Some(copy_min) = self.limits.copy_min.map(|least| least.max(1)) {
            let common = self.known.common(request);
            for (other, slot) in self.slots.iter().enumerate().filter(|(other, _)| *other != index) {
                let known = slot.usable(common.get(&other).copied().unwrap_or(0), request);
                if known >= usable.saturating_add(copy_min) {
                    (source, usable) = (Source::Slot(other), known);
                }
            }
        }
        if let Some(found) = self.archive.as_mut().and_then(|archive| archive.find(request)) {
            let can_be_cut = self.limits.copy_min.is_some();
            let common = found.common.min(length(&request.prompt).saturating_sub(u32::from(can_be_cut)));
            let saved = common.saturating_sub(usable);
            let fits = self.limits.neighbours || found.length <= cells_of(request);
            let is_whole = can_be_cut || (found.length == common && common < length(&request.prompt));
            if fits && is_whole && saved >= self.config.archive_min.max(found.length / ARCHIVE_USE_MIN) {
                (source, usable) = (Source::Archive(found.entry, found.common), common);
            }
        }
        (source, usable)
    }

    /// Whether a prompt admitted earlier is about to compute a beginning that saves half of the work or more.
    fn is_coming(&self, index: usize, request: &Generate, usable: u32) -> bool {
        let copy_min = self.limits.copy_min.filter(|_| !request.score_prompt);
        let Some(copy_min) = copy_min.map(|least| least.max(1)) else { return false };
        let admitted = |slot: &Slot| slot.active().map(Active::admitted);
        let common = self.known.common(request);
        let others = self.slots.iter().enumerate();
        let earlier = others.filter(|(_, slot)| slot.is_prefilling() && admitted(slot) < admitted(&self.slots[index]));
        let coming = earlier.filter_map(|(other, _)| common.get(&other).copied()).max().unwrap_or(0);
        let saved = coming.saturating_sub(usable);
        saved >= copy_min && saved.saturating_mul(2) >= length(&request.prompt) - usable
    }

    /// Gives slot `to` the first `length` tokens of slot `from`.
    fn copy(&mut self, from: usize, to: usize, length: u32) {
        self.backend.clear(self.slots[to].sequence);
        self.backend.copy(self.slots[from].sequence, self.slots[to].sequence, length);
        self.slots[to].after_prompt = self.slots[from].after_prompt.clone().filter(|after| after.length == length);
    }

    /// Gives a slot what the archive kept, of which the first `common` tokens begin the prompt; how many tokens of
    /// the prompt need not be computed then.
    fn restore(&mut self, index: usize, entry: EntryId, kept: &Kept, common: u32, request: &Generate) -> u32 {
        let sequence = self.slots[index].sequence;
        self.backend.clear(sequence);
        self.slots[index].after_prompt = None;
        if !self.backend.restore(sequence, &kept.state) {
            self.forget(entry);
            return 0;
        }
        let after = kept.after_prompt.clone().filter(|after| after.length == common);
        let is_whole = common == length(&request.prompt) && after.is_some();
        let usable = if is_whole { common } else { common.min(length(&request.prompt) - 1) };
        if usable < length(&kept.tokens) && !self.backend.truncate(sequence, usable) {
            self.backend.clear(sequence);
            return 0;
        }
        self.slots[index].after_prompt = after.filter(|_| is_whole);
        usable
    }

    fn forget(&mut self, entry: EntryId) {
        if let Some(archive) = &mut self.archive {
            archive.forget(entry);
        }
    }

    /// Takes a copy of what a slot remembers of an ended request into the archive, unless a request that goes on
    /// after the first `keep` tokens has nearly all of it.
    pub(crate) fn archive(&mut self, index: usize, keep: u32) {
        let slot = &mut self.slots[index];
        let (Some(archive), State::Resident(resident)) = (&mut self.archive, &mut slot.state) else { return };
        let lost = length(&resident.tokens).saturating_sub(keep);
        if resident.is_archived || lost < self.config.archive_min {
            return;
        }
        if let Some(state) = self.backend.save(slot.sequence) {
            resident.is_archived = true;
            archive.keep(Kept {
                scope: resident.scope,
                common: resident.common,
                tokens: resident.tokens.clone(),
                after_prompt: slot.after_prompt.clone(),
                state,
            });
        }
    }

    /// Takes a copy of one ended request that the archive does not have yet; `false` when it has all.
    pub fn archive_one(&mut self) -> bool {
        let is_new = |slot: &Slot| {
            let resident = slot.resident().filter(|resident| !resident.is_archived);
            resident.is_some_and(|resident| length(&resident.tokens) >= self.config.archive_min)
        };
        let Some(index) = self.slots.iter().position(is_new).filter(|_| self.archive.is_some()) else { return false };
        self.archive(index, 0);
        // What cannot be saved is not tried again.
        if let State::Resident(resident) = &mut self.slots[index].state {
            resident.is_archived = true;
        }
        true
    }

    /// Ends the engine: all requests, and what is known goes to the archive, which is given back.
    pub fn close(mut self) -> Option<Box<dyn Archive>> {
        let active: Vec<RequestId> = self.slots.iter().filter_map(Slot::request).collect();
        for id in active {
            self.cancel(id, &mut Vec::new());
        }
        while self.archive_one() {}
        self.archive
    }
}
