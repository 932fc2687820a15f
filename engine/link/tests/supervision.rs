//! The supervised handle over a real process: the stub engine, told to misbehave.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use allerac_engine_core::{AdapterId, Class, FinishReason, SamplingParams, TokenId, Usage};
use allerac_engine_link::protocol::{PROTOCOL_VERSION, PrepareError, Prompt, PromptInput};
use allerac_engine_link::{
    Engine, EngineConfig, EngineError, EngineSettings, EngineStatus, GenerateSpec, GenerationEvent, Offload, Report,
    Worked,
};

const WAIT: Duration = Duration::from_secs(20);

/// The example is built beside the tests.
fn stub() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    tests.ancestors().nth(2).unwrap().join("examples/engine_stub")
}

fn start(model: &str) -> Engine {
    Engine::spawn(config(model))
}

fn config(model: &str) -> EngineConfig {
    EngineConfig {
        binary: stub(),
        model_path: model.into(),
        encodes: false,
        parts: Vec::new(),
        draft_path: None,
        adapters: Vec::new(),
        offload: None,
        name: "stub".into(),
        settings: EngineSettings::default(),
        kv_file: None,
        common_prompts: Vec::new(),
    }
}

/// A stub whose first `crashes` processes do as they are told, and whose later ones are well-behaved.
fn start_crashing(directory: &tempfile::TempDir, crashes: u32) -> Engine {
    // A wrapper sets the environment: the handle has no need to.
    let wrapper = directory.path().join("stub");
    let script = format!("#!/bin/sh\nexport ALLERAC_STUB_CRASHES={crashes}\nexec {} \"$@\"\n", stub().display());
    std::fs::write(&wrapper, script).unwrap();
    std::fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    Engine::spawn(EngineConfig {
        binary: wrapper,
        model_path: directory.path().join("starts"),
        encodes: false,
        parts: Vec::new(),
        draft_path: None,
        adapters: Vec::new(),
        offload: None,
        name: "stub".into(),
        settings: EngineSettings::default(),
        kv_file: None,
        common_prompts: Vec::new(),
    })
}

fn spec(prompt: &str, max_tokens: u32) -> GenerateSpec {
    GenerateSpec {
        salt: 0,
        adapter: AdapterId::NONE,
        class: Class::Chat,
        prompt: Prompt { tokens: prompt.bytes().map(|byte| TokenId(u32::from(byte))).collect(), ..Prompt::default() },
        max_tokens,
        sampling: SamplingParams::default(),
        stop: Vec::new(),
        control_words: false,
        top_logprobs: None,
        score_prompt: false,
        grammar: None,
        worked: Arc::default(),
    }
}

/// The text of a generation and its last event.
async fn run(engine: &Engine, prompt: &str, max_tokens: u32) -> (String, GenerationEvent) {
    let mut generation = engine.generate(spec(prompt, max_tokens)).await.unwrap();
    let mut text = String::new();
    loop {
        let event = tokio::time::timeout(WAIT, generation.next()).await.unwrap().expect("there is a last event");
        match event {
            GenerationEvent::Started { .. } => {}
            GenerationEvent::Chunk(chunk) => text.push_str(&chunk.text),
            last => {
                assert_eq!(generation.next().await, None);
                return (text, last);
            }
        }
    }
}

fn failed(event: &GenerationEvent) -> (&EngineError, u32) {
    let GenerationEvent::Failed { error, usage } = event else { panic!("{event:?}") };
    (error, usage.completion_tokens)
}

#[tokio::test]
async fn a_generation_comes_whole() {
    let engine = start("m");
    assert_eq!(engine.ready(WAIT).await.unwrap().context, 4096);
    let (text, last) = run(&engine, "hello", 3).await;
    assert_eq!(text, " x x x");
    let usage = Usage { prompt_tokens: 5, completion_tokens: 3, ..Usage::default() };
    assert_eq!(last, GenerationEvent::Finished { reason: FinishReason::Length, tail: String::new(), usage });
}

#[tokio::test]
async fn requests_wait_for_the_model() {
    let engine = start("m");
    let tokens = engine.prepare(PromptInput::Text("ab".into()), None).await.unwrap();
    assert_eq!(tokens.tokens, [TokenId(97), TokenId(98)]);
    let refused = engine.prepare(PromptInput::Text(String::new()), None).await;
    assert_eq!(refused, Err(EngineError::Prepare(PrepareError::Empty)));
}

#[tokio::test]
async fn cancelling_tells_the_cost() {
    let engine = start("m");
    let mut generation = engine.generate(spec("endless", 9)).await.unwrap();
    while !matches!(generation.next().await.unwrap(), GenerationEvent::Chunk(_)) {}
    let usage = tokio::time::timeout(WAIT, generation.cancel()).await.unwrap();
    assert!(usage.completion_tokens >= 1);
    assert_eq!(usage.prompt_tokens, 7);
    assert_eq!(run(&engine, "next", 1).await.0, " x");
}

#[tokio::test]
async fn a_request_that_delivered_nothing_is_replayed_once() {
    let directory = tempfile::tempdir().unwrap();
    let engine = start_crashing(&directory, 1);
    let (text, last) = run(&engine, "crash-before", 2).await;
    assert_eq!(text, " x x");
    assert!(matches!(last, GenerationEvent::Finished { .. }), "{last:?}");
}

#[tokio::test]
async fn nonsense_on_the_socket_is_a_crash_and_is_replayed_too() {
    let directory = tempfile::tempdir().unwrap();
    let engine = start_crashing(&directory, 1);
    assert_eq!(run(&engine, "garbage", 2).await.0, " x x");
}

#[tokio::test]
async fn a_request_that_crashes_two_processes_fails_and_others_live() {
    let engine = start("m");
    let (_, last) = run(&engine, "crash-before", 2).await;
    assert_eq!(failed(&last), (&EngineError::Crashed, 0));
    assert_eq!(run(&engine, "next", 1).await.0, " x");
}

#[tokio::test]
async fn a_request_that_delivered_tokens_ends_with_what_it_cost() {
    let engine = start("m");
    let (text, last) = run(&engine, "crash-after", 9).await;
    assert_eq!(text, " x x x");
    assert_eq!(failed(&last), (&EngineError::Crashed, 3));
    assert_eq!(run(&engine, "next", 1).await.0, " x");
}

#[tokio::test]
async fn a_killed_process_comes_back() {
    let engine = start("m");
    let (pid, _) = run(&engine, "count", 1).await;
    let killed = std::process::Command::new("kill").args(["-9", &pid]).status().unwrap();
    assert!(killed.success());
    let (next, _) = run(&engine, "count", 1).await;
    assert_ne!(next, pid);
}

#[tokio::test]
async fn what_engines_did_adds_up_over_their_processes() {
    let engine = start("m");
    assert_eq!(engine.report(), Report::default());
    let numbers = |engine: &Engine| {
        let Report { stats, crashes, .. } = engine.report();
        (stats.counters.prompt.computed, stats.counters.output_tokens, stats.gauges.cells_kept, crashes)
    };
    let (pid, _) = run(&engine, "count", 2).await;
    let pid = &pid[..pid.len() / 2];
    assert_eq!(numbers(&engine), (5, 2, 7, 0));
    let killed = std::process::Command::new("kill").args(["-9", pid]).status().unwrap();
    assert!(killed.success());
    // Prepared by the next process, which has told nothing yet: what the first did stays, what it held is gone.
    engine.prepare(PromptInput::Text("a".into()), None).await.unwrap();
    assert_eq!(numbers(&engine), (5, 2, 0, 1));
    assert_eq!(run(&engine, "next", 3).await.0, " x x x");
    assert_eq!(numbers(&engine), (9, 5, 7, 1));
    engine.shutdown().await;
    assert_eq!(numbers(&engine), (9, 5, 0, 1));
}

#[tokio::test]
async fn a_full_queue_is_said() {
    let engine = start("m");
    let (_, last) = run(&engine, "full", 1).await;
    assert_eq!(failed(&last), (&EngineError::QueueFull { waiting: 64, wait_ms: 7500 }, 0));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cancelled_and_the_rest_goes_on() {
    let engine = start("m");
    let mut stalled = engine.generate(spec("endless", 1)).await.unwrap();
    // The stub floods; others are answered meanwhile.
    assert_eq!(run(&engine, "next", 1).await.0, " x");
    let last = loop {
        match tokio::time::timeout(WAIT, stalled.next()).await.unwrap() {
            Some(GenerationEvent::Failed { error, .. }) => break error,
            Some(_) => {}
            None => panic!("there is a last event"),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    assert_eq!(last, EngineError::ClientStalled);
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_is_a_typed_error() {
    let old = format!("version {} of the protocol", PROTOCOL_VERSION - 1);
    for (model, said) in [("unloadable", "the stub was told so"), ("old-protocol", &*old)] {
        let engine = start(model);
        let Err(EngineError::LoadFailed { reason }) = engine.ready(WAIT).await else { panic!("{model} was loaded") };
        assert!(reason.contains(said), "{reason}");
        assert!(matches!(engine.status(), EngineStatus::Failed { .. }));
        let prepared = engine.prepare(PromptInput::Text("a".into()), None).await;
        assert!(matches!(prepared, Err(EngineError::LoadFailed { .. })));
    }
}

#[tokio::test]
async fn a_model_whose_processes_die_while_they_load_it_cannot_be_loaded() {
    let engine = start("dies-loading");
    let error = tokio::time::timeout(WAIT, engine.load()).await.unwrap().unwrap_err();
    let EngineError::LoadFailed { reason } = error else { panic!("{error}") };
    assert_eq!(reason, "the engine process ended while it loaded the model, 3 times in a row");
    assert_eq!(engine.report().crashes, 3);
    assert!(matches!(engine.status(), EngineStatus::Failed { .. }));
    assert_eq!(engine.memory_bytes(), None);
}

#[tokio::test]
async fn an_engine_goes_on_from_what_another_one_did() {
    let first = start("model");
    run(&first, "hello", 5).await;
    first.shutdown().await;
    assert_eq!((first.report().process, first.memory_bytes()), (None, None));
    let second = Engine::resume(config("model"), first.report());
    run(&second, "hello", 5).await;
    assert_eq!(second.report().stats.counters.output_tokens, 10);
    assert!(second.memory_bytes().unwrap() > 100_000);
}

fn on_gpu(model: &str, folder: &tempfile::TempDir) -> Engine {
    let offload = Offload {
        module: "/m.so".into(),
        device: "Vulkan0".into(),
        layers: 3,
        cpu_expert_layers: 1,
        shader_cache: folder.path().join("shaders"),
    };
    Engine::spawn(EngineConfig { offload: Some(offload), ..config(model) })
}

#[tokio::test]
async fn what_dies_on_a_graphics_processor_goes_on_without() {
    let folder = tempfile::tempdir().unwrap();
    let engine = on_gpu("m", &folder);
    engine.ready(WAIT).await.unwrap();
    assert!(folder.path().join("shaders").is_dir());
    assert_eq!(engine.report().gpu_failure, None);
    let began = std::time::Instant::now();
    let (text, last) = run(&engine, "crash-on-gpu", 2).await;
    assert!(matches!(last, GenerationEvent::Finished { .. }), "{last:?}");
    assert_eq!(text, " x x");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let report = engine.report();
    assert_eq!((report.crashes, report.gpu_failure.as_deref()), (1, Some("the engine process ended")));
}

#[tokio::test]
async fn what_cannot_be_loaded_onto_a_graphics_processor_is_loaded_without() {
    let folder = tempfile::tempdir().unwrap();
    let engine = on_gpu("unloadable-on-gpu", &folder);
    assert_eq!(engine.ready(WAIT).await.unwrap().context, 4096);
    assert_eq!(engine.report().gpu_failure.as_deref(), Some("the stub was told so"));
    assert_eq!(run(&engine, "hello", 1).await.0, " x");
}

#[tokio::test]
async fn what_cannot_be_loaded_at_all_is_not_the_graphics_processors_fault() {
    let folder = tempfile::tempdir().unwrap();
    for model in ["unloadable", "dies-loading"] {
        let engine = on_gpu(model, &folder);
        let failed = tokio::time::timeout(WAIT, engine.load()).await.unwrap();
        assert!(matches!(failed, Err(EngineError::LoadFailed { .. })), "{model}: {failed:?}");
        assert_eq!(engine.report().gpu_failure, None, "{model}");
    }
}

#[tokio::test]
async fn a_program_that_is_missing_is_a_load_failure() {
    let engine = Engine::spawn(EngineConfig {
        binary: "/nonexistent/engine".into(),
        model_path: "m".into(),
        encodes: false,
        parts: Vec::new(),
        draft_path: None,
        adapters: Vec::new(),
        offload: None,
        name: "m".into(),
        settings: EngineSettings::default(),
        kv_file: None,
        common_prompts: Vec::new(),
    });
    let Err(EngineError::LoadFailed { reason }) = engine.ready(WAIT).await else { panic!("it started") };
    assert!(reason.contains("/nonexistent/engine"), "{reason}");
}

#[tokio::test]
async fn the_process_ends_with_its_handles() {
    let engine = start("m");
    let (pid, _) = run(&engine, "count", 1).await;
    engine.shutdown().await;
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(engine.generate(spec("next", 1)).await.err(), Some(EngineError::Stopped));
}

#[tokio::test]
async fn what_is_done_for_a_request_is_counted_before_its_end() {
    let engine = start("m");
    let worked: Arc<Worked> = Arc::default();
    let ask = |prompt, tokens| engine.generate(GenerateSpec { worked: Arc::clone(&worked), ..spec(prompt, tokens) });
    // Two choices of one request.
    let (mut first, mut second) = (ask("hello", 5).await.unwrap(), ask("endless", 1).await.unwrap());
    assert!(worked.is_running());
    while first.next().await.is_some() {}
    assert!(worked.time() >= Duration::from_micros(5) && worked.is_running());
    assert!(matches!(second.next().await, Some(GenerationEvent::Started { .. })));
    let produced = u64::from(second.cancel().await.completion_tokens);
    assert_eq!(worked.time(), Duration::from_micros(5 + produced));
    assert_eq!((worked.cpu(), worked.is_running()), (Duration::from_micros(2), false));
}
