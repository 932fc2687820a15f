//! The real process with the real model over a real socket.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod grammars;
mod guesses;
mod settings;
mod support;

use std::io::Write;
use std::process::{Command, Stdio};

use allerac_engine_core::{Event, FinishReason, RequestId, TokenId};
use allerac_engine_link::protocol::{ChatInput, FromEngine, PROTOCOL_VERSION, PrepareError, PromptInput, ToEngine};

use crate::support::{Worker, greedy, model};

#[test]
fn it_answers_a_chat_and_ends_when_the_socket_closes() {
    let (mut worker, info) = Worker::ready(&model());
    assert_eq!((info.protocol, info.context, info.sequences), (PROTOCOL_VERSION, 512, 4));
    assert_eq!((info.vocabulary, info.parameters, info.chat_template.is_some()), (49_152, 134_515_008, true));
    let prompt = worker.prepare(PromptInput::Text("The capital of France is".into())).unwrap();
    let length = u32::try_from(prompt.len()).unwrap();
    worker.send(&greedy(1, prompt, 2));
    let answer = worker.collect(1).remove(&1).unwrap();
    assert_eq!(answer.text, " Paris.");
    assert_eq!(answer.reason, Some(FinishReason::Length));
    assert_eq!((answer.usage.prompt_tokens, answer.usage.completion_tokens), (length, 2));
    let told = worker.counters(1);
    assert_eq!((told.prompt.computed, told.output_tokens, told.ended.length), (length.into(), 2, 1));
    assert!(told.prefill.steps == 1 && told.prefill.time.as_micros() > 0);
    worker.socket.shutdown(std::net::Shutdown::Both).unwrap();
    assert!(worker.child.wait().unwrap().success());
}

#[test]
fn requests_in_company_answer_as_if_alone() {
    let (mut worker, _) = Worker::ready(&model());
    let questions = ["What is 2+2?", "Name a colour.", "What is the capital of France?", "Say hello."];
    let prompts: Vec<_> = questions.iter().map(|question| worker.chat(question)).collect();
    let mut alone = Vec::new();
    for (id, prompt) in (10..).zip(&prompts) {
        worker.send(&greedy(id, prompt.clone(), 8));
        alone.push(worker.collect(1).remove(&id).unwrap().tokens);
    }
    for (id, prompt) in (20..).zip(&prompts) {
        worker.send(&greedy(id, prompt.clone(), 8));
    }
    let answers = worker.collect(4);
    for (id, alone) in (20..).zip(&alone) {
        assert_eq!(&answers[&id].tokens, alone);
    }
}

#[test]
fn a_cancelled_request_ends_at_once() {
    let (mut worker, _) = Worker::ready(&model());
    let prompt = worker.prepare(PromptInput::Text("Once upon a time".into())).unwrap();
    worker.send(&greedy(1, prompt, 400));
    let started = worker.receive();
    assert!(matches!(started, Some(FromEngine::Event(Event::Started { .. }))));
    worker.send(&ToEngine::Cancel(RequestId(1)));
    let mut produced = 0;
    let reason = loop {
        match worker.receive() {
            Some(FromEngine::Event(Event::Chunk { .. })) => produced += 1,
            Some(FromEngine::Event(Event::Finished { reason, usage, .. })) => {
                assert_eq!(usage.completion_tokens, produced);
                break reason;
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(reason, FinishReason::Cancelled);
    // The cancellation may overtake nothing that was computed before it arrived.
    assert!(produced < 40, "{produced} tokens after a cancellation");
}

#[test]
fn what_is_no_prompt_is_refused_with_a_reason() {
    let (mut worker, _) = Worker::ready(&model());
    let refused = worker.prepare(PromptInput::Tokens(vec![TokenId(49_152)]));
    assert_eq!(refused, Err(PrepareError::UnknownToken(49_152)));
    assert_eq!(worker.prepare(PromptInput::Tokens(vec![])), Err(PrepareError::Empty));
    assert_eq!(worker.prepare(PromptInput::Text(String::new())), Err(PrepareError::Empty));
}

#[test]
fn a_flood_of_special_tokens_is_tokenised_in_parts_that_join_seamlessly() {
    let (mut worker, _) = Worker::ready(&model());
    let count = 20_000;
    let messages_json = format!(r#"[{{"role":"user","content":"{}"}}]"#, "<|im_start|>hi".repeat(count));
    let tokens = worker.prepare(PromptInput::Chat(ChatInput { messages_json, ..ChatInput::default() })).unwrap();
    let mut shortest = worker.chat("<|im_start|>hi");
    // Before the last turn stand the one repetition, the end of the turn and a line feed.
    let place = shortest.iter().rposition(|token| *token == TokenId(1)).unwrap() - 4;
    let repeated = shortest[place..place + 2].repeat(count - 1);
    shortest.splice(place..place, repeated);
    assert_eq!(tokens.len(), shortest.len());
    assert!(tokens == shortest);
}

#[test]
fn the_same_prompt_again_costs_nothing_and_answers_the_same() {
    let (mut worker, _) = Worker::ready(&model());
    // Longer than the pieces in which the arithmetic differs.
    let prompt = worker.prepare(PromptInput::Text("The cat sat on the mat and the dog ran. ".repeat(12))).unwrap();
    let mut answers = Vec::new();
    for _ in 0..2 {
        worker.send(&greedy(7, prompt.clone(), 24));
        answers.push(worker.collect(1).remove(&7).unwrap());
    }
    assert_eq!(answers[0].tokens, answers[1].tokens);
    let cached: Vec<u32> = answers.iter().map(|answer| answer.usage.cached_tokens).collect();
    assert_eq!(cached, [0, u32::try_from(prompt.len()).unwrap()]);
}

#[test]
fn a_prompt_is_known_after_a_restart_to_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kv");
    let start = || {
        let more = ["--kv-file", file.to_str().unwrap()];
        Worker::start_with(&model(), &more).until_ready().0
    };
    let ask = |worker: &mut Worker, salt: u64, text: &str| {
        let prompt = worker.prepare(PromptInput::Text(text.into())).unwrap();
        let length = u32::try_from(prompt.len()).unwrap();
        worker.send(&greedy(salt, prompt, 24));
        let answer = worker.collect(1).remove(&salt).unwrap();
        (answer.tokens, answer.usage.cached_tokens, length)
    };
    let text = "The cat sat on the mat and the dog ran. ".repeat(12);
    let mut worker = start();
    let (answer, cached, length) = ask(&mut worker, 7, &text);
    assert_eq!(cached, 0);
    worker.send(&ToEngine::Shutdown);
    assert!(worker.child.wait().unwrap().success());
    let mut worker = start();
    assert_eq!(ask(&mut worker, 7, &text), (answer.clone(), length, length));
    assert_eq!(ask(&mut worker, 8, &text), (answer.clone(), 0, length), "another owner's timing tells nothing");
    let (_, cached, _) = ask(&mut worker, 7, &(text.clone() + "Then it rained."));
    assert!(cached >= length - 1, "{cached} of {length}");
    // The router is killed: the engine ends, and keeps what it knows.
    worker.socket.shutdown(std::net::Shutdown::Both).unwrap();
    assert!(worker.child.wait().unwrap().success());
    let mut worker = start();
    assert_eq!(ask(&mut worker, 7, &text), (answer.clone(), length, length));
    // A damaged file is no file.
    drop(worker);
    let bytes = std::fs::metadata(&file).unwrap().len();
    std::fs::write(&file, vec![0x55; usize::try_from(bytes).unwrap()]).unwrap();
    assert_eq!(ask(&mut start(), 7, &text), (answer, 0, length));
}

#[test]
fn more_conversations_than_slots_are_not_computed_again() {
    let (mut worker, _) = Worker::ready(&model());
    let mut cached = Vec::new();
    for round in 0..2 {
        for salt in 0..9u64 {
            let text = format!("{salt} {}", "The cat sat on the mat and the dog ran. ".repeat(12));
            let prompt = worker.prepare(PromptInput::Text(text)).unwrap();
            let known = round * u32::try_from(prompt.len()).unwrap();
            worker.send(&greedy(salt, prompt, 2));
            cached.push((worker.collect(1).remove(&salt).unwrap().usage.cached_tokens, known));
        }
    }
    assert!(cached.iter().all(|(cached, known)| cached == known), "{cached:?}");
}

#[test]
fn a_program_without_a_socket_says_so() {
    let output = Command::new(env!("CARGO_BIN_EXE_allerac-engine"))
        .args(["--model", "none"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let printed = String::from_utf8(output.stderr).unwrap();
    assert!(printed.contains("standard input is no socket"), "{printed}");
}

#[test]
fn nonsense_on_the_socket_ends_the_process_with_an_error() {
    let (mut worker, _) = Worker::ready(&model());
    worker.socket.write_all(&[3, 0, 0, 0, 0xFF, 0xFF, 0xFF]).unwrap();
    assert!(!worker.child.wait().unwrap().success());
}

#[test]
fn a_damaged_model_file_is_reported_and_not_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let whole = std::fs::read(model()).unwrap();
    let files: [(&str, &[u8]); 4] = [
        ("text", b"this is no model"),
        ("empty", b""),
        ("header only", &whole[..64]),
        ("cut", &whole[..whole.len() / 2]),
    ];
    for (name, content) in files {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        let mut worker = Worker::start(&path);
        let message = loop {
            match worker.receive() {
                Some(FromEngine::Loading(_)) => {}
                Some(FromEngine::LoadFailed(message)) => break message,
                other => panic!("{name}: {other:?}"),
            }
        };
        assert!(message.contains(name), "{message}");
        assert_eq!(worker.child.wait().unwrap().code(), Some(1), "{name}");
    }
}

#[test]
fn the_confinement_denies_what_it_must() {
    let output = Command::new(env!("CARGO_BIN_EXE_allerac-engine"))
        .args(["--self-test-sandbox", "--model"])
        .arg(model())
        .arg("--draft-model")
        .arg(model())
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    let denied = [
        "write a file",
        "empty a file that it opens to read",
        "empty a file that it opens for neither",
        "remove the model",
        "open a network connection",
        "open a port",
        "open a socket file",
        "start a program",
    ];
    for denied in denied {
        assert!(printed.contains(&format!("denied: {denied}\n")), "{printed}");
    }
    for read in ["model", "draft model"] {
        assert!(printed.contains(&format!("allowed: read the {read}\n")), "{printed}");
    }
    let kernel_has_landlock =
        std::fs::read_to_string("/proc/kallsyms").is_ok_and(|s| s.contains("landlock_restrict_self"));
    if kernel_has_landlock {
        assert!(printed.contains("denied: read another file\n"), "{printed}");
    }
}
