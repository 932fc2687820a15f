//! An engine without a model, for tests and benchmarks of everything around one. It speaks the protocol of
//! `allerac-engine` on its standard input and makes up its answers at once.
//!
//! A prompt is one token for each byte. What is in the prompt's text decides what happens:
//! `crash-before` ends the process before the first token, `crash-after` after the third, `hang` never
//! answers, `garbage` sends what is no frame, `full` refuses for a full queue, `count` answers with the
//! process id, so that a test can see a restart; `endless` goes on until it is cancelled. Anything else is answered with `max_tokens` times ` x`.
//! A model named `unloadable` cannot be loaded, one named `dies-loading` ends the process while it is.
//! A model named `unloadable-on-gpu` cannot be loaded where `--gpu` is given, and `crash-on-gpu` in a prompt ends such a
//! process before the first token.
//! With `ALLERAC_STUB_CRASHES=N` in its environment only the first N processes of a test crash: they
//! count themselves in the file that `--model` names.

use std::collections::HashMap;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use allerac_engine_core::stats::{Counters, Gauges, Stats};
use allerac_engine_core::{Chunk, Event, FinishReason, Generate, RequestId, TokenId, Usage, Work};
use allerac_engine_link::frame;
use allerac_engine_link::protocol::{
    ChatInput, FromEngine, ModelInfo, PROTOCOL_VERSION, PrepareError, Produces, Prompt, PromptInput, ToEngine,
};

type Socket = Arc<Mutex<UnixStream>>;
type Cancelled = Arc<Mutex<HashMap<RequestId, bool>>>;

fn main() -> ExitCode {
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().expect("standard input is open");
    let mut reader = UnixStream::from(stdin);
    let socket: Socket = Arc::new(Mutex::new(reader.try_clone().expect("a socket can be cloned")));
    let model = std::env::args().skip_while(|arg| arg != "--model").nth(1).unwrap_or_default();
    let on_gpu = std::env::args().any(|arg| arg == "--gpu");
    if model.contains("unloadable") && (on_gpu || !model.contains("on-gpu")) {
        send(&socket, &FromEngine::LoadFailed("the stub was told so".into()));
        return ExitCode::FAILURE;
    }
    let may_crash = count_start(&model);
    let protocol = if model.contains("old-protocol") { PROTOCOL_VERSION - 1 } else { PROTOCOL_VERSION };
    send(&socket, &FromEngine::Loading(0.5));
    if model.contains("dies-loading") {
        std::process::abort();
    }
    send(&socket, &FromEngine::Ready(model_info(protocol)));
    let cancelled: Cancelled = Arc::default();
    while let Ok(Some(message)) = frame::read(&mut reader) {
        match message {
            ToEngine::Prepare { id, input, .. } => {
                send(&socket, &FromEngine::Prepared { id, result: prepare(input) });
            }
            ToEngine::Generate { request, .. } => {
                if answers_at_once(&request) {
                    generate(&socket, &cancelled, &request, may_crash);
                } else {
                    let (socket, cancelled) = (Arc::clone(&socket), Arc::clone(&cancelled));
                    std::thread::spawn(move || generate(&socket, &cancelled, &request, may_crash));
                }
            }
            ToEngine::Begin(_) => {}
            ToEngine::Cancel(id) => {
                cancelled.lock().expect("no thread panics").insert(id, true);
            }
            // It has no encoder.
            ToEngine::Tokenise { id, .. } => {
                send(&socket, &FromEngine::Tokenised { id, result: Err(PrepareError::WrongKind) });
            }
            ToEngine::Encode(_) => {}
            ToEngine::Shutdown => break,
        }
    }
    ExitCode::SUCCESS
}

/// Counts this process in the file; whether it is one of those that crash.
fn count_start(model: &str) -> bool {
    let Some(crashes) = std::env::var("ALLERAC_STUB_CRASHES").ok().and_then(|number| number.parse().ok()) else {
        return true;
    };
    let before = std::fs::metadata(model).map_or(0, |metadata| metadata.len());
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(model).expect("the file can be written");
    file.write_all(b".").expect("the file can be written");
    before < crashes
}

fn model_info(protocol: u32) -> ModelInfo {
    ModelInfo {
        produces: Produces::default(),
        protocol,
        context: 4096,
        sequences: 64,
        vocabulary: 256,
        parameters: 1,
        chat_template: Some(String::new()),
        knows_tools: false,
        system_info: "stub".into(),
    }
}

fn prepare(input: PromptInput) -> Result<Prompt, PrepareError> {
    let text = |text: &str| text.bytes().map(|byte| TokenId(u32::from(byte))).collect();
    let tokens: Vec<TokenId> = match input {
        PromptInput::Chat(ChatInput { messages_json: words, .. }) | PromptInput::Text(words) => text(&words),
        PromptInput::Tokens(tokens) => tokens,
        PromptInput::Infill { .. } => return Err(PrepareError::NoInfill),
        PromptInput::Spelled(input) => {
            let prompt = prepare(*input)?;
            let pieces = prompt.tokens.iter().map(|token| token.0.to_le_bytes()[..1].to_vec()).collect();
            return Ok(Prompt { pieces, ..prompt });
        }
    };
    if tokens.is_empty() { Err(PrepareError::Empty) } else { Ok(Prompt { tokens, ..Prompt::default() }) }
}

fn text_of(request: &Generate) -> String {
    request.prompt.iter().map(|token| u8::try_from(token.0).map_or('?', char::from)).collect()
}

fn answers_at_once(request: &Generate) -> bool {
    let text = text_of(request);
    !text.contains("endless") && !text.contains("hang")
}

fn generate(socket: &Socket, cancelled: &Cancelled, request: &Generate, may_crash: bool) {
    let (id, text) = (request.id, text_of(request));
    let prompt_tokens = u32::try_from(request.prompt.len()).expect("a prompt is short");
    if text.contains("full") {
        let reason = allerac_engine_core::event::RefuseReason::QueueFull { waiting: 64, wait_ms: 7500 };
        return send(socket, &FromEngine::Event(Event::Refused { id, reason }));
    }
    if text.contains("garbage") && may_crash {
        let _ = socket.lock().expect("no thread panics").write_all(&[2, 0, 0, 0, 0xFF, 0xFF]);
        return;
    }
    if text.contains("crash-on-gpu") && std::env::args().any(|arg| arg == "--gpu") {
        std::process::abort();
    }
    if text.contains("crash-before") && may_crash {
        std::process::abort();
    }
    send(socket, &FromEngine::Event(Event::Started { id, cached_tokens: 0 }));
    if text.contains("hang") {
        return;
    }
    let piece = if text.contains("count") { std::process::id().to_string() } else { " x".to_owned() };
    let endless = text.contains("endless");
    let mut completion_tokens = 0;
    let is_cancelled = || cancelled.lock().expect("no thread panics").contains_key(&id);
    while (endless || completion_tokens < request.max_tokens) && !is_cancelled() {
        completion_tokens += 1;
        let chunk = Chunk { text: piece.clone(), tokens: vec![TokenId(120)], logprobs: Vec::new(), completion_tokens };
        send(socket, &FromEngine::Event(Event::Chunk { id, chunk }));
        if completion_tokens == 3 && text.contains("crash-after") {
            std::process::abort();
        }
    }
    let reason = if is_cancelled() { FinishReason::Cancelled } else { FinishReason::Length };
    let usage = Usage { prompt_tokens, completion_tokens, ..Usage::default() };
    send_stats(socket, prompt_tokens, completion_tokens);
    let (time, cpu) = (Duration::from_micros(u64::from(completion_tokens)), Duration::from_micros(1));
    send(socket, &FromEngine::Work(vec![Work { id, time, cpu }]));
    send(socket, &FromEngine::Event(Event::Finished { id, reason, tail: String::new(), usage }));
}

/// Tells what all requests of this process took so far.
fn send_stats(socket: &Socket, prompt_tokens: u32, completion_tokens: u32) {
    static COUNTERS: Mutex<Option<Counters>> = Mutex::new(None);
    let mut counters = COUNTERS.lock().expect("no thread panics");
    let counters = counters.get_or_insert_default();
    counters.prompt.computed += u64::from(prompt_tokens);
    counters.output_tokens += u64::from(completion_tokens);
    let gauges = Gauges { cells: 4096, cells_kept: prompt_tokens + completion_tokens, ..Gauges::default() };
    send(socket, &FromEngine::Stats(Box::new(Stats { gauges, counters: counters.clone() })));
}

fn send(socket: &Socket, message: &FromEngine) {
    let mut buffer = Vec::new();
    frame::encode(message, &mut buffer).expect("the stub's messages are short");
    let _ = socket.lock().expect("no thread panics").write_all(&buffer);
}
