//! Guesses change the speed of answers and nothing else.

use allerac_engine_link::protocol::PromptInput;

use crate::support::{Answer, Worker, greedy, model};

#[test]
fn guesses_save_steps_and_change_no_token() {
    let passage = "The lighthouse keeper climbed the spiral stairs every evening. He carried a brass lamp and a book. ";
    let answer = |more: &[&str]| {
        let (mut worker, _) = Worker::start_with(&model(), more).until_ready();
        let prompt = worker.prepare(PromptInput::Text(passage.repeat(6))).unwrap();
        worker.send(&greedy(7, prompt, 120));
        worker.collect(1).remove(&7).unwrap()
    };
    let (guessed, plain) = (answer(&[]), answer(&["--no-speculation"]));
    assert_eq!(guessed.tokens, plain.tokens);
    assert_eq!(plain.chunks, plain.tokens.len());
    assert!(guessed.chunks < plain.chunks, "{} steps instead of {}", guessed.chunks, plain.chunks);
}

/// What the worker answers greedily, one token a chunk where nothing was guessed. Flash attention computes a token alone
/// as it does among guesses.
fn answer_with(more: &[&str]) -> Answer {
    let more = [&["--flash-attention", "on", "--threads", "1"], more].concat();
    let (mut worker, _) = Worker::spawn(&model(), &more).until_ready();
    let prompt = worker.prepare(PromptInput::Text("Water boils at a lower temperature on a mountain".into())).unwrap();
    worker.send(&greedy(7, prompt, 40));
    worker.collect(1).remove(&7).unwrap()
}

#[test]
fn a_draft_model_is_tried_and_changes_no_token() {
    let path = model();
    let (plain, drafted) =
        (answer_with(&["--no-speculation"]), answer_with(&["--draft-model", path.to_str().unwrap()]));
    assert_eq!(drafted.tokens, plain.tokens);
    // One step is measured, in one the draft model reads the prompt, then it guesses three tokens, and rightly.
    assert_eq!(drafted.sizes[..4], [1, 1, 1, 4]);
}

#[test]
fn without_its_draft_model_a_model_answers_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let damaged = directory.path().join("damaged");
    std::fs::write(&damaged, b"this is no model").unwrap();
    let missing = directory.path().join("missing");
    let plain = answer_with(&["--no-speculation"]);
    for path in [damaged, missing] {
        assert_eq!(answer_with(&["--draft-model", path.to_str().unwrap()]).tokens, plain.tokens);
    }
}
