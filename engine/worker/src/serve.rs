//! The threads of the process and the lanes between them.

use std::fs::File;
use std::io::{BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Instant;

use allerac_engine_core::{Backend, Engine, Generate, Grammar, RequestId};
use allerac_engine_grammar::GrammarError;
use allerac_engine_link::frame;
use allerac_engine_link::protocol::{
    Begin, FromEngine, ModelInfo, PROTOCOL_VERSION, PrepareError, Produces, PromptInput, ToEngine,
};
use allerac_engine_llama::{Adapters, Context, DraftModel, GpuError, LoadError, Model, Offload, load_kernels};
use anyhow::Context as _;

use crate::args::Args;
use crate::encoder;
use crate::gpu;
use crate::grammar::{self, GRAMMARS_WAITING_MAX};
use crate::memory;
use crate::prepare::Preparer;
use crate::sandbox;
use crate::steps::{Command, Steps};
use crate::template::Template;

/// Commands that may wait for the step loop. The reader stops reading at this many, which slows the
/// router down instead of filling memory.
const COMMANDS_WAITING_MAX: usize = 1024;
/// Prompts that may wait to be rendered.
const PROMPTS_WAITING_MAX: usize = 256;
/// Batches of messages that may wait for the socket. The router always reads, so this is never reached in
/// health; at this many the step loop waits.
const WRITES_WAITING_MAX: usize = 1024;

pub(crate) type Outbox = SyncSender<Vec<FromEngine>>;

/// Loads the model and serves until the socket closes.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut socket = socket_from_stdin()?;
    let kv_file = memory::open_file(args);
    load_kernels()?;
    let offload = gpu::open(args);
    if !args.no_sandbox {
        sandbox::confine(args)?;
    }
    let Some(ToEngine::Begin(begin)) = frame::read(&mut socket).context("the router sent nonsense")? else {
        anyhow::bail!("the router did not begin with what it must");
    };
    let (outbox, outgoing) = sync_channel(WRITES_WAITING_MAX);
    let writer_socket = socket.try_clone()?;
    let writer = thread::Builder::new().name("writer".into()).spawn(move || write(writer_socket, &outgoing))?;
    if args.encode {
        let served = encoder::run(args, socket, &outbox);
        drop(outbox);
        writer.join().map_err(|_| anyhow::anyhow!("the writer crashed"))?;
        return served;
    }
    let served = load(args, offload, &outbox).map(|(model, context)| {
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

/// Loads the model and makes its context; on failure tells the router why.
fn load(
    args: &Args,
    offload: Result<Option<Offload>, GpuError>,
    outbox: &Outbox,
) -> Result<(&'static Model, Context), LoadError> {
    let file = offload.map_err(LoadError::from).and_then(|offload| load_file(args, offload.as_ref(), outbox));
    let loaded = file.and_then(|(model, adapters)| {
        for error in &adapters.refused {
            tracing::error!("the model is served without an adapter: {error}");
        }
        Ok((model, Context::new(model, args.context_params())?.with_adapters(adapters)))
    });
    if let Err(error) = &loaded {
        let _ = outbox.send(vec![FromEngine::LoadFailed(error.to_string())]);
    }
    loaded.map(|(model, context)| (model, context.with_draft_model(draft_model(args, model))))
}

/// Loads the model's file and those of its adapters, telling the router how far it is.
pub(crate) fn load_file(
    args: &Args,
    offload: Option<&Offload>,
    outbox: &Outbox,
) -> Result<(&'static Model, Adapters), LoadError> {
    let progress_lane = outbox.clone();
    let mut told = 0.0;
    Model::load_with(args.model(), offload, &args.adapters, move |share| {
        // Every twentieth is enough for a progress bar.
        if share >= told + 0.05 {
            told = share;
            let _ = progress_lane.try_send(vec![FromEngine::Loading(share)]);
        }
    })
}

/// The model that guesses. Without it nothing is lost but speed.
fn draft_model(args: &Args, model: &Model) -> Option<DraftModel> {
    let loaded = DraftModel::load(args.draft_model()?, model, args.context_params());
    loaded.inspect_err(|error| tracing::warn!("answers go on without a draft model: {error}")).ok()
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
        chat_template: preparer.template().map(|template| template.source().to_owned()),
        knows_tools: preparer.template().is_some_and(Template::knows_tools),
        system_info: Model::system_info().trim().to_owned(),
        produces: Produces::Text,
    };
    outbox.send(vec![FromEngine::Ready(ready)])?;
    let (prompts, to_prepare) = sync_channel(PROMPTS_WAITING_MAX);
    let (grammars, to_compile) = sync_channel(GRAMMARS_WAITING_MAX);
    let (prepared, compiled) = (outbox.clone(), outbox.clone());
    let lanes = Lanes { commands, prompts, grammars: grammars.clone() };
    let spawn = |name: &str| thread::Builder::new().name(name.into());
    spawn("grammar").spawn(move || grammar::run(model, &to_compile, &compiled))?;
    spawn("prepare").spawn(move || prepare(&preparer, &to_prepare, &grammars, &prepared))?;
    let reader = spawn("reader").spawn(move || read(socket, &lanes))?;
    let engine = Engine::new(context, args.schedule()).with_archive(Box::new(archive));
    // Dropping the archive writes what it knows to disk.
    drop(Steps::new(engine).run(&incoming, outbox).close());
    reader.join().map_err(|_| anyhow::anyhow!("the reader crashed"))?.context("the router sent nonsense")
}

/// Where the reader puts what it reads.
struct Lanes {
    commands: Arc<SyncSender<Command>>,
    prompts: SyncSender<ToPrepare>,
    grammars: SyncSender<grammar::Job>,
}

/// A prompt to prepare.
struct ToPrepare {
    id: RequestId,
    input: PromptInput,
    grammar: Option<Grammar>,
}

/// Sorts the frames into lanes until the socket closes. Dropping the lanes ends the other threads.
fn read(socket: UnixStream, lanes: &Lanes) -> Result<(), frame::FrameError> {
    // Frames that come together cost one system call.
    let mut socket = BufReader::new(socket);
    while let Some(message) = frame::read(&mut socket)? {
        let delivered = match message {
            ToEngine::Prepare { id, input, grammar } => lanes.prompts.send(ToPrepare { id, input, grammar }).is_ok(),
            ToEngine::Generate { request, grammar: None } => {
                lanes.commands.send(Command::Generate(Box::new(request))).is_ok()
            }
            ToEngine::Generate { request, grammar: Some(grammar) } => lanes.begin(Box::new(request), grammar),
            ToEngine::Cancel(id) => lanes.commands.send(Command::Cancel(id)).is_ok(),
            // The router knows what a model does, so neither comes from a sound one.
            ToEngine::Begin(_) | ToEngine::Tokenise { .. } | ToEngine::Encode(_) | ToEngine::Shutdown => false,
        };
        if !delivered {
            break;
        }
    }
    Ok(())
}

impl Lanes {
    /// Has a request wait for its grammar; the step loop knows of it, so that it can be cancelled meanwhile.
    fn begin(&self, request: Box<Generate>, grammar: Grammar) -> bool {
        if self.commands.send(Command::Expect(request.id)).is_err() {
            return false;
        }
        let reply = Arc::clone(&self.commands);
        match self.grammars.try_send(grammar::Job::Begin { request, grammar, reply }) {
            Err(TrySendError::Full(grammar::Job::Begin { request, reply, .. })) => {
                reply.send(Command::Begin { request, constraint: Err(GrammarError::Busy) }).is_ok()
            }
            sent => sent.is_ok(),
        }
    }
}

fn prepare(preparer: &Preparer, incoming: &Receiver<ToPrepare>, grammars: &SyncSender<grammar::Job>, outbox: &Outbox) {
    for ToPrepare { id, input, grammar } in incoming {
        let result = match (preparer.prepare(&input), grammar) {
            (Ok(prompt), Some(grammar)) => {
                let check = grammar::Job::Check { id, prompt, grammar, since: Instant::now() };
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
