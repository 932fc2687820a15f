//! A real model that guesses for itself: it is right wherever it is asked.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use allerac_engine_core::{
    Attention, Backend, BackendError, BatchToken, Class, Config, Draft, Engine, Event, FlashAttention, Generate,
    KvType, Limits, RequestId, SamplingParams, TokenId,
};
use allerac_engine_llama::{Context, ContextParams, DraftModel, Model};

const MODEL: &str =
    ".cache/test-data/models/blobs/sha256-b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

fn model() -> PathBuf {
    let path = std::env::var_os("ALLERAC_TEST_MODEL")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(MODEL), PathBuf::from);
    assert!(path.exists(), "{} is missing; fetch it: make test-model", path.display());
    path
}

const PARAMS: ContextParams = ContextParams {
    context: 512,
    cells: 1536,
    sequences: 3,
    batch: 512,
    threads: 1,
    threads_batch: 1,
    sheds_threads: true,
    // Without it llama.cpp computes a single token in another order than several.
    attention: Attention { flash: FlashAttention::On, kv_type_k: KvType::F16, kv_type_v: KvType::F16 },
};

/// A context whose guesses look as if they took no time, so that they are made; and what came of them.
struct Cheap {
    context: Context,
    /// Guesses that were compared with what followed, and how many of them were right.
    guessed: usize,
    right: usize,
    /// The last guess, and where it begins.
    open: Option<(u32, usize, Vec<TokenId>)>,
    steps: usize,
}

impl Backend for Cheap {
    fn limits(&self) -> Limits {
        self.context.limits()
    }

    fn decode(&mut self, batch: &[BatchToken]) -> Result<Duration, BackendError> {
        self.steps += 1;
        self.context.decode(batch).map(|_| Duration::from_millis(1))
    }

    fn logits(&self, index: usize) -> &[f32] {
        self.context.logits(index)
    }

    fn clear(&mut self, sequence: u32) {
        self.context.clear(sequence);
    }

    fn truncate(&mut self, sequence: u32, from: u32) -> bool {
        self.context.truncate(sequence, from)
    }

    fn copy(&mut self, from: u32, to: u32, length: u32) {
        self.context.copy(from, to, length);
    }

    fn save(&self, sequence: u32) -> Option<Vec<u8>> {
        self.context.save(sequence)
    }

    fn restore(&mut self, sequence: u32, state: &[u8]) -> bool {
        self.context.restore(sequence, state)
    }

    fn token_bytes(&self, token: TokenId) -> Vec<u8> {
        self.context.token_bytes(token)
    }

    fn is_end(&self, token: TokenId) -> bool {
        self.context.is_end(token)
    }

    fn draft_backlog(&mut self, sequence: u32, tokens: &[TokenId]) -> Option<u32> {
        if let Some((_, from, guess)) = self.open.take_if(|(of, ..)| *of == sequence) {
            let known = guess.iter().zip(&tokens[from..]);
            self.guessed += known.len();
            self.right += known.take_while(|(guessed, followed)| guessed == followed).count();
        }
        self.context.draft_backlog(sequence, tokens)
    }

    fn draft(&mut self, sequence: u32, tokens: &[TokenId], length: u32, room: u32) -> Draft {
        let draft = self.context.draft(sequence, tokens, length, room);
        assert!(draft.tokens.len() <= length as usize && draft.tokens.iter().all(|token| token.0 < 49_152));
        self.open = Some((sequence, tokens.len(), draft.tokens.clone()));
        Draft { took: Duration::from_micros(1), ..draft }
    }
}

/// What greedy decoding answers to each of these texts, one after the other or all together.
fn answers(model: &'static Model, draft: Option<DraftModel>, texts: &[&str], together: bool) -> (Vec<Vec<u32>>, Cheap) {
    let context = Context::new(model, PARAMS).unwrap().with_draft_model(draft);
    let backend = Cheap { context, guessed: 0, right: 0, open: None, steps: 0 };
    let chunk_time = Duration::from_millis(100);
    let config = Config { chunk_time, chunk: 128, speculate: true, queue: 8, archive_min: 64 };
    let mut engine = Engine::new(backend, config);
    let (mut events, mut answers) = (Vec::new(), vec![Vec::new(); texts.len()]);
    for (id, text) in (0..).zip(texts) {
        let request = Generate {
            id: RequestId(id),
            salt: id,
            class: Class::Chat,
            prompt: model.tokenise(text, false),
            common: 0,
            max_tokens: 60,
            sampling: SamplingParams { temperature: 0.0, ..SamplingParams::default() },
            stop: Vec::new(),
            control_words: false,
            prediction: Vec::new(),
            top_logprobs: None,
            score_prompt: false,
        };
        engine.submit(request, &mut events);
        while !together && engine.has_work() {
            engine.step(&mut events);
        }
    }
    while engine.has_work() {
        engine.step(&mut events);
        engine.check_invariants();
    }
    for event in events {
        if let Event::Chunk { id, chunk } = event {
            answers[usize::try_from(id.0).unwrap()].extend(chunk.tokens.iter().map(|token| token.0));
        }
    }
    (answers, engine.into_backend())
}

#[test]
fn guesses_of_the_model_itself_are_right_and_change_no_token() {
    let model = Model::load(&model(), None, |_| {}).unwrap();
    let draft = || DraftModel::load(&self::model(), model, PARAMS).unwrap();
    // Nothing in them repeats, so that guesses come from the model.
    let texts = [
        "Water boils at a lower temperature on a mountain because",
        "The first person who walked on the moon was called",
        "Dear Anna, yesterday I went to the market with my brother and",
    ];
    let (plain, backend) = answers(model, None, &texts, false);
    assert_eq!(backend.guessed, 0);
    let plain_steps = backend.steps;
    let (guessed, backend) = answers(model, Some(draft()), &texts, false);
    assert_eq!(guessed, plain);
    let Cheap { guessed, right, steps, .. } = backend;
    assert!(guessed > 40 && right * 100 >= guessed * 98, "{right} of {guessed} guesses were right");
    assert!(steps * 2 < plain_steps, "{steps} steps instead of {plain_steps}");
    // Three of them have two places to be followed from.
    assert_eq!(answers(model, Some(draft()), &texts, true).0, plain);
}

#[test]
fn what_cannot_guess_is_refused() {
    let target = Model::load(&model(), None, |_| {}).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let damaged = directory.path().join("damaged");
    std::fs::write(&damaged, b"GGUF").unwrap();
    for path in [damaged, directory.path().join("missing")] {
        assert!(DraftModel::load(&path, target, PARAMS).is_err());
    }
    // One token of the vocabulary is spelled otherwise: the letters of " the" stand in the file once as a token.
    let mut bytes = std::fs::read(model()).unwrap();
    let spelled = "\u{120}the".as_bytes();
    let token = [&u64::try_from(spelled.len()).unwrap().to_le_bytes(), spelled].concat();
    let place = bytes.windows(token.len()).position(|window| window == token).unwrap();
    bytes[place + token.len() - 1] = b'q';
    let other = directory.path().join("other");
    std::fs::write(&other, bytes).unwrap();
    let error = DraftModel::load(&other, target, PARAMS).err().unwrap().to_string();
    assert!(error.contains("is not the same in both; a draft model is a smaller one"), "{error}");
}
