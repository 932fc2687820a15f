//! Serves an encoder: the main thread computes batches, one thread reads frames, one tokenises, one writes frames.

use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use allerac_engine_candle::{Files, LoadError, Model, Produces as Output, TextInput, Tokens};
use allerac_engine_core::encode::{Encode, Encoder, Sequence};
use allerac_engine_core::{Batcher, RequestId, TokenId};
use allerac_engine_link::frame;
use allerac_engine_link::protocol::{
    EncodeInput, FromEngine, ModelInfo, PROTOCOL_VERSION, PrepareError, Produces, ToEngine,
};
use anyhow::Context as _;

use crate::args::Args;
use crate::serve::Outbox;

/// Commands that may wait for the main thread; then the reader stops reading.
const COMMANDS_WAITING_MAX: usize = 1024;
/// Requests that may wait to be tokenised.
const TEXTS_WAITING_MAX: usize = 256;
/// Texts that waited for so long for others are refused: the router takes an engine that needs half a minute for a
/// stuck one.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// What the main thread is told.
enum Command {
    Encode(Encode),
    Cancel(RequestId),
}

/// Texts to tokenise.
struct Texts {
    id: RequestId,
    inputs: Vec<EncodeInput>,
    since: Instant,
}

/// Loads the model and serves until the socket closes.
pub(crate) fn run(args: &Args, socket: UnixStream, outbox: &Outbox) -> anyhow::Result<()> {
    // Made after the process was confined, so that these threads are too.
    rayon::ThreadPoolBuilder::new().num_threads(args.compute_threads()).build_global().context("threads")?;
    let (model, tokens) = load(args).inspect_err(|error| {
        let _ = outbox.send(vec![FromEngine::LoadFailed(error.to_string())]);
    })?;
    outbox.send(vec![FromEngine::Ready(describe(&model))])?;
    let (commands, incoming) = sync_channel(COMMANDS_WAITING_MAX);
    let (texts, to_tokenise) = sync_channel(TEXTS_WAITING_MAX);
    let (tokenised, vocabulary) = (outbox.clone(), model.vocabulary());
    let spawn = |name: &str| thread::Builder::new().name(name.into());
    spawn("tokenise").spawn(move || tokenise(&tokens, vocabulary, &to_tokenise, &tokenised))?;
    let reader = spawn("reader").spawn(move || read(socket, &commands, &texts))?;
    compute(Batcher::new(model, args.batches()), &incoming, outbox);
    reader.join().map_err(|_| anyhow::anyhow!("the reader crashed"))?.context("the router sent nonsense")
}

fn load(args: &Args) -> Result<(Model, Tokens), LoadError> {
    Model::load(&Files { weights: args.model().to_owned(), parts: args.parts.iter().cloned().collect() })
}

fn describe(model: &Model) -> ModelInfo {
    ModelInfo {
        protocol: PROTOCOL_VERSION,
        context: model.context(),
        sequences: 0,
        vocabulary: model.vocabulary(),
        parameters: model.parameters(),
        chat_template: None,
        knows_tools: false,
        system_info: String::new(),
        produces: match model.produces() {
            Output::Vectors(dimensions) => Produces::Vectors { dimensions },
            Output::Scores => Produces::Scores,
        },
    }
}

/// Sorts the frames into lanes until the socket closes. Dropping the lanes ends the other threads.
fn read(
    mut socket: UnixStream,
    commands: &SyncSender<Command>,
    texts: &SyncSender<Texts>,
) -> Result<(), frame::FrameError> {
    while let Some(message) = frame::read(&mut socket)? {
        let delivered = match message {
            ToEngine::Tokenise { id, inputs } => texts.send(Texts { id, inputs, since: Instant::now() }).is_ok(),
            ToEngine::Encode(request) => commands.send(Command::Encode(request)).is_ok(),
            ToEngine::Cancel(id) => commands.send(Command::Cancel(id)).is_ok(),
            // The router knows what a model does, so none of these comes from a sound one.
            ToEngine::Begin(_) | ToEngine::Prepare { .. } | ToEngine::Generate { .. } | ToEngine::Shutdown => false,
        };
        if !delivered {
            break;
        }
    }
    Ok(())
}

/// Computes a batch at a time while there is work, sleeps while there is none, and ends with the lane.
fn compute(mut batcher: Batcher<Model>, incoming: &Receiver<Command>, outbox: &Outbox) {
    loop {
        let first = if batcher.has_work() { None } else { Some(incoming.recv()) };
        let first = match first.transpose() {
            Ok(first) => first,
            Err(_) => return,
        };
        let mut ended = Vec::new();
        for command in first.into_iter().chain(incoming.try_iter().take(COMMANDS_WAITING_MAX)) {
            ended.extend(match command {
                Command::Encode(request) => batcher.submit(request),
                Command::Cancel(id) => batcher.cancel(id),
            });
        }
        if batcher.has_work() {
            ended.extend(batcher.step());
        }
        let messages: Vec<_> = ended.into_iter().map(FromEngine::Encoded).collect();
        if !messages.is_empty() && outbox.send(messages).is_err() {
            return;
        }
    }
}

fn tokenise(tokens: &Tokens, vocabulary: u32, incoming: &Receiver<Texts>, outbox: &Outbox) {
    for Texts { id, inputs, since } in incoming {
        let result =
            if since.elapsed() > WAIT_MAX { Err(PrepareError::Crowded) } else { sequences(tokens, vocabulary, inputs) };
        if outbox.send(vec![FromEngine::Tokenised { id, result }]).is_err() {
            return;
        }
    }
}

/// A sequence for each input, in their order.
fn sequences(tokens: &Tokens, vocabulary: u32, inputs: Vec<EncodeInput>) -> Result<Vec<Sequence>, PrepareError> {
    let mut texts = Vec::new();
    let given = inputs.into_iter().map(|input| match input {
        EncodeInput::Text(text) => {
            texts.push(TextInput::One(text));
            Ok(None)
        }
        EncodeInput::Pair(first, second) => {
            texts.push(TextInput::Pair(first, second));
            Ok(None)
        }
        EncodeInput::Tokens(tokens) => as_they_are(tokens, vocabulary).map(Some),
    });
    let given = given.collect::<Result<Vec<_>, _>>()?;
    let mut tokenised = tokens.encode(texts).map_err(PrepareError::Tokeniser)?.into_iter();
    let sequences = given.into_iter().map(|given| given.or_else(|| tokenised.next()).ok_or(PrepareError::Empty));
    let sequences = sequences.collect::<Result<Vec<_>, _>>()?;
    if sequences.iter().any(|sequence| sequence.tokens.is_empty()) {
        return Err(PrepareError::Empty);
    }
    // A tokeniser with tokens that the model has not would fail the batches of others.
    match sequences.iter().flat_map(|sequence| &sequence.tokens).find(|token| token.0 >= vocabulary) {
        Some(token) => Err(PrepareError::UnknownToken(token.0)),
        None => Ok(sequences),
    }
}

fn as_they_are(tokens: Vec<TokenId>, vocabulary: u32) -> Result<Sequence, PrepareError> {
    match tokens.iter().find(|token| token.0 >= vocabulary) {
        Some(token) => Err(PrepareError::UnknownToken(token.0)),
        None => Ok(Sequence { second: u32::try_from(tokens.len()).unwrap_or(u32::MAX), tokens }),
    }
}
