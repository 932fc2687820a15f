//! Serves an encoder: the main thread computes batches, one thread reads frames, one tokenises, one writes frames.

use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use allerac_engine_candle::{Files, Model, Produces as Output, TextInput};
use allerac_engine_core::encode::{Encode, Encoder, Sequence};
use allerac_engine_core::{Batcher, RequestId, TokenId, WorkLog};
use allerac_engine_link::frame;
use allerac_engine_link::protocol::{
    EncodeInput, FromEngine, ModelInfo, PROTOCOL_VERSION, PrepareError, Produces, ToEngine,
};
use allerac_engine_llama::{Embedder, Produced};
use anyhow::Context as _;

use crate::args::Args;
use crate::serve::{Outbox, load_file};
use crate::work::Teller;

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

/// A loaded model, by whatever computes it.
struct Loaded {
    encoder: Box<dyn Encoder>,
    tokenise: Box<Tokenise>,
    info: ModelInfo,
}

/// Loads the model and serves until the socket closes.
pub(crate) fn run(args: &Args, socket: UnixStream, outbox: &Outbox) -> anyhow::Result<()> {
    let loaded = if args.parts.is_empty() { load_gguf(args, outbox) } else { load_safetensors(args) };
    let Loaded { encoder, tokenise, info } = loaded.inspect_err(|error| {
        let _ = outbox.send(vec![FromEngine::LoadFailed(error.to_string())]);
    })?;
    let vocabulary = info.vocabulary;
    outbox.send(vec![FromEngine::Ready(info)])?;
    let (commands, incoming) = sync_channel(COMMANDS_WAITING_MAX);
    let (texts, to_tokenise) = sync_channel(TEXTS_WAITING_MAX);
    let tokenised = outbox.clone();
    let spawn = |name: &str| thread::Builder::new().name(name.into());
    spawn("tokenise").spawn(move || answer_texts(&*tokenise, vocabulary, &to_tokenise, &tokenised))?;
    let reader = spawn("reader").spawn(move || read(socket, &commands, &texts))?;
    compute(Batcher::new(encoder, args.batches()), &incoming, outbox);
    reader.join().map_err(|_| anyhow::anyhow!("the reader crashed"))?.context("the router sent nonsense")
}

/// A model of several files, which candle computes.
fn load_safetensors(args: &Args) -> anyhow::Result<Loaded> {
    // Made after the process was confined, so that these threads are too.
    rayon::ThreadPoolBuilder::new().num_threads(args.compute_threads()).build_global().context("threads")?;
    let files = Files { weights: args.model().to_owned(), parts: args.parts.iter().cloned().collect() };
    let (model, tokens) = Model::load(&files)?;
    let produces = match model.produces() {
        Output::Vectors(dimensions) => Produces::Vectors { dimensions },
        Output::Scores => Produces::Scores,
    };
    let info = describe(model.context(), model.vocabulary(), model.parameters(), produces);
    Ok(Loaded { encoder: Box::new(model), tokenise: Box::new(move |texts| tokens.encode(texts)), info })
}

/// A model of one file, which llama.cpp computes.
fn load_gguf(args: &Args, outbox: &Outbox) -> anyhow::Result<Loaded> {
    let (model, _) = load_file(args, None, outbox)?;
    let embedder = Embedder::new(model, args.embedder_params())?;
    let produces = match embedder.produced() {
        Produced::Vectors(dimensions) => Produces::Vectors { dimensions },
        Produced::Scores(_) => Produces::Scores,
    };
    let info = ModelInfo {
        system_info: allerac_engine_llama::Model::system_info().trim().to_owned(),
        ..describe(embedder.context(), model.vocabulary(), model.parameters(), produces)
    };
    let tokenise = |text| {
        let tokens = match text {
            TextInput::One(text) => model.tokenise_text(&text),
            TextInput::Pair(query, text) => model.tokenise_pair(&query, &text),
        };
        whole(tokens)
    };
    let tokenise = move |texts: Vec<TextInput>| Ok(texts.into_iter().map(tokenise).collect());
    Ok(Loaded { encoder: Box::new(embedder), tokenise: Box::new(tokenise), info })
}

fn describe(context: u32, vocabulary: u32, parameters: u64, produces: Produces) -> ModelInfo {
    ModelInfo {
        protocol: PROTOCOL_VERSION,
        context,
        sequences: 0,
        vocabulary,
        parameters,
        chat_template: None,
        knows_tools: false,
        system_info: String::new(),
        produces,
    }
}

/// Sorts the frames into lanes until the socket closes. Dropping the lanes ends the other threads.
fn read(
    socket: UnixStream,
    commands: &SyncSender<Command>,
    texts: &SyncSender<Texts>,
) -> Result<(), frame::FrameError> {
    // Frames that come together cost one system call.
    let mut socket = BufReader::new(socket);
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
fn compute(mut batcher: Batcher<Box<dyn Encoder>>, incoming: &Receiver<Command>, outbox: &Outbox) {
    let (mut log, mut teller) = (WorkLog::default(), Teller::new());
    loop {
        let is_idle = !batcher.has_work();
        let first = if is_idle { Some(incoming.recv()) } else { None };
        let first = match first.transpose() {
            Ok(first) => first,
            Err(_) => return,
        };
        if is_idle {
            teller.begin();
        }
        let mut ended = Vec::new();
        for command in first.into_iter().chain(incoming.try_iter().take(COMMANDS_WAITING_MAX)) {
            ended.extend(match command {
                Command::Encode(request) => batcher.submit(request),
                Command::Cancel(id) => batcher.cancel(id),
            });
        }
        if batcher.has_work() {
            let began = Instant::now();
            ended.extend(batcher.step());
            log.note(began.elapsed(), batcher.last_step());
        }
        let work = teller.after_step(!ended.is_empty(), |cpu| log.take(cpu));
        let messages: Vec<_> = work.into_iter().chain(ended.into_iter().map(FromEngine::Encoded)).collect();
        if !messages.is_empty() && outbox.send(messages).is_err() {
            return;
        }
    }
}

/// Makes sequences of texts; an error is what the tokeniser says of one that it cannot read.
type Tokenise = dyn Fn(Vec<TextInput>) -> Result<Vec<Sequence>, String> + Send;

fn answer_texts(tokenise: &Tokenise, vocabulary: u32, incoming: &Receiver<Texts>, outbox: &Outbox) {
    for Texts { id, inputs, since } in incoming {
        let result = if since.elapsed() > WAIT_MAX {
            Err(PrepareError::Crowded)
        } else {
            sequences(tokenise, vocabulary, inputs)
        };
        if outbox.send(vec![FromEngine::Tokenised { id, result }]).is_err() {
            return;
        }
    }
}

/// A sequence for each input, in their order.
fn sequences(tokenise: &Tokenise, vocabulary: u32, inputs: Vec<EncodeInput>) -> Result<Vec<Sequence>, PrepareError> {
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
    let mut tokenised = tokenise(texts).map_err(PrepareError::Tokeniser)?.into_iter();
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
        None => Ok(whole(tokens)),
    }
}

/// A sequence of one text.
fn whole(tokens: Vec<TokenId>) -> Sequence {
    Sequence { second: u32::try_from(tokens.len()).unwrap_or(u32::MAX), tokens }
}
