//! A smaller model that guesses what a larger one will say.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Instant;

use allerac_engine_core::{DRAFT_BACKLOG_MAX, Draft, TokenId};
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::token::LlamaToken;

use crate::context::{ContextParams, flash_policy, signed};
use crate::model::{LoadError, Model};

/// Sequences that it follows at once: where more decode together, guesses hardly pay.
const LANES: u32 = 2;
/// Tokens in one step of it.
const BATCH: u32 = 128;
/// A sequence without guesses while others were looked at so many times gives its place away: it ended, or they do not
/// pay for it.
const IDLE: u64 = 32;
/// Vocabularies of one family may differ by so many ids that only fill up a matrix (as llama.cpp has it).
const PADDING_MAX: usize = 128;

/// A smaller model with a context of its own, in which it follows some of the sequences of a larger one.
pub struct DraftModel {
    inner: LlamaContext<'static>,
    batch: LlamaBatch<'static>,
    lanes: Vec<Lane>,
    /// The longest sequence that it follows.
    context: u32,
    /// Ids that both models have.
    vocabulary: u32,
    /// Counts how often sequences were looked at; orders lanes by their last use without a clock.
    ticks: u64,
    /// A computation failed: it does not guess any more.
    is_broken: bool,
}

/// A sequence of the smaller context.
#[derive(Debug, Default)]
struct Lane {
    /// The sequence that it follows.
    sequence: Option<u32>,
    /// The tokens whose KV is here.
    tokens: Vec<TokenId>,
    last_used: u64,
}

impl DraftModel {
    /// Loads the model to guess for `target`. Its context is no longer than that of these `params`.
    ///
    /// # Errors
    /// [`LoadError`] when it cannot be loaded, or cannot guess for this model.
    pub fn load(path: &Path, target: &Model, params: ContextParams) -> Result<Self, LoadError> {
        let model = Model::load(path, None, |_| {})?;
        let unfit = |why: String| LoadError::Unfit { path: path.to_owned(), why };
        difference(target, model).map_or(Ok(()), |why| Err(unfit(why)))?;
        if model.inner.is_recurrent() || model.inner.is_hybrid() {
            return Err(unfit("it cannot forget a wrong guess, as its state is that of a whole sequence".to_owned()));
        }
        let context = params.context.min(target.trained_context()).min(model.trained_context());
        let cells = context.saturating_mul(LANES);
        let threads = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
        let inner = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(cells))
            .with_n_seq_max(LANES)
            .with_n_batch(BATCH)
            .with_n_ubatch(BATCH)
            .with_n_threads(threads(params.threads))
            .with_n_threads_batch(threads(params.threads_batch))
            .with_kv_unified(false)
            .with_flash_attention_policy(flash_policy(params.attention.flash))
            .with_no_perf(true);
        let inner = model.inner.new_context(model.backend, inner).map_err(|_| LoadError::Context { cells })?;
        Ok(Self {
            inner,
            batch: LlamaBatch::new(BATCH as usize, 1),
            lanes: (0..LANES).map(|_| Lane::default()).collect(),
            context,
            vocabulary: target.vocabulary().min(model.vocabulary()),
            ticks: 0,
            is_broken: false,
        })
    }

    /// As [`Backend::draft_backlog`](allerac_engine_core::Backend::draft_backlog).
    pub(crate) fn backlog(&mut self, sequence: u32, tokens: &[TokenId]) -> Option<u32> {
        self.ticks += 1;
        let fits = tokens.len() + DRAFT_BACKLOG_MAX as usize <= self.context as usize;
        let lane = self.lane(sequence).filter(|_| fits && !self.is_broken)?;
        let known = if self.lanes[lane].sequence == Some(sequence) { self.lanes[lane].common(tokens) } else { 0 };
        u32::try_from(tokens.len() - known).ok()
    }

    /// As [`Backend::draft`](allerac_engine_core::Backend::draft).
    pub(crate) fn draft(&mut self, sequence: u32, tokens: &[TokenId], length: u32, room: u32) -> Draft {
        let begun = Instant::now();
        let Some(lane) = self.lane(sequence) else { return Draft::default() };
        if self.lanes[lane].sequence != Some(sequence) {
            self.empty(lane);
            self.lanes[lane].sequence = Some(sequence);
        }
        self.lanes[lane].last_used = self.ticks;
        let Some((tokens, computed)) = self.follow(lane, tokens, length, room) else {
            tracing::warn!("the draft model failed; answers go on without its guesses");
            self.is_broken = true;
            return Draft::default();
        };
        Draft { tokens, computed, took: begun.elapsed() }
    }

    /// Forgets a sequence of the larger model.
    pub(crate) fn clear(&mut self, sequence: u32) {
        if let Some(lane) = self.lanes.iter().position(|lane| lane.sequence == Some(sequence)) {
            self.empty(lane);
        }
    }

    /// The place of a sequence, or one that is free or that nobody used for long.
    fn lane(&self, sequence: u32) -> Option<usize> {
        let own = self.lanes.iter().position(|lane| lane.sequence == Some(sequence));
        own.or_else(|| {
            let (place, oldest) = self.lanes.iter().enumerate().min_by_key(|(_, lane)| lane.last_used)?;
            let is_idle = oldest.sequence.is_none() || self.ticks - oldest.last_used >= IDLE;
            is_idle.then_some(place)
        })
    }

    fn empty(&mut self, lane: usize) {
        let cleared = self.inner.clear_kv_cache_seq(Some(place(lane)), None, None);
        assert_eq!(cleared, Ok(true), "llama.cpp can always clear a whole sequence");
        self.lanes[lane] = Lane::default();
    }

    /// Forgets what turned out otherwise, computes what is new, and guesses once all is computed; the guesses, and
    /// how many tokens were new. `None` when that failed.
    fn follow(&mut self, lane: usize, tokens: &[TokenId], length: u32, room: u32) -> Option<(Vec<TokenId>, u32)> {
        let known = self.lanes[lane].common(tokens);
        if known < self.lanes[lane].tokens.len() {
            let from = u32::try_from(known).ok()?;
            self.inner.clear_kv_cache_seq(Some(place(lane)), Some(from), None).ok().filter(|cut| *cut)?;
            self.lanes[lane].tokens.truncate(known);
        }
        let new = &tokens[known..];
        if new.len() > DRAFT_BACKLOG_MAX as usize {
            let piece = new.len().min(room.clamp(1, BATCH) as usize);
            // The last token waits for its logits to be wanted.
            let piece = piece.min(new.len() - 1);
            self.compute(lane, &new[..piece], false)?;
            return Some((Vec::new(), u32::try_from(piece).ok()?));
        }
        self.compute(lane, new, true)?;
        let room = (self.context as usize).saturating_sub(tokens.len());
        let length = (length as usize).min(room);
        let mut guesses = Vec::with_capacity(length);
        while guesses.len() < length {
            let guess = self.likeliest();
            guesses.push(guess);
            if guesses.len() < length {
                self.compute(lane, &[guess], true)?;
            }
        }
        Some((guesses, u32::try_from(new.len()).ok()?))
    }

    /// Computes tokens, and with `wants_logits` what follows the last of them.
    fn compute(&mut self, lane: usize, tokens: &[TokenId], wants_logits: bool) -> Option<()> {
        self.batch.clear();
        let known = self.lanes[lane].tokens.len();
        for (index, token) in tokens.iter().enumerate() {
            // An id that only the other model has is read as another one: a guess may be wrong.
            let id = LlamaToken(signed(token.0.min(self.vocabulary - 1)));
            let position = i32::try_from(known + index).ok()?;
            let wants_logits = wants_logits && index + 1 == tokens.len();
            self.batch.add(id, position, &[i32::try_from(lane).ok()?], wants_logits).ok()?;
        }
        self.inner.decode(&mut self.batch).ok()?;
        self.lanes[lane].tokens.extend_from_slice(tokens);
        Some(())
    }

    /// The likeliest token after the last one computed.
    fn likeliest(&self) -> TokenId {
        let logits = &self.inner.get_logits_ith(self.batch.n_tokens() - 1)[..self.vocabulary as usize];
        let (id, _) = (0..).zip(logits).max_by(|(_, a), (_, b)| a.total_cmp(b)).expect("a vocabulary is not empty");
        TokenId(id)
    }
}

impl Lane {
    /// How many of the first tokens are computed here already; the last of them is computed again for its logits.
    fn common(&self, tokens: &[TokenId]) -> usize {
        let common = self.tokens.iter().zip(tokens).take_while(|(here, there)| here == there).count();
        common.min(tokens.len().saturating_sub(1))
    }
}

fn place(lane: usize) -> u32 {
    u32::try_from(lane).expect("there are few lanes")
}

/// In what two vocabularies differ, if not only in ids at their end that stand for nothing.
fn difference(target: &Model, draft: &Model) -> Option<String> {
    let (all, own) = (target.vocabulary() as usize, draft.vocabulary() as usize);
    if all.abs_diff(own) > PADDING_MAX {
        return Some(format!("it has {own} tokens and the model {all}"));
    }
    let ids = (0..).map(TokenId).take(all.min(own));
    let other = |id: &TokenId| target.piece(*id) != draft.piece(*id) || target.ends(*id) != draft.ends(*id);
    ids.into_iter().find(other).map(|TokenId(id)| format!("token {id} is not the same in both"))
}
