//! A worker process, and what it answers.

use std::collections::HashMap;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use allerac_engine_core::stats::Counters;
use allerac_engine_core::{
    AdapterId, Class, Event, FinishReason, Generate, Grammar, RequestId, SamplingParams, TokenId, Usage,
};
use allerac_engine_link::frame;
use allerac_engine_link::protocol::{
    Begin, ChatInput, FromEngine, KvKey, ModelInfo, PrepareError, PromptInput, ToEngine,
};

const MODEL: &str =
    ".cache/test-data/models/blobs/sha256-b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

pub(crate) fn model() -> PathBuf {
    let path = std::env::var_os("ALLERAC_TEST_MODEL")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(MODEL), PathBuf::from);
    assert!(path.exists(), "{} is missing; fetch it: make test-model", path.display());
    path.canonicalize().unwrap()
}

pub(crate) struct Worker {
    pub(crate) child: Child,
    pub(crate) socket: UnixStream,
}

impl Worker {
    pub(crate) fn start(model: &Path) -> Self {
        Self::start_with(model, &[])
    }

    pub(crate) fn start_with(model: &Path, more: &[&str]) -> Self {
        // Flash attention computes large batches in another order; without it company changes nothing.
        Self::spawn(model, &[&["--threads", "2", "--flash-attention", "off"], more].concat())
    }

    pub(crate) fn spawn(model: &Path, more: &[&str]) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_allerac-engine"))
            .args(["--context", "512", "--sequences", "4", "--cells", "2048", "--model"])
            .arg(model)
            .args(more)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .unwrap();
        let mut worker = Self { child, socket: ours };
        worker.send(&ToEngine::Begin(Begin { kv_key: Some(KvKey([7; 32])), ..Begin::default() }));
        worker
    }

    pub(crate) fn ready(model: &Path) -> (Self, ModelInfo) {
        Self::start(model).until_ready()
    }

    pub(crate) fn until_ready(self) -> (Self, ModelInfo) {
        let mut worker = self;
        loop {
            match worker.receive().expect("the worker says Ready") {
                FromEngine::Loading(share) => assert!((0.0..=1.0).contains(&share)),
                FromEngine::Ready(info) => return (worker, info),
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) fn send(&mut self, message: &ToEngine) {
        let mut buffer = Vec::new();
        frame::encode(message, &mut buffer).unwrap();
        self.socket.write_all(&buffer).unwrap();
    }

    pub(crate) fn receive(&mut self) -> Option<FromEngine> {
        loop {
            match frame::read(&mut self.socket).unwrap() {
                Some(FromEngine::Stats(_) | FromEngine::Work(_)) => {}
                other => return other,
            }
        }
    }

    /// What it says that it did, once so many requests ended.
    pub(crate) fn counters(&mut self, requests: u64) -> Counters {
        loop {
            match frame::read(&mut self.socket).unwrap() {
                Some(FromEngine::Stats(stats)) if stats.counters.ended.sum() == requests => return stats.counters,
                Some(FromEngine::Stats(_) | FromEngine::Work(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) fn prepare(&mut self, input: PromptInput) -> Result<Vec<TokenId>, PrepareError> {
        self.check(input, None)
    }

    pub(crate) fn check(&mut self, input: PromptInput, grammar: Option<Grammar>) -> Result<Vec<TokenId>, PrepareError> {
        self.send(&ToEngine::Prepare { id: RequestId(0), input, grammar });
        match self.receive() {
            Some(FromEngine::Prepared { result, .. }) => result.map(|prompt| prompt.tokens),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn chat(&mut self, question: &str) -> Vec<TokenId> {
        let messages_json = format!(r#"[{{"role":"user","content":"{question}"}}]"#);
        self.prepare(PromptInput::Chat(ChatInput { messages_json, ..ChatInput::default() })).unwrap()
    }

    /// Receives until these requests ended; what each of them produced.
    pub(crate) fn collect(&mut self, requests: usize) -> HashMap<u64, Answer> {
        let mut answers: HashMap<u64, Answer> = HashMap::new();
        while answers.values().filter(|answer| answer.reason.is_some()).count() < requests {
            match self.receive() {
                Some(FromEngine::Event(Event::Waiting { .. })) => {}
                Some(FromEngine::Event(Event::Started { id, .. })) => {
                    answers.insert(id.0, Answer::default());
                }
                Some(FromEngine::Event(Event::Chunk { id, chunk })) => {
                    let answer = answers.get_mut(&id.0).unwrap();
                    answer.text.push_str(&chunk.text);
                    answer.chunks += 1;
                    answer.sizes.push(chunk.tokens.len());
                    answer.tokens.extend(chunk.tokens.iter().map(|token| token.0));
                }
                Some(FromEngine::Event(Event::Finished { id, reason, tail, usage })) => {
                    let answer = answers.entry(id.0).or_default();
                    answer.text.push_str(&tail);
                    (answer.reason, answer.usage) = (Some(reason), usage);
                }
                other => panic!("{other:?}"),
            }
        }
        answers
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) tokens: Vec<u32>,
    pub(crate) chunks: usize,
    /// Tokens of each chunk.
    pub(crate) sizes: Vec<usize>,
    pub(crate) reason: Option<FinishReason>,
    pub(crate) usage: Usage,
}

pub(crate) fn greedy(id: u64, prompt: Vec<TokenId>, max_tokens: u32) -> ToEngine {
    constrained(id, prompt, max_tokens, None)
}

pub(crate) fn constrained(id: u64, prompt: Vec<TokenId>, max_tokens: u32, grammar: Option<Grammar>) -> ToEngine {
    let request = Generate {
        id: RequestId(id),
        salt: id,
        adapter: AdapterId::NONE,
        class: Class::Chat,
        prompt,
        common: 0,
        max_tokens,
        sampling: SamplingParams { temperature: 0.0, ..SamplingParams::default() },
        stop: Vec::new(),
        control_words: false,
        prediction: Vec::new(),
        top_logprobs: None,
        score_prompt: false,
    };
    ToEngine::Generate { request, grammar }
}
