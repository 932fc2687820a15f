//! Keeps one engine process alive and its requests honest.
//!
//! A single task owns all state: it takes requests from handles and messages from the process, one at a
//! time, and never waits for a client. When the process dies, what had delivered nothing is sent again to
//! the next process, once; what had delivered tokens ends with a typed error. A process that used a graphics processor is
//! followed by one that does not, whatever it died of: a device that was unplugged is not there, and a driver that broke
//! would break again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use allerac_engine_core::encode::{Encode, Encoded, Sequence};
use allerac_engine_core::{Event, Failure, Generate, Grammar, RequestId, Usage, Work};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::error::EngineError;
use crate::handle::{EngineConfig, EngineStatus, GenerationEvent};
use crate::process::Process;
use crate::protocol::{
    EncodeInput, FromEngine, ModelInfo, PROTOCOL_VERSION, PrepareError, Prompt, PromptInput, ToEngine,
};
use crate::report::{Report, Reporter};
use crate::worked::Running;

/// The first wait before a restart; it doubles with each crash.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// The longest wait before a restart.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A process that lived this long was healthy: the waits begin anew.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// A model that could not be loaded is not tried again sooner than this.
const RELOAD_AFTER: Duration = Duration::from_secs(5);
/// A model must be loaded within this time; a 70B model from a slow disk takes minutes.
const LOAD_TIME_MAX: Duration = Duration::from_secs(15 * 60);
/// Rendering a prompt takes milliseconds; a process that needs this long is stuck.
const PREPARE_TIME_MAX: Duration = Duration::from_secs(30);
/// An engine that is told to stop writes what it knows to disk; gigabytes take some seconds.
const STOP_TIME_MAX: Duration = Duration::from_secs(20);
/// How often the two limits above are checked.
const WATCHDOG_INTERVAL: Duration = Duration::from_secs(1);
/// Processes in a row that may end by themselves while they load the model; then it is the model's fault.
const LOAD_CRASHES_MAX: u32 = 3;
/// How often a request is sent again after a crash. A request that crashes two processes is at fault.
const REPLAYS_MAX: u8 = 1;

pub(crate) type LoadReply = oneshot::Sender<Result<Arc<ModelInfo>, EngineError>>;
pub(crate) type PrepareReply = oneshot::Sender<Result<Prompt, EngineError>>;
pub(crate) type TokeniseReply = oneshot::Sender<Result<Vec<Sequence>, EngineError>>;
pub(crate) type EncodeReply = oneshot::Sender<Result<Encoded, EngineError>>;

/// What a handle asks of the supervisor.
#[derive(Debug)]
pub(crate) enum Request {
    Load(LoadReply),
    Prepare { id: RequestId, input: PromptInput, grammar: Option<Grammar>, reply: PrepareReply },
    Generate { request: Generate, grammar: Option<Grammar>, events: mpsc::Sender<GenerationEvent>, running: Running },
    Tokenise { id: RequestId, inputs: Vec<EncodeInput>, reply: TokeniseReply },
    Encode { request: Encode, reply: EncodeReply, running: Running },
    Cancel(RequestId),
    Shutdown,
}

/// A request that waits for the process, or for its last event.
#[derive(Debug)]
enum Pending {
    Prepare { input: PromptInput, grammar: Option<Grammar>, reply: PrepareReply, since: Instant, replays: u8 },
    Generate(PendingGeneration),
    Tokenise { inputs: Vec<EncodeInput>, reply: TokeniseReply, since: Instant, replays: u8 },
    Encode { request: Encode, reply: EncodeReply, running: Running, replays: u8 },
}

#[derive(Debug)]
struct PendingGeneration {
    request: Generate,
    /// A process that takes the request over compiles it again.
    grammar: Option<Grammar>,
    events: mpsc::Sender<GenerationEvent>,
    running: Running,
    /// Whether the client has seen any token.
    delivered: bool,
    usage: Usage,
    replays: u8,
}

/// Why the loop of one process ended.
enum End {
    Crashed(String),
    LoadFailed(String),
    Shutdown,
}

impl End {
    /// The next process may do what this one could not.
    fn into_crash(self) -> Self {
        match self {
            Self::LoadFailed(reason) => Self::Crashed(reason),
            end => end,
        }
    }
}

pub(crate) struct Supervisor {
    config: EngineConfig,
    requests: mpsc::Receiver<Request>,
    status: watch::Sender<EngineStatus>,
    reporter: Reporter,
    pending: HashMap<RequestId, Pending>,
    /// Who waits for the model to be loaded, and for nothing else yet.
    waiting: Vec<LoadReply>,
    backoff: Duration,
    /// Processes in a row that did not live to have the model loaded.
    load_crashes: u32,
    /// Why a process did not load the model that used the graphics processor. The device is to blame only if the next one
    /// loads it without.
    gpu_suspicion: Option<String>,
}

impl Supervisor {
    pub(crate) fn new(
        config: EngineConfig,
        requests: mpsc::Receiver<Request>,
        status: watch::Sender<EngineStatus>,
        report: watch::Sender<Report>,
    ) -> Self {
        let reporter = Reporter::new(report);
        Self {
            config,
            requests,
            status,
            reporter,
            pending: HashMap::new(),
            waiting: Vec::new(),
            backoff: BACKOFF_FIRST,
            load_crashes: 0,
            gpu_suspicion: None,
        }
    }

    /// Runs processes, one after the other, until the handles are gone.
    pub(crate) async fn run(mut self) {
        loop {
            let started = Instant::now();
            let end = match Process::spawn(&self.config) {
                Ok(mut process) => {
                    self.reporter.process_began(process.id());
                    let end = self.serve(&mut process).await;
                    let exit = match end {
                        End::Shutdown => process.stop(STOP_TIME_MAX).await,
                        End::Crashed(_) | End::LoadFailed(_) => process.kill().await,
                    };
                    tracing::debug!(model = self.config.name, ?exit, "the engine process is gone");
                    self.reporter.process_ended(matches!(end, End::Crashed(_)));
                    end
                }
                Err(error) => End::LoadFailed(format!("cannot start {}: {error}", self.config.binary.display())),
            };
            let end = if self.leave_gpu(&end) { end.into_crash() } else { self.blamed(end) };
            let go_on = match end {
                End::Shutdown => false,
                End::LoadFailed(reason) => self.after_load_failure(reason).await,
                End::Crashed(reason) => self.after_crash(reason, started).await,
            };
            if !go_on {
                break;
            }
        }
        self.fail_all(&EngineError::Stopped);
        self.status.send_replace(EngineStatus::Stopped);
    }

    /// Has the processes after one that ended badly do without the graphics processor; whether it used one.
    fn leave_gpu(&mut self, end: &End) -> bool {
        let (End::Crashed(reason) | End::LoadFailed(reason)) = end else { return false };
        let used = self.config.offload.take().is_some();
        if used {
            tracing::error!(model = self.config.name, reason, "the model goes on without the graphics processor");
            self.backoff = BACKOFF_FIRST;
            let was_loaded = matches!(*self.status.borrow(), EngineStatus::Ready(_));
            if was_loaded && matches!(end, End::Crashed(_)) {
                self.reporter.gpu_failed(reason);
            } else {
                self.gpu_suspicion = Some(reason.clone());
            }
        }
        used
    }

    /// A model whose processes end again and again before it is loaded cannot be loaded.
    fn blamed(&mut self, end: End) -> End {
        let was_loading = !matches!(*self.status.borrow(), EngineStatus::Ready(_));
        match end {
            End::Crashed(reason) if was_loading => {
                self.load_crashes += 1;
                if self.load_crashes < LOAD_CRASHES_MAX {
                    return End::Crashed(reason);
                }
                self.load_crashes = 0;
                End::LoadFailed(format!("{reason} while it loaded the model, {LOAD_CRASHES_MAX} times in a row"))
            }
            end => {
                self.load_crashes = 0;
                end
            }
        }
    }

    /// Moves requests and messages until the process ends.
    async fn serve(&mut self, process: &mut Process) -> End {
        let started = Instant::now();
        let mut ready = false;
        let mut watchdog = tokio::time::interval(WATCHDOG_INTERVAL);
        watchdog.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = process.receive() => match message {
                    None => return End::Crashed("the engine process ended".into()),
                    Some(FromEngine::Loading(progress)) => {
                        self.status.send_replace(EngineStatus::Loading { progress });
                    }
                    Some(FromEngine::LoadFailed(reason)) => return End::LoadFailed(reason),
                    Some(FromEngine::Ready(info)) if info.protocol != PROTOCOL_VERSION => {
                        return End::LoadFailed(version_reason(&info));
                    }
                    Some(FromEngine::Ready(info)) => {
                        ready = true;
                        self.loaded(Arc::new(info));
                        if !self.send_pending(process) {
                            return End::Crashed("the engine does not read".into());
                        }
                    }
                    Some(FromEngine::Prepared { id, result }) => self.prepared(id, result),
                    Some(FromEngine::Tokenised { id, result }) => self.tokenised(id, result),
                    Some(FromEngine::Encoded(encoded)) => self.encoded(encoded),
                    Some(FromEngine::Stats(stats)) => self.reporter.note(&stats),
                    Some(FromEngine::Work(work)) => self.note_work(&work),
                    Some(FromEngine::Event(event)) => {
                        if let Some(stalled) = self.deliver(event) {
                            process.send(ToEngine::Cancel(stalled));
                        }
                    }
                },
                request = self.requests.recv() => {
                    let message = match request {
                        None | Some(Request::Shutdown) => return End::Shutdown,
                        Some(Request::Cancel(id)) if !ready => {
                            self.cancel_unsent(id);
                            None
                        }
                        Some(request) => self.accept(request),
                    };
                    let message = message.filter(|_| ready);
                    if message.is_some_and(|message| !process.send(message)) {
                        return End::Crashed("the engine does not read".into());
                    }
                }
                _ = watchdog.tick() => {
                    if !ready && started.elapsed() > LOAD_TIME_MAX {
                        return End::LoadFailed("loading took too long".into());
                    }
                    if ready && self.prepare_overdue() {
                        return End::Crashed("the engine does not answer".into());
                    }
                }
            }
        }
    }

    fn loaded(&mut self, info: Arc<ModelInfo>) {
        if let Some(reason) = self.gpu_suspicion.take() {
            self.reporter.gpu_failed(&reason);
        }
        for reply in self.waiting.drain(..) {
            let _ = reply.send(Ok(Arc::clone(&info)));
        }
        self.status.send_replace(EngineStatus::Ready(info));
    }

    /// Notes a request; the message for the process, when it is to hear of it.
    fn accept(&mut self, request: Request) -> Option<ToEngine> {
        match request {
            Request::Load(reply) => {
                match &*self.status.borrow() {
                    EngineStatus::Ready(info) => drop(reply.send(Ok(Arc::clone(info)))),
                    _ => self.waiting.push(reply),
                }
                None
            }
            Request::Prepare { id, input, grammar, reply } => {
                let message = ToEngine::Prepare { id, input: input.clone(), grammar: grammar.clone() };
                self.pending.insert(id, Pending::Prepare { input, grammar, reply, since: Instant::now(), replays: 0 });
                Some(message)
            }
            Request::Generate { request, grammar, events, running } => {
                let message = ToEngine::Generate { request: request.clone(), grammar: grammar.clone() };
                let (id, usage) = (request.id, Usage::default());
                let generation =
                    PendingGeneration { request, grammar, events, running, delivered: false, usage, replays: 0 };
                self.pending.insert(id, Pending::Generate(generation));
                Some(message)
            }
            Request::Tokenise { id, inputs, reply } => {
                let message = ToEngine::Tokenise { id, inputs: inputs.clone() };
                self.pending.insert(id, Pending::Tokenise { inputs, reply, since: Instant::now(), replays: 0 });
                Some(message)
            }
            Request::Encode { request, reply, running } => {
                let message = ToEngine::Encode(request.clone());
                self.pending.insert(request.id, Pending::Encode { request, reply, running, replays: 0 });
                Some(message)
            }
            Request::Cancel(id) => Some(ToEngine::Cancel(id)),
            Request::Shutdown => None,
        }
    }

    /// Sends everything that waited for the process to be ready.
    fn send_pending(&mut self, process: &Process) -> bool {
        let mut waiting: Vec<_> = self.pending.iter_mut().collect();
        waiting.sort_by_key(|(id, _)| **id);
        waiting.into_iter().all(|(id, pending)| match pending {
            Pending::Prepare { input, grammar, since, .. } => {
                *since = Instant::now();
                process.send(ToEngine::Prepare { id: *id, input: input.clone(), grammar: grammar.clone() })
            }
            Pending::Generate(generation) => {
                let (request, grammar) = (generation.request.clone(), generation.grammar.clone());
                process.send(ToEngine::Generate { request, grammar })
            }
            Pending::Tokenise { inputs, since, .. } => {
                *since = Instant::now();
                process.send(ToEngine::Tokenise { id: *id, inputs: inputs.clone() })
            }
            Pending::Encode { request, .. } => process.send(ToEngine::Encode(request.clone())),
        })
    }

    fn prepared(&mut self, id: RequestId, result: Result<Prompt, PrepareError>) {
        if let Some(Pending::Prepare { reply, .. }) = self.pending.remove(&id) {
            let _ = reply.send(result.map_err(EngineError::Prepare));
        }
    }

    fn tokenised(&mut self, id: RequestId, result: Result<Vec<Sequence>, PrepareError>) {
        if let Some(Pending::Tokenise { reply, .. }) = self.pending.remove(&id) {
            let _ = reply.send(result.map_err(EngineError::Prepare));
        }
    }

    fn encoded(&mut self, encoded: Encoded) {
        if let Some(Pending::Encode { reply, .. }) = self.pending.remove(&encoded.id) {
            let _ = reply.send(Ok(encoded));
        }
    }

    /// Counts what the process did, for whom. Those that ended here meanwhile have been told what they cost.
    fn note_work(&self, work: &[Work]) {
        for work in work {
            match self.pending.get(&work.id) {
                Some(Pending::Generate(PendingGeneration { running, .. }) | Pending::Encode { running, .. }) => {
                    running.note(work);
                }
                Some(Pending::Prepare { .. } | Pending::Tokenise { .. }) | None => {}
            }
        }
    }

    /// Passes an event on. A client whose queue is full is told so with its last place, and the id is
    /// returned to be cancelled.
    fn deliver(&mut self, event: Event) -> Option<RequestId> {
        let (id, event) = translate(event);
        let Some(Pending::Generate(generation)) = self.pending.get_mut(&id) else { return None };
        match &event {
            GenerationEvent::Waiting { .. } | GenerationEvent::Scored(_) => {}
            GenerationEvent::Started { cached_tokens } => generation.usage.cached_tokens = *cached_tokens,
            GenerationEvent::Chunk(chunk) => {
                generation.delivered = true;
                generation.usage.completion_tokens = chunk.completion_tokens;
                generation.usage.prompt_tokens = u32::try_from(generation.request.prompt.len()).unwrap_or(u32::MAX);
            }
            GenerationEvent::Finished { .. } | GenerationEvent::Failed { .. } => {
                let _ = generation.events.try_send(event);
                self.pending.remove(&id);
                return None;
            }
        }
        if generation.events.is_closed() {
            // The client is gone and its cancellation is on the way; the last event still comes.
            return None;
        }
        if generation.events.capacity() <= 1 {
            let _ = generation
                .events
                .try_send(GenerationEvent::Failed { error: EngineError::ClientStalled, usage: generation.usage });
            self.pending.remove(&id);
            return Some(id);
        }
        let _ = generation.events.try_send(event);
        None
    }

    fn prepare_overdue(&self) -> bool {
        self.pending.values().any(|pending| match pending {
            Pending::Prepare { since, .. } | Pending::Tokenise { since, .. } => since.elapsed() > PREPARE_TIME_MAX,
            Pending::Generate(_) | Pending::Encode { .. } => false,
        })
    }

    /// Sorts the requests of a dead process into those to be sent again and those that end here.
    fn after_death(&mut self) {
        let ended: Vec<RequestId> = self
            .pending
            .iter_mut()
            .filter_map(|(id, pending)| {
                let replay = match pending {
                    Pending::Prepare { replays, .. } | Pending::Tokenise { replays, .. } => take_replay(replays),
                    Pending::Encode { reply, replays, .. } => !reply.is_closed() && take_replay(replays),
                    Pending::Generate(generation) => {
                        !generation.delivered && !generation.events.is_closed() && take_replay(&mut generation.replays)
                    }
                };
                (!replay).then_some(*id)
            })
            .collect();
        for id in ended {
            if let Some(pending) = self.pending.remove(&id) {
                pending.fail(EngineError::Crashed);
            }
        }
    }

    /// Waits before the next process, longer after each crash; requests may come meanwhile.
    async fn after_crash(&mut self, reason: String, started: Instant) -> bool {
        tracing::error!(model = self.config.name, reason, "the engine is started again");
        self.after_death();
        self.status.send_replace(EngineStatus::Restarting { reason });
        if started.elapsed() >= HEALTHY_AFTER {
            self.backoff = BACKOFF_FIRST;
        }
        let until = Instant::now() + self.backoff;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return true,
                request = self.requests.recv() => match request {
                    None | Some(Request::Shutdown) => return false,
                    Some(Request::Cancel(id)) => self.cancel_unsent(id),
                    Some(request) => drop(self.accept(request)),
                },
            }
        }
    }

    /// Fails everything with the reason until a request comes late enough to try again.
    async fn after_load_failure(&mut self, reason: String) -> bool {
        tracing::error!(model = self.config.name, reason, "the model cannot be loaded");
        // Nothing can load it, so the graphics processor is not to blame.
        self.gpu_suspicion = None;
        let retry = Instant::now() + RELOAD_AFTER;
        self.fail_all(&EngineError::LoadFailed { reason: reason.clone() });
        self.status.send_replace(EngineStatus::Failed { reason: reason.clone() });
        loop {
            let request = match self.requests.recv().await {
                None | Some(Request::Shutdown) => return false,
                Some(Request::Cancel(_)) => continue,
                Some(request) => request,
            };
            self.accept(request);
            if Instant::now() >= retry {
                self.status.send_replace(EngineStatus::Loading { progress: 0.0 });
                return true;
            }
            self.fail_all(&EngineError::LoadFailed { reason: reason.clone() });
        }
    }

    /// Ends a generation that no process knows of.
    fn cancel_unsent(&mut self, id: RequestId) {
        if let Some(pending) = self.pending.remove(&id) {
            pending.fail(EngineError::Stopped);
        }
    }

    fn fail_all(&mut self, error: &EngineError) {
        for reply in self.waiting.drain(..) {
            let _ = reply.send(Err(error.clone()));
        }
        for (_, pending) in self.pending.drain() {
            pending.fail(error.clone());
        }
    }
}

impl Pending {
    fn fail(self, error: EngineError) {
        match self {
            Self::Prepare { reply, .. } => drop(reply.send(Err(error))),
            Self::Tokenise { reply, .. } => drop(reply.send(Err(error))),
            Self::Encode { reply, .. } => drop(reply.send(Err(error))),
            Self::Generate(generation) => {
                let usage = generation.usage;
                let _ = generation.events.try_send(GenerationEvent::Failed { error, usage });
            }
        }
    }
}

fn take_replay(replays: &mut u8) -> bool {
    *replays += 1;
    *replays <= REPLAYS_MAX
}

fn version_reason(info: &ModelInfo) -> String {
    format!(
        "the engine speaks version {} of the protocol instead of {PROTOCOL_VERSION}; install both programs from one build",
        info.protocol
    )
}

fn translate(event: Event) -> (RequestId, GenerationEvent) {
    match event {
        Event::Waiting { id, place, wait_ms } => (id, GenerationEvent::Waiting { place, wait_ms }),
        Event::Started { id, cached_tokens } => (id, GenerationEvent::Started { cached_tokens }),
        Event::Scored { id, logprobs } => (id, GenerationEvent::Scored(logprobs)),
        Event::Chunk { id, chunk } => (id, GenerationEvent::Chunk(chunk)),
        Event::Finished { id, reason, tail, usage } => (id, GenerationEvent::Finished { reason, tail, usage }),
        Event::Failed { id, failure, usage } => {
            let error = match failure {
                Failure::Backend(message) => EngineError::Backend { message },
                Failure::Constraint(message) => EngineError::Constraint { message },
            };
            (id, GenerationEvent::Failed { error, usage })
        }
        Event::Refused { id, reason } => {
            (id, GenerationEvent::Failed { error: reason.into(), usage: Usage::default() })
        }
    }
}
