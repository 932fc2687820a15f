//! Answers that must be of a form.

use allerac_engine_core::{Event, Failure, FinishReason, Grammar, RequestId, TokenId, Usage};
use allerac_engine_link::protocol::{FromEngine, PrepareError, PromptInput, ToEngine};

use crate::support::{Worker, constrained, model};

fn digits() -> Grammar {
    Grammar::Regex("[0-9]{3}-[0-9]{4}".into())
}

#[test]
fn an_answer_keeps_to_its_grammar_and_ends_with_it() {
    let (mut worker, _) = Worker::ready(&model());
    let prompt = worker.check(PromptInput::Text("Call me:".into()), Some(digits())).unwrap();
    worker.send(&constrained(1, prompt.clone(), 40, Some(digits())));
    // One that nobody had compiled beforehand, as after a crash.
    let choices = || ["\"quoted\"\n", "other"].map(String::from);
    worker.send(&constrained(2, prompt.clone(), 40, Some(Grammar::Choice(choices().to_vec()))));
    worker.send(&constrained(3, prompt, 2, Some(digits())));
    let answers = worker.collect(3);
    let phone: Vec<&str> = answers[&1].text.split('-').collect();
    assert_eq!(phone.iter().map(|part| part.len()).collect::<Vec<_>>(), [3, 4], "{:?}", answers[&1]);
    assert!(phone.concat().bytes().all(|byte| byte.is_ascii_digit()));
    assert!(choices().contains(&answers[&2].text), "{:?}", answers[&2]);
    assert_eq!([answers[&1].reason, answers[&2].reason], [Some(FinishReason::Stop); 2]);
    assert_eq!((answers[&3].reason, answers[&3].tokens.len()), (Some(FinishReason::Length), 2));
}

#[test]
fn guesses_change_no_token_of_a_constrained_answer() {
    let schema = r#"{"type":"object","properties":{"first_name":{"type":"string","maxLength":20},
        "family_name":{"type":"string","maxLength":20},"is_lighthouse_keeper":{"type":"boolean"}},
        "required":["first_name","family_name","is_lighthouse_keeper"],"additionalProperties":false}"#;
    let answer = |more: &[&str]| {
        let (mut worker, _) = Worker::start_with(&model(), more).until_ready();
        let prompt = worker.chat("Who kept the lighthouse?");
        worker.send(&constrained(7, prompt, 200, Some(Grammar::JsonSchema(schema.into()))));
        worker.collect(1).remove(&7).unwrap()
    };
    let (guessed, plain) = (answer(&[]), answer(&["--no-speculation"]));
    assert_eq!(guessed.tokens, plain.tokens);
    assert_eq!(plain.reason, Some(FinishReason::Stop));
    let value: serde_json::Value = serde_json::from_str(&plain.text).unwrap();
    assert!(value["is_lighthouse_keeper"].is_boolean());
    assert!(guessed.chunks < plain.chunks, "{} steps instead of {}", guessed.chunks, plain.chunks);
}

#[test]
fn what_is_no_grammar_is_refused_before_anything_else() {
    let (mut worker, _) = Worker::ready(&model());
    let bad = Grammar::JsonSchema(r#"{"type":"nonsense"}"#.into());
    let refused = worker.check(PromptInput::Text("x".into()), Some(bad.clone()));
    assert_eq!(refused, Err(PrepareError::Grammar("Invalid type: nonsense".into())));
    worker.send(&constrained(1, vec![TokenId(28)], 4, Some(bad)));
    let Some(FromEngine::Event(Event::Failed { failure, .. })) = worker.receive() else { panic!("it is answered") };
    assert_eq!(failure, Failure::Constraint("Invalid type: nonsense".into()));
}

#[test]
fn a_request_can_be_cancelled_while_its_grammar_is_compiled() {
    let (mut worker, _) = Worker::ready(&model());
    // The first grammar waits for the vocabulary's trees.
    worker.send(&constrained(1, vec![TokenId(28)], 400, Some(digits())));
    worker.send(&ToEngine::Cancel(RequestId(1)));
    let cancelled = worker.collect(1).remove(&1).unwrap();
    assert_eq!((cancelled.reason, cancelled.usage), (Some(FinishReason::Cancelled), Usage::default()));
    worker.send(&constrained(2, vec![TokenId(28)], 400, Some(digits())));
    assert_eq!(worker.collect(1).remove(&2).unwrap().reason, Some(FinishReason::Stop));
}
