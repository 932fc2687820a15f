//! A backend that is no model but as strict as one, and what the tests ask of it.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use allerac_engine_core::archive::{ArchiveStats, Tier};
use allerac_engine_core::prefix::Prefixes;
use allerac_engine_core::{
    AdapterId, Archive, Backend, BackendError, BatchToken, Class, Config, Draft, Engine, EntryId, Event, Fetched,
    FinishReason, Found, Generate, Kept, Limits, RequestId, SamplingParams, TokenId,
};

use crate::drafting::Drafting;

pub(crate) const VOCABULARY: u32 = 32;
pub(crate) const END: TokenId = TokenId(0);
pub(crate) const LIMITS: Limits = Limits {
    cells: 96,
    context: 64,
    sequences: 3,
    batch: 16,
    vocabulary: VOCABULARY,
    copy_min: Some(1),
    neighbours: false,
    piece_min: 1,
    drafts: true,
};

/// The adapters that the fake has besides none.
pub(crate) const ADAPTERS: u64 = 2;

/// What a token is to the fake when it is computed with an adapter: another one.
pub(crate) fn adapted(token: TokenId, adapter: AdapterId) -> TokenId {
    TokenId(token.0 + u32::try_from(adapter.0).unwrap() * 10_007)
}

/// A model whose next token depends on the whole sequence, and with what it was computed, so that any mistake in the KV changes the answer,
/// and which repeats itself, so that some guesses are right. It checks that positions follow on, that the cells suffice, and what a batch may hold.
pub(crate) struct Fake {
    pub(crate) limits: Limits,
    pub(crate) sequences: HashMap<u32, Vec<TokenId>>,
    pub(crate) logits: Vec<Vec<f32>>,
    pub(crate) faults: Faults,
    pub(crate) steps: usize,
    /// Tokens computed so far.
    pub(crate) computed: usize,
    /// Lengths of the batches so far.
    pub(crate) batches: Vec<usize>,
    /// With what each was computed.
    pub(crate) adapters: Vec<AdapterId>,
    /// A smaller model that guesses.
    pub(crate) drafting: Option<Drafting>,
    /// How long all of it took.
    pub(crate) took: Duration,
}

/// What this backend cannot do, and when it fails.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// Steps that fail, by number.
    pub(crate) fail_at: Vec<usize>,
    /// Steps that compute what is no number.
    pub(crate) nan_at: Vec<usize>,
    /// No part of a sequence can be removed.
    pub(crate) never_truncates: bool,
    /// What each step costs besides 10 µs a token; 0 measures nothing.
    pub(crate) step_us: u64,
    /// Saved KV is never taken back.
    pub(crate) never_restores: bool,
    /// A token in a piece of prompt shorter than `piece_min` gives other numbers than in a longer one.
    pub(crate) minds_pieces: bool,
}

impl Fake {
    pub(crate) fn new(limits: Limits, faults: Faults) -> Self {
        let (sequences, logits, batches) = (HashMap::new(), Vec::new(), Vec::new());
        let (adapters, drafting, took) = (Vec::new(), None, Duration::ZERO);
        Self { limits, sequences, logits, faults, steps: 0, computed: 0, batches, adapters, drafting, took }
    }

    pub(crate) fn with_drafting(self, drafting: Option<Drafting>) -> Self {
        Self { drafting, ..self }
    }

    /// The model: what follows these tokens.
    pub(crate) fn next(tokens: &[TokenId]) -> TokenId {
        let hash = tokens.iter().fold(7u32, |hash, token| hash.wrapping_mul(31).wrapping_add(token.0 + 1));
        match tokens {
            [.., again, _, _, _] if hash % 5 != 0 && *again != END => TokenId(again.0 % VOCABULARY),
            _ => TokenId((hash >> 3) % VOCABULARY),
        }
    }
}

impl Backend for Fake {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn decode(&mut self, batch: &[BatchToken], adapter: AdapterId) -> Result<Duration, BackendError> {
        assert!(self.has_adapter(adapter));
        self.adapters.push(adapter);
        self.steps += 1;
        if let Some(drafting) = &mut self.drafting {
            drafting.caught_up = 0;
        }
        self.computed += batch.len();
        self.batches.push(batch.len());
        assert!(batch.len() <= self.limits.batch as usize);
        let in_it: HashSet<u32> = batch.iter().map(|token| token.sequence).collect();
        let runs = batch.chunk_by(|a, b| a.sequence == b.sequence).count();
        assert_eq!(in_it.len(), runs, "a sequence's tokens stand together");
        let is_short = batch.len() / in_it.len() < self.limits.piece_min as usize;
        self.logits = vec![Vec::new(); batch.len()];
        for (index, token) in batch.iter().enumerate() {
            let sequence = self.sequences.entry(token.sequence).or_default();
            assert_eq!(sequence.len(), token.position as usize, "positions follow on");
            let changed = u32::from(self.faults.minds_pieces && is_short) * 1000;
            sequence.push(adapted(TokenId(token.token.0 + changed), adapter));
            if token.wants_logits {
                self.logits[index] = vec![0.0; VOCABULARY as usize];
                let is_nan = self.faults.nan_at.contains(&self.steps);
                self.logits[index][Self::next(sequence).0 as usize] = if is_nan { f32::NAN } else { 1.0 };
            }
        }
        let cells: usize = self.sequences.values().map(Vec::len).sum();
        assert!(cells <= self.limits.cells as usize, "{cells} cells used");
        let took =
            Duration::from_micros(self.faults.step_us + 10 * batch.len() as u64 * u64::from(self.faults.step_us > 0));
        self.took += took;
        if self.faults.fail_at.contains(&self.steps) { Err(BackendError::Failed(-1)) } else { Ok(took) }
    }

    fn has_adapter(&self, adapter: AdapterId) -> bool {
        adapter.0 <= ADAPTERS
    }

    fn logits(&self, index: usize) -> &[f32] {
        &self.logits[index]
    }

    fn clear(&mut self, sequence: u32) {
        self.sequences.remove(&sequence);
        if let Some(drafting) = &mut self.drafting {
            drafting.known.remove(&sequence);
        }
    }

    fn truncate(&mut self, sequence: u32, from: u32) -> bool {
        if self.faults.never_truncates {
            return false;
        }
        self.sequences.get_mut(&sequence).expect("the sequence is known").truncate(from as usize);
        true
    }

    fn copy(&mut self, from: u32, to: u32, length: u32) {
        assert!(self.limits.copy_min.is_some_and(|least| length >= least));
        let copied = self.sequences[&from][..length as usize].to_vec();
        let before = self.sequences.insert(to, copied);
        assert_eq!(before, None, "a copy goes to an empty sequence");
    }

    fn save(&self, sequence: u32) -> Option<Vec<u8>> {
        let tokens = &self.sequences[&sequence];
        self.limits.copy_min.map(|_| tokens.iter().flat_map(|token| token.0.to_le_bytes()).collect())
    }

    fn restore(&mut self, sequence: u32, state: &[u8]) -> bool {
        if self.faults.never_restores {
            return false;
        }
        let tokens = state.chunks_exact(4).map(|bytes| TokenId(u32::from_le_bytes(bytes.try_into().unwrap())));
        let before = self.sequences.insert(sequence, tokens.collect());
        assert_eq!(before, None, "KV is restored to an empty sequence");
        true
    }

    fn token_bytes(&self, token: TokenId) -> Vec<u8> {
        vec![b'A' + u8::try_from(token.0).expect("the vocabulary is small")]
    }

    fn is_end(&self, token: TokenId) -> bool {
        token == END
    }

    fn draft_backlog(&mut self, sequence: u32, tokens: &[TokenId]) -> Option<u32> {
        let (_, computed) = tokens.split_last().expect("a token was chosen");
        assert_eq!(self.sequences[&sequence].len(), computed.len(), "all but the chosen token is computed");
        let drafting = self.drafting.as_ref().filter(|drafting| sequence < drafting.lanes)?;
        (tokens.len() - drafting.common(sequence, tokens)).try_into().ok()
    }

    fn draft(&mut self, sequence: u32, tokens: &[TokenId], length: u32, room: u32) -> Draft {
        let draft = self.drafting.as_mut().unwrap().draft(sequence, tokens, length, room);
        self.took += draft.took;
        draft
    }
}

/// Keeps everything in memory, and takes its time to bring it.
#[derive(Debug, Default)]
pub(crate) struct FakeArchive {
    pub(crate) known: Prefixes<EntryId>,
    pub(crate) entries: HashMap<EntryId, Arc<Kept>>,
    /// How often an entry is still on its way.
    pub(crate) delay: u32,
    pub(crate) asked: HashMap<EntryId, u32>,
    /// Every so many entries are lost when they are asked for.
    pub(crate) loses: Option<u64>,
}

impl Archive for FakeArchive {
    fn find(&mut self, request: &Generate) -> Option<Found> {
        let (entry, common) =
            self.known.common(request).into_iter().max_by_key(|(entry, common)| (*common, Reverse(*entry)))?;
        let length = self.entries[&entry].tokens.len().try_into().unwrap();
        Some(Found { entry, common, length })
    }

    fn fetch(&mut self, entry: EntryId) -> Fetched {
        let asked = self.asked.entry(entry).or_default();
        *asked += 1;
        if *asked <= self.delay {
            return Fetched::Coming;
        }
        if self.loses.is_some_and(|every| entry.0.is_multiple_of(every)) {
            self.forget(entry);
            return Fetched::Gone;
        }
        let tier = if self.asked[&entry] == self.delay + 1 && self.delay > 0 { Tier::Disk } else { Tier::Memory };
        Fetched::Here(Arc::clone(&self.entries[&entry]), tier)
    }

    fn keep(&mut self, kept: Kept) {
        let entry = EntryId(self.asked.len() as u64 + 1);
        self.asked.insert(entry, 0);
        self.known.insert(entry, kept.scope, kept.common, &kept.tokens);
        self.entries.insert(entry, Arc::new(kept));
    }

    fn forget(&mut self, entry: EntryId) {
        self.known.remove(entry);
        self.entries.remove(&entry);
    }

    fn stats(&self) -> ArchiveStats {
        ArchiveStats { entries: self.entries.len() as u64, ..ArchiveStats::default() }
    }
}

pub(crate) fn config(chunk: u32) -> Config {
    Config { chunk_time: Duration::from_millis(1), chunk, speculate: true, queue: 8, archive_min: 4 }
}

pub(crate) fn engine_with(config: Config) -> Engine<Fake> {
    Engine::new(Fake::new(LIMITS, Faults::default()), config)
}

pub(crate) fn request(id: u64, prompt: &[u32], max_tokens: u32) -> Generate {
    Generate {
        id: RequestId(id),
        salt: id % 2,
        adapter: AdapterId::NONE,
        class: Class::Chat,
        common: 0,
        prompt: prompt.iter().copied().map(TokenId).collect(),
        max_tokens,
        sampling: SamplingParams { temperature: 0.0, ..SamplingParams::default() },
        stop: Vec::new(),
        control_words: false,
        prediction: Vec::new(),
        top_logprobs: None,
        score_prompt: false,
    }
}

/// What the fake model answers to a prompt, computed without an engine.
pub(crate) fn expected(prompt: &[TokenId], max_tokens: u32) -> (Vec<TokenId>, FinishReason) {
    expected_with(AdapterId::NONE, prompt, max_tokens)
}

/// The same with an adapter.
pub(crate) fn expected_with(adapter: AdapterId, prompt: &[TokenId], max_tokens: u32) -> (Vec<TokenId>, FinishReason) {
    let mut tokens: Vec<TokenId> = prompt.iter().map(|token| adapted(*token, adapter)).collect();
    let mut answer = Vec::new();
    while answer.len() < max_tokens as usize {
        let next = Fake::next(&tokens);
        if next == END {
            return (answer, FinishReason::Stop);
        }
        answer.push(next);
        tokens.push(adapted(next, adapter));
    }
    (answer, FinishReason::Length)
}

pub(crate) fn id_of(event: &Event) -> RequestId {
    match event {
        Event::Waiting { id, .. }
        | Event::Started { id, .. }
        | Event::Scored { id, .. }
        | Event::Chunk { id, .. }
        | Event::Finished { id, .. }
        | Event::Failed { id, .. }
        | Event::Refused { id, .. } => *id,
    }
}

pub(crate) fn is_last(event: &Event) -> bool {
    matches!(event, Event::Finished { .. } | Event::Failed { .. } | Event::Refused { .. })
}

pub(crate) fn drain(engine: &mut Engine<Fake>, events: &mut Vec<Event>) {
    for _ in 0..10_000 {
        if !engine.has_work() {
            return;
        }
        engine.step(events);
        engine.check_invariants();
    }
    panic!("the engine starves a request");
}

/// The first token of a prompt of one that is answered with at least so many tokens.
pub(crate) fn start_of(tokens: u32) -> u32 {
    (1..VOCABULARY).find(|first| expected(&[TokenId(*first)], tokens).0.len() == tokens as usize).unwrap()
}
