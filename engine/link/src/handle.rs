//! What the router holds of an engine.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use allerac_engine_core::{
    AdapterId, Chunk, Class, FinishReason, Generate, Grammar, RequestId, SamplingParams, TokenLogprob, Usage,
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::EngineError;
use crate::gpu::Offload;
use crate::protocol::{Begin, KvKey, ModelInfo, Prompt, PromptInput};
use crate::report::Report;
use crate::settings::EngineSettings;
use crate::supervisor::{Request, Supervisor};
use crate::worked::{Running, Worked};

/// Requests and cancellations that may wait for the supervisor. Each generation in flight holds one place
/// for its cancellation, so this also bounds the generations of one engine.
const REQUESTS_WAITING_MAX: usize = 4096;

/// Events of one request that may wait for its client: minutes of reading at any speed.
const EVENTS_WAITING_MAX: usize = 1024;

/// How long a cancelled generation may take to say what it cost: a step of the engine takes well below a
/// second, a step on an overloaded machine several.
pub(crate) const CANCEL_WAIT_MAX: Duration = Duration::from_secs(15);

/// Which process to run.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The program `allerac-engine`.
    pub binary: PathBuf,
    /// The model file.
    pub model_path: PathBuf,
    /// Whether the model encodes texts rather than going on with them.
    pub encodes: bool,
    /// The model's other files, by their names in it. An encoder without any is one file (GGUF), like a model that
    /// goes on with texts.
    pub parts: Vec<(String, PathBuf)>,
    /// The file of a smaller model that guesses what this one says.
    pub draft_path: Option<PathBuf>,
    /// The files of adapters that requests may name.
    pub adapters: Vec<(AdapterId, PathBuf)>,
    /// What a graphics processor is to hold of it. Where that fails, the model goes on without.
    pub offload: Option<Offload>,
    /// The model's id, for the log.
    pub name: String,
    /// Sizes and switches.
    pub settings: EngineSettings,
    /// Where KV is kept while there is no place for it; nowhere when it is not to be written.
    pub kv_file: Option<KvFile>,
    /// System prompts that are common to all owners.
    pub common_prompts: Vec<String>,
}

/// A file for KV, and what it is sealed with.
#[derive(Debug, Clone)]
pub struct KvFile {
    /// Made where it is missing. One engine at a time has it.
    pub path: PathBuf,
    /// The key.
    pub key: KvKey,
}

impl EngineConfig {
    /// The first message to the process.
    pub(crate) fn begin(&self) -> Begin {
        let kv_key = self.kv_file.as_ref().map(|file| file.key.clone());
        Begin { kv_key, common_prompts: self.common_prompts.clone() }
    }
}

/// What an engine is doing.
#[derive(Debug, Clone, PartialEq)]
pub enum EngineStatus {
    /// The process loads the model.
    Loading {
        /// Share loaded, 0.0..=1.0.
        progress: f32,
    },
    /// Requests are answered at once.
    Ready(Arc<ModelInfo>),
    /// The process died and is started again.
    Restarting {
        /// How it died.
        reason: String,
    },
    /// The model cannot be loaded. The next request tries again.
    Failed {
        /// Why.
        reason: String,
    },
    /// Shut down.
    Stopped,
}

/// A supervised engine process. Clones share it; it ends when the last one and the last [`Generation`]
/// are dropped.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) requests: mpsc::Sender<Request>,
    status: watch::Receiver<EngineStatus>,
    report: watch::Receiver<Report>,
    next_id: Arc<AtomicU64>,
}

/// A request without its name, which the handle gives.
#[derive(Debug, Clone)]
pub struct GenerateSpec {
    /// See [`Generate::salt`].
    pub salt: u64,
    /// See [`Generate::adapter`].
    pub adapter: AdapterId,
    /// See [`Generate::class`].
    pub class: Class,
    /// The prompt.
    pub prompt: Prompt,
    /// See [`Generate::max_tokens`].
    pub max_tokens: u32,
    /// See [`Generate::sampling`].
    pub sampling: SamplingParams,
    /// See [`Generate::stop`].
    pub stop: Vec<String>,
    /// See [`Generate::control_words`].
    pub control_words: bool,
    /// See [`Generate::top_logprobs`].
    pub top_logprobs: Option<u8>,
    /// See [`Generate::score_prompt`].
    pub score_prompt: bool,
    /// What the answer must be; `None` where it may be anything.
    pub grammar: Option<Grammar>,
    /// Where it is counted what is done for it; the choices of a request share it.
    pub worked: Arc<Worked>,
}

/// What happens to a generation; `Finished` or `Failed` is the last.
#[derive(Debug, Clone, PartialEq)]
pub enum GenerationEvent {
    /// Its place in the queue changed.
    Waiting {
        /// 1 is next.
        place: u32,
        /// How long it is likely to wait, in milliseconds; 0 where nothing is known yet.
        wait_ms: u32,
    },
    /// It left the queue.
    Started {
        /// Prompt tokens that were known already.
        cached_tokens: u32,
    },
    /// Tokens of the prompt were scored, as [`allerac_engine_core::Event::Scored`] has it.
    Scored(Vec<TokenLogprob>),
    /// Tokens were produced.
    Chunk(Chunk),
    /// It ended.
    Finished {
        /// Why.
        reason: FinishReason,
        /// Text held back until now.
        tail: String,
        /// What it cost.
        usage: Usage,
    },
    /// It did not end well.
    Failed {
        /// Why.
        error: EngineError,
        /// What it had cost until then.
        usage: Usage,
    },
}

impl Engine {
    /// Starts a process and its supervisor on the current tokio runtime.
    #[must_use]
    pub fn spawn(config: EngineConfig) -> Self {
        Self::resume(config, Report::default())
    }

    /// The same for a model that had an engine before, which did this: its counters go on.
    #[must_use]
    pub fn resume(config: EngineConfig, report: Report) -> Self {
        let (requests, incoming) = mpsc::channel(REQUESTS_WAITING_MAX);
        let (status, status_receiver) = watch::channel(EngineStatus::Loading { progress: 0.0 });
        let (report, report_receiver) = watch::channel(report);
        tokio::spawn(Supervisor::new(config, incoming, status, report).run());
        Self { requests, status: status_receiver, report: report_receiver, next_id: Arc::new(AtomicU64::new(1)) }
    }

    /// What the engine is doing now.
    #[must_use]
    pub fn status(&self) -> EngineStatus {
        self.status.borrow().clone()
    }

    /// Follows what the engine is doing.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<EngineStatus> {
        self.status.clone()
    }

    /// The memory that its process has now, in bytes; `None` where it has none, or that cannot be read.
    #[must_use]
    pub fn memory_bytes(&self) -> Option<u64> {
        let process = self.report.borrow().process?;
        memory_of(&std::fs::read_to_string(format!("/proc/{process}/status")).ok()?)
    }

    /// What the engine did so far, over all its processes. A running process tells about once a second.
    #[must_use]
    pub fn report(&self) -> Report {
        self.report.borrow().clone()
    }

    /// Follows what the engine did.
    #[must_use]
    pub fn watch_report(&self) -> watch::Receiver<Report> {
        self.report.clone()
    }

    /// Waits until the model is loaded.
    ///
    /// # Errors
    /// [`EngineError::LoadFailed`] or [`EngineError::Timeout`].
    pub async fn ready(&self, wait: Duration) -> Result<Arc<ModelInfo>, EngineError> {
        let mut status = self.status.clone();
        let decided =
            status.wait_for(|status| !matches!(status, EngineStatus::Loading { .. } | EngineStatus::Restarting { .. }));
        let decided = tokio::time::timeout(wait, decided).await.map_err(|_| EngineError::Timeout)?;
        match &*decided.map_err(|_| EngineError::Stopped)? {
            EngineStatus::Ready(info) => Ok(Arc::clone(info)),
            EngineStatus::Failed { reason } => Err(EngineError::LoadFailed { reason: reason.clone() }),
            _ => Err(EngineError::Stopped),
        }
    }

    /// What the model is, once it is loaded. A model that failed to load is tried again.
    ///
    /// # Errors
    /// [`EngineError::LoadFailed`] or [`EngineError::Stopped`].
    pub async fn load(&self) -> Result<Arc<ModelInfo>, EngineError> {
        if let EngineStatus::Ready(info) = &*self.status.borrow() {
            return Ok(Arc::clone(info));
        }
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Load(reply)).await.map_err(|_| EngineError::Stopped)?;
        answer.await.map_err(|_| EngineError::Stopped)?
    }

    /// Renders and tokenises a prompt and compiles what its answer is to be, waiting for the model where it is not
    /// loaded yet.
    ///
    /// # Errors
    /// [`EngineError::Prepare`] for what is no prompt or no grammar; others when the engine cannot answer.
    pub async fn prepare(&self, input: PromptInput, grammar: Option<Grammar>) -> Result<Prompt, EngineError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Prepare { id: self.new_id(), input, grammar, reply };
        self.requests.send(request).await.map_err(|_| EngineError::Stopped)?;
        answer.await.map_err(|_| EngineError::Stopped)?
    }

    /// Starts a generation.
    ///
    /// # Errors
    /// [`EngineError::Stopped`]; everything else comes as an event.
    pub async fn generate(&self, spec: GenerateSpec) -> Result<Generation, EngineError> {
        let id = self.new_id();
        let (events, incoming) = mpsc::channel(EVENTS_WAITING_MAX);
        let cancel = self.requests.clone().reserve_owned().await.map_err(|_| EngineError::Stopped)?;
        let GenerateSpec { salt, adapter, class, prompt, max_tokens, sampling, stop, control_words, .. } = spec;
        let GenerateSpec { top_logprobs, score_prompt, grammar, worked, .. } = spec;
        let Prompt { tokens: prompt, common, prediction, .. } = prompt;
        let request = Generate {
            id,
            salt,
            adapter,
            class,
            prompt,
            common,
            max_tokens,
            sampling,
            stop,
            control_words,
            prediction,
            top_logprobs,
            score_prompt,
        };
        let request = Request::Generate { request, grammar, events, running: Running::new(worked) };
        self.requests.send(request).await.map_err(|_| EngineError::Stopped)?;
        Ok(Generation { id, events: incoming, cancel: Some(cancel), usage: Usage::default() })
    }

    /// Ends the process; requests in flight fail with [`EngineError::Stopped`].
    pub async fn shutdown(&self) {
        if self.requests.send(Request::Shutdown).await.is_ok() {
            let mut status = self.status.clone();
            let _ = status.wait_for(|status| *status == EngineStatus::Stopped).await;
        }
    }

    pub(crate) fn new_id(&self) -> RequestId {
        RequestId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }
}

/// A running generation. Dropping it cancels it.
#[derive(Debug)]
pub struct Generation {
    id: RequestId,
    events: mpsc::Receiver<GenerationEvent>,
    /// A place in the supervisor's lane, taken beforehand so that a drop can always cancel. `None` once
    /// the last event has come.
    cancel: Option<mpsc::OwnedPermit<Request>>,
    /// What is known of the cost so far.
    usage: Usage,
}

impl Generation {
    /// The next event; `None` after the last.
    pub async fn next(&mut self) -> Option<GenerationEvent> {
        self.cancel.as_ref()?;
        let event = self.events.recv().await;
        let event = event.unwrap_or(GenerationEvent::Failed { error: EngineError::Stopped, usage: self.usage });
        match &event {
            GenerationEvent::Waiting { .. } | GenerationEvent::Scored(_) => {}
            GenerationEvent::Started { cached_tokens } => self.usage.cached_tokens = *cached_tokens,
            GenerationEvent::Chunk(chunk) => self.usage.completion_tokens = chunk.completion_tokens,
            GenerationEvent::Finished { usage, .. } | GenerationEvent::Failed { usage, .. } => {
                self.usage = *usage;
                self.cancel = None;
            }
        }
        Some(event)
    }

    /// Cancels and waits, a bounded time, for what it cost in the end.
    pub async fn cancel(mut self) -> Usage {
        if let Some(permit) = self.cancel.take() {
            // The events go on until the last one; keep a permit so that `next` still delivers them.
            let sender = permit.send(Request::Cancel(self.id));
            self.cancel = sender.try_reserve_owned().ok();
            let drained = async { while self.next().await.is_some() {} };
            let _ = tokio::time::timeout(CANCEL_WAIT_MAX, drained).await;
        }
        self.usage
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if let Some(permit) = self.cancel.take() {
            permit.send(Request::Cancel(self.id));
        }
    }
}

/// What is resident, as the kernel tells in a process's `status` (proc_pid_status(5)).
fn memory_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        assert_eq!(memory_of("Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t  104372 kB\n"), Some(104_372 * 1024));
        assert_eq!(memory_of("Name:\tx\n"), None);
        assert!(memory_of(&std::fs::read_to_string("/proc/self/status").unwrap()).unwrap() > 100_000);
    }
}
