//! The first half of a step: the tokens to decode, and guesses of what follows them where these are likely to pay.
//!
//! Guesses come from what a grammar forces, from what came before, from what the client expects or from a smaller model,
//! whichever promises more tokens a second as measured.
//! The sampler draws at each place as it would have, and only guesses that equal what it drew are kept: so no
//! answer and no distribution depends on them.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::backend::{Backend, BatchToken, DRAFT_BACKLOG_MAX};
use crate::draft::{Drafter, Found, Kind};
use crate::engine::{Engine, len};
use crate::pace::{Pace, Plan};
use crate::request::{Class, TokenId};
use crate::slot::Slot;

/// A model that guesses catches up in this part of the time that prompts may take in a step.
const CATCH_UP_PART: u32 = 4;

impl<B: Backend> Engine<B> {
    /// One token for everyone who generates with the adapter whose turn it is, with guesses of what follows where they
    /// are likely to pay.
    pub(crate) fn next_tokens(&mut self) -> Vec<BatchToken> {
        let with_batch = self.takes_part(Class::Batch);
        let adapter = |slot: &Slot| slot.active().filter(|_| slot.is_decoding()).map(|active| active.request.adapter);
        let is_batch = |slot: &Slot| slot.active().is_some_and(|active| active.request.class == Class::Batch);
        let of = |batch: bool| -> BTreeSet<_> {
            self.slots.iter().filter(|slot| is_batch(slot) == batch).filter_map(adapter).collect()
        };
        let (urgent, batch) = (of(false), if with_batch { of(true) } else { BTreeSet::new() });
        let turn = match (urgent.is_empty(), batch.is_empty()) {
            (false, false) => self.turns.next_of_batch(&batch),
            (true, _) => self.turns.next(&batch),
            (false, true) => self.turns.next(&urgent),
        };
        let Some(turn) = turn else { return Vec::new() };
        let takes_part = |slot: &Slot| adapter(slot) == Some(turn) && (with_batch || !is_batch(slot));
        let decoding = self.slots.iter().filter(|slot| takes_part(slot)).count();
        let mut spare = self.limits.batch.saturating_sub(u32::try_from(decoding).unwrap_or(u32::MAX));
        let guesses = self.limits.drafts && self.config.speculate;
        let mut guesser = Guesser {
            backend: &mut self.backend,
            pace: &mut self.pace,
            decoding,
            catch_up_time: self.config.chunk_time / CATCH_UP_PART,
            has_caught_up: false,
        };
        let mut batch = Vec::new();
        for slot in self.slots.iter_mut().filter(|slot| takes_part(slot)) {
            let sequence = slot.sequence;
            let Some(active) = slot.active_mut() else { continue };
            let tokens = active.next_tokens(sequence, |drafter, tokens, forced, longest| match forced {
                _ if !guesses => Vec::new(),
                forced if !forced.is_empty() => guesser.forced(drafter, forced, longest.min(spare)),
                _ => guesser.guess(drafter, sequence, tokens, longest.min(spare)),
            });
            spare = spare.saturating_sub(len(&tokens).saturating_sub(1));
            batch.extend(tokens);
        }
        batch
    }
}

/// Guesses for the sequences of one step.
struct Guesser<'step, B> {
    backend: &'step mut B,
    pace: &'step mut Pace,
    /// Sequences that decode in this step.
    decoding: usize,
    catch_up_time: Duration,
    /// Whether the model caught up with a sequence: with one a step, so that nobody waits for more.
    has_caught_up: bool,
}

impl<B: Backend> Guesser<'_, B> {
    /// A guess of at most `longest` tokens, empty where none is likely to pay.
    fn guess(&mut self, drafter: &mut Drafter, sequence: u32, tokens: &[TokenId], longest: u32) -> Vec<TokenId> {
        let lookup = self.lookup(drafter, tokens, longest);
        let least = lookup.map_or(0.0, |(_, plan)| plan.rate);
        if let Some(plan) = self.model(drafter, sequence, tokens, longest).filter(|plan| plan.rate > least) {
            let guess = self.draft(sequence, tokens, plan.length);
            drafter.has_model = true;
            if !guess.is_empty() {
                drafter.kind = Kind::Model;
                return guess;
            }
        }
        let Some((found, plan)) = lookup else { return Vec::new() };
        drafter.kind = found.kind;
        drafter.guess(tokens, found, plan.length)
    }

    /// What a grammar forces, as far as computing it at once is likely to pay.
    fn forced(&mut self, drafter: &mut Drafter, mut forced: Vec<TokenId>, longest: u32) -> Vec<TokenId> {
        let longest = longest.min(u32::try_from(forced.len()).unwrap_or(u32::MAX));
        let plan = self.pace.plan(self.decoding, drafter.hit(Kind::Forced), longest, 0.0);
        let Some(plan) = plan else {
            drafter.skip(Kind::Forced);
            self.pace.fade();
            return Vec::new();
        };
        drafter.kind = Kind::Forced;
        forced.truncate(plan.length as usize);
        forced
    }

    /// What may follow as it did before or as is expected: from where, and how much of it.
    fn lookup(&mut self, drafter: &mut Drafter, tokens: &[TokenId], longest: u32) -> Option<(Found, Plan)> {
        let found = drafter.find(tokens)?;
        let plan = self.pace.plan(self.decoding, drafter.hit(found.kind), longest, 0.0);
        if plan.is_none() {
            drafter.skip(found.kind);
            self.pace.fade();
        }
        Some((found, plan?))
    }

    /// What a model may guess, where there is one.
    fn model(&mut self, drafter: &mut Drafter, sequence: u32, tokens: &[TokenId], longest: u32) -> Option<Plan> {
        let backlog = self.backend.draft_backlog(sequence, tokens)?;
        let catch_up = if backlog > DRAFT_BACKLOG_MAX { backlog } else { 0 };
        if self.pace.is_stale() || (catch_up > 0 && self.has_caught_up) {
            return None;
        }
        let hit = drafter.hit(Kind::Model);
        let plan = self.pace.model_plan(self.decoding, hit, longest, catch_up);
        let plan = plan.filter(|_| drafter.has_model || self.pace.trial.may_begin());
        if plan.is_none() {
            drafter.has_model = false;
            drafter.skip(Kind::Model);
            self.pace.fade_model();
        }
        plan
    }

    /// Lets the model guess; nothing comes of it while it catches up.
    fn draft(&mut self, sequence: u32, tokens: &[TokenId], length: u32) -> Vec<TokenId> {
        let room = self.pace.trial.catch_up_in(self.catch_up_time);
        let mut draft = self.backend.draft(sequence, tokens, length, room);
        self.has_caught_up |= draft.tokens.is_empty();
        self.pace.trial.note(draft.tokens.len(), draft.computed, draft.took);
        draft.tokens.truncate(length as usize);
        draft.tokens
    }
}
