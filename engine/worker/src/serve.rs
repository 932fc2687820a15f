//! The threads of the process and the lanes between them.

use std::collections::HashSet;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread;
use std::time::Instant;

use allerac_engine_core::event::RefuseReason;
use allerac_engine_core::{
    Backend, Constraint, Engine, Event, Failure, FinishReason, Generate, Grammar, Job, RequestId, Usage,
};
use allerac_engine_grammar::GrammarError;
use allerac_engine_link::frame;
use allerac_engine_link::protocol::{FromEngine, ModelInfo, PROTOCOL_VERSION, PrepareError, PromptInput, ToEngine};
use allerac_engine_llama::{Context, LoadError, Model};
use anyhow::Context as _;

use crate::args::Args;
use crate::grammar::{self, GRAMMARS_WAITING_MAX};
use crate::prepare::Preparer;
use crate::sandbox;

/// Commands that may wait for the step loop. The reader stops reading at this many, which slows the
/// router down instead of filling memory.
const COMMANDS_WAITING_MAX: usize = 1024;
/// Prompts that may wait to be rendered.
const PROMPTS_WAITING_MAX: usize = 256;
/// Batches of messages that may wait for the socket. The router always reads, so this is never reached in
/// health; at this many the step loop waits.
const WRITES_WAITING_MAX: usize = 1024;
/// Commands taken between two steps, so that a flood of them cannot stop the decoding.
const COMMANDS_PER_STEP_MAX: usize = 64;

/// What the step loop is told.
pub(crate) enum Command {
    /// A request whose answer may be anything.
    Generate(Generate),
    /// A request that comes later, once its grammar is compiled.
    Expect(RequestId),
    /// That request.
    Begin {
        request: Generate,
        constraint: Result<Box<dyn Constraint>, GrammarError>,
    },
    Cancel(RequestId),
}

pub(crate) type Outbox = SyncSender<Vec<FromEngine>>;

/// A prompt to prepare.
struct Prompt {
    id: RequestId,
    input: PromptInput,
    grammar: Option<Grammar>,
}

/// Loads the model and serves until the socket closes.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let socket = socket_from_stdin()?;
    if !args.no_sandbox {
        sandbox::confine(args)?;
    }
    let (outbox, outgoing) = sync_channel(WRITES_WAITING_MAX);
    let writer_socket = socket.try_clone()?;
    let writer = thread::Builder::new().name("writer".into()).spawn(move || write(writer_socket, &outgoing))?;
    let served = load(args, &outbox).map(|(model, context)| serve(args, model, context, socket, &outbox));
    drop(outbox);
    let written = writer.join();
    served.context("cannot load the model")??;
    written.map_err(|_| anyhow::anyhow!("the writer crashed"))
}

fn socket_from_stdin() -> anyhow::Result<UnixStream> {
    let stdin = std::io::stdin().as_fd().try_clone_to_owned()?;
    let socket = UnixStream::from(stdin);
    socket.peer_addr().context("standard input is no socket; this program is started by `allerac serve`")?;
    Ok(socket)
}

/// Loads the model, telling the router how far it is; on failure tells it why.
fn load(args: &Args, outbox: &Outbox) -> Result<(&'static Model, Context), LoadError> {
    let progress_lane = outbox.clone();
    let mut told = 0.0;
    let loaded = Model::load(&args.model, move |share| {
        // Every twentieth is enough for a progress bar.
        if share >= told + 0.05 {
            told = share;
            let _ = progress_lane.try_send(vec![FromEngine::Loading(share)]);
        }
    })
    .and_then(|model| Ok((model, Context::new(model, args.context_params())?)));
    if let Err(error) = &loaded {
        let _ = outbox.send(vec![FromEngine::LoadFailed(error.to_string())]);
    }
    loaded
}

fn serve(
    args: &Args,
    model: &'static Model,
    context: Context,
    socket: UnixStream,
    outbox: &Outbox,
) -> anyhow::Result<()> {
    let preparer = Preparer::new(model);
    let ready = ModelInfo {
        protocol: PROTOCOL_VERSION,
        context: context.limits().context,
        sequences: context.limits().sequences,
        vocabulary: model.vocabulary(),
        parameters: model.parameters(),
        has_chat_template: preparer.has_template(),
        system_info: Model::system_info().trim().to_owned(),
    };
    outbox.send(vec![FromEngine::Ready(ready)])?;
    let (commands, incoming) = sync_channel(COMMANDS_WAITING_MAX);
    let (prompts, to_prepare) = sync_channel(PROMPTS_WAITING_MAX);
    let (grammars, to_compile) = sync_channel(GRAMMARS_WAITING_MAX);
    let (prepared, compiled) = (outbox.clone(), outbox.clone());
    let lanes = Lanes { commands, prompts, grammars: grammars.clone() };
    let spawn = |name: &str| thread::Builder::new().name(name.into());
    spawn("grammar").spawn(move || grammar::run(model, &to_compile, &compiled))?;
    spawn("prepare").spawn(move || prepare(&preparer, &to_prepare, &grammars, &prepared))?;
    let reader = spawn("reader").spawn(move || read(socket, &lanes))?;
    let steps = Steps { engine: Engine::new(context, args.schedule()), expected: HashSet::new(), events: Vec::new() };
    steps.run(&incoming, outbox);
    reader.join().map_err(|_| anyhow::anyhow!("the reader crashed"))?.context("the router sent nonsense")
}

/// Where the reader puts what it reads.
struct Lanes {
    commands: SyncSender<Command>,
    prompts: SyncSender<Prompt>,
    grammars: SyncSender<grammar::Job>,
}

/// Sorts the frames into lanes until the socket closes. Dropping the lanes ends the other threads.
fn read(mut socket: UnixStream, lanes: &Lanes) -> Result<(), frame::FrameError> {
    while let Some(message) = frame::read(&mut socket)? {
        let delivered = match message {
            ToEngine::Prepare { id, input, grammar } => lanes.prompts.send(Prompt { id, input, grammar }).is_ok(),
            ToEngine::Generate { request, grammar: None } => lanes.commands.send(Command::Generate(request)).is_ok(),
            ToEngine::Generate { request, grammar: Some(grammar) } => lanes.begin(request, grammar),
            ToEngine::Cancel(id) => lanes.commands.send(Command::Cancel(id)).is_ok(),
            ToEngine::Shutdown => false,
        };
        if !delivered {
            break;
        }
    }
    Ok(())
}

impl Lanes {
    /// Has a request wait for its grammar; the step loop knows of it, so that it can be cancelled meanwhile.
    fn begin(&self, request: Generate, grammar: Grammar) -> bool {
        if self.commands.send(Command::Expect(request.id)).is_err() {
            return false;
        }
        let reply = self.commands.clone();
        match self.grammars.try_send(grammar::Job::Begin { request, grammar, reply }) {
            Err(TrySendError::Full(grammar::Job::Begin { request, reply, .. })) => {
                reply.send(Command::Begin { request, constraint: Err(GrammarError::Busy) }).is_ok()
            }
            sent => sent.is_ok(),
        }
    }
}

fn prepare(preparer: &Preparer, incoming: &Receiver<Prompt>, grammars: &SyncSender<grammar::Job>, outbox: &Outbox) {
    for Prompt { id, input, grammar } in incoming {
        let result = match (preparer.prepare(&input), grammar) {
            (Ok(tokens), Some(grammar)) => {
                let check = grammar::Job::Check { id, tokens, grammar, since: Instant::now() };
                if grammars.try_send(check).is_ok() {
                    continue;
                }
                Err(PrepareError::Busy)
            }
            (result, _) => result,
        };
        if outbox.send(vec![FromEngine::Prepared { id, result }]).is_err() {
            return;
        }
    }
}

/// The step loop.
struct Steps<B> {
    engine: Engine<B>,
    /// Requests whose grammar is being compiled.
    expected: HashSet<RequestId>,
    events: Vec<Event>,
}

impl<B: Backend> Steps<B> {
    /// Steps while there is work; sleeps on the command lane while there is none. Ends with the lane.
    fn run(mut self, incoming: &Receiver<Command>, outbox: &Outbox) {
        loop {
            if !self.engine.has_work() {
                let Ok(command) = incoming.recv() else { return };
                self.apply(command);
            }
            for _ in 0..COMMANDS_PER_STEP_MAX {
                match incoming.try_recv() {
                    Ok(command) => self.apply(command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            self.engine.step(&mut self.events);
            if !self.events.is_empty() {
                let batch = self.events.drain(..).map(FromEngine::Event).collect();
                if outbox.send(batch).is_err() {
                    return;
                }
            }
        }
    }

    fn apply(&mut self, command: Command) {
        match command {
            Command::Generate(request) => self.engine.submit(request, &mut self.events),
            Command::Expect(id) => drop(self.expected.insert(id)),
            Command::Begin { request, constraint } => {
                // One that was cancelled meanwhile is expected no more.
                if self.expected.remove(&request.id) {
                    self.begin(request, constraint);
                }
            }
            Command::Cancel(id) if self.expected.remove(&id) => {
                let (reason, tail, usage) = (FinishReason::Cancelled, String::new(), Usage::default());
                self.events.push(Event::Finished { id, reason, tail, usage });
            }
            Command::Cancel(id) => self.engine.cancel(id, &mut self.events),
        }
    }

    fn begin(&mut self, request: Generate, constraint: Result<Box<dyn Constraint>, GrammarError>) {
        let id = request.id;
        match constraint {
            Ok(constraint) => {
                self.engine.submit(Job { request, constraint: Some(constraint) }, &mut self.events);
            }
            Err(GrammarError::Wrong(message)) => {
                let (failure, usage) = (Failure::Constraint(message), Usage::default());
                self.events.push(Event::Failed { id, failure, usage });
            }
            Err(GrammarError::Busy) => {
                let waiting = u32::try_from(self.expected.len() + self.engine.waiting()).unwrap_or(u32::MAX);
                self.events.push(Event::Refused { id, reason: RefuseReason::QueueFull { waiting, wait_ms: 0 } });
            }
        }
    }
}

/// Writes messages; those that wait together go out in one system call.
fn write(mut socket: UnixStream, outgoing: &Receiver<Vec<FromEngine>>) {
    let mut buffer = Vec::new();
    while let Ok(first) = outgoing.recv() {
        buffer.clear();
        for message in first.into_iter().chain(outgoing.try_iter().flatten()) {
            if let Err(error) = frame::encode(&message, &mut buffer) {
                tracing::error!("a message is not sent: {error}");
            }
        }
        if socket.write_all(&buffer).is_err() {
            return;
        }
    }
}
