//! The threads of the process and the lanes between them.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use allerac_engine_core::{Backend, Engine, Event, Generate, RequestId};
use allerac_engine_link::frame;
use allerac_engine_link::protocol::{Begin, FromEngine, ModelInfo, PROTOCOL_VERSION, PromptInput, ToEngine};
use allerac_engine_llama::{Context, LoadError, Model};
use anyhow::Context as _;

use crate::args::Args;
use crate::memory;
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

/// An engine that had nothing to do for so long copies what it knows to the archive.
const ARCHIVE_AFTER: Duration = Duration::from_secs(2);
/// How long all requests may wait for the archive before it is asked again; it says when it has something.
const STALLED_MAX: Duration = Duration::from_secs(1);

/// What the step loop is told.
enum Command {
    Generate(Box<Generate>),
    Cancel(RequestId),
    /// Something that a request waits for is here.
    Wake,
}

type Outbox = SyncSender<Vec<FromEngine>>;

/// Loads the model and serves until the socket closes.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut socket = socket_from_stdin()?;
    let kv_file = memory::open_file(args);
    if !args.no_sandbox {
        sandbox::confine(args)?;
    }
    let Some(ToEngine::Begin(begin)) = frame::read(&mut socket).context("the router sent nonsense")? else {
        anyhow::bail!("the router did not begin with what it must");
    };
    let (outbox, outgoing) = sync_channel(WRITES_WAITING_MAX);
    let writer_socket = socket.try_clone()?;
    let writer = thread::Builder::new().name("writer".into()).spawn(move || write(writer_socket, &outgoing))?;
    let served = load(args, &outbox).map(|(model, context)| {
        let loaded = Loaded { model, context, kv_file, begin };
        serve(args, loaded, socket, &outbox)
    });
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
    let loaded = Model::load(args.model(), move |share| {
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

/// Everything that an engine is made of.
struct Loaded {
    model: &'static Model,
    context: Context,
    kv_file: Option<File>,
    begin: Begin,
}

fn serve(args: &Args, loaded: Loaded, socket: UnixStream, outbox: &Outbox) -> anyhow::Result<()> {
    let Loaded { model, context, kv_file, begin } = loaded;
    let preparer = Preparer::new(model, &begin.common_prompts);
    let (commands, incoming) = sync_channel(COMMANDS_WAITING_MAX);
    // The lane ends with the reader, whoever may still want to wake its other end.
    let commands = Arc::new(commands);
    let waker = Arc::downgrade(&commands);
    let wake = move || {
        if let Some(commands) = waker.upgrade() {
            // With a full lane nobody sleeps.
            let _ = commands.try_send(Command::Wake);
        }
    };
    let archive = memory::archive(args, kv_file, begin.kv_key.as_ref(), &context, wake);
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
    let (prompts, to_prepare) = sync_channel(PROMPTS_WAITING_MAX);
    let prepared = outbox.clone();
    thread::Builder::new().name("prepare".into()).spawn(move || prepare(&preparer, &to_prepare, &prepared))?;
    let reader = thread::Builder::new().name("reader".into()).spawn(move || read(socket, &commands, &prompts))?;
    let engine = Engine::new(context, args.schedule()).with_archive(Box::new(archive));
    // Dropping the archive writes what it knows to disk.
    drop(step_loop(engine, &incoming, outbox).close());
    reader.join().map_err(|_| anyhow::anyhow!("the reader crashed"))?.context("the router sent nonsense")
}

/// Sorts the frames into lanes until the socket closes. Dropping the lanes ends the other threads.
fn read(
    mut socket: UnixStream,
    commands: &SyncSender<Command>,
    prompts: &SyncSender<(RequestId, PromptInput)>,
) -> Result<(), frame::FrameError> {
    while let Some(message) = frame::read(&mut socket)? {
        let delivered = match message {
            ToEngine::Prepare { id, input } => prompts.send((id, input)).is_ok(),
            ToEngine::Generate(request) => commands.send(Command::Generate(Box::new(request))).is_ok(),
            ToEngine::Cancel(id) => commands.send(Command::Cancel(id)).is_ok(),
            ToEngine::Begin(_) | ToEngine::Shutdown => false,
        };
        if !delivered {
            break;
        }
    }
    Ok(())
}

fn prepare(preparer: &Preparer, incoming: &Receiver<(RequestId, PromptInput)>, outbox: &Outbox) {
    for (id, input) in incoming {
        let result = preparer.prepare(&input);
        if outbox.send(vec![FromEngine::Prepared { id, result }]).is_err() {
            return;
        }
    }
}

/// Steps while there is work; archives what it knows while there is none, then sleeps on the command lane. Ends with the
/// lane, and gives the engine back.
fn step_loop<B: Backend>(mut engine: Engine<B>, incoming: &Receiver<Command>, outbox: &Outbox) -> Engine<B> {
    let mut events = Vec::new();
    loop {
        let Some(command) = next_command(&mut engine, incoming) else { return engine };
        for command in command.into_iter().chain(incoming.try_iter().take(COMMANDS_PER_STEP_MAX)) {
            apply(&mut engine, command, &mut events);
        }
        engine.step(&mut events);
        if !events.is_empty() {
            let batch = events.drain(..).map(FromEngine::Event).collect();
            if outbox.send(batch).is_err() {
                return engine;
            }
        }
    }
}

/// The command to go on with: none while there is work, else the next one that comes. `None` when the lane ended.
fn next_command<B: Backend>(engine: &mut Engine<B>, incoming: &Receiver<Command>) -> Option<Option<Command>> {
    let mut idle = ARCHIVE_AFTER;
    loop {
        let waited = if engine.is_stalled() {
            incoming.recv_timeout(STALLED_MAX)
        } else if engine.has_work() {
            incoming.recv_timeout(Duration::ZERO)
        } else {
            incoming.recv_timeout(idle)
        };
        match waited {
            Ok(command) => return Some(Some(command)),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) if engine.has_work() => return Some(None),
            // One after the other, so that who comes meanwhile waits for one at most.
            Err(RecvTimeoutError::Timeout) if engine.archive_one() => idle = Duration::ZERO,
            Err(RecvTimeoutError::Timeout) => return incoming.recv().ok().map(Some),
        }
    }
}

fn apply<B: Backend>(engine: &mut Engine<B>, command: Command, events: &mut Vec<Event>) {
    match command {
        Command::Generate(request) => engine.submit(*request, events),
        Command::Cancel(id) => engine.cancel(id, events),
        Command::Wake => {}
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
