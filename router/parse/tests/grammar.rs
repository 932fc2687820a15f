//! Answers that are written within the grammars of all dialects, by a model without any sense, are read as calls
//! whose arguments are what the tools' schemas ask for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use allerac_engine_core::{Grammar, TokenId};
use allerac_engine_grammar::{Compiler, GrammarError, Vocabulary};
use allerac_parse::{Dialect, Parser, Piece, grammar};
use allerac_wire::{Form, FreeText, Tool, ToolChoice, Tools};
use serde_json::{Value, json};

/// Ends a turn; behind the bytes.
const END: TokenId = TokenId(256);
/// The first control token.
const CONTROL: u32 = 257;
/// Words that are control tokens of some models.
const WORDS: &[&str] = &[
    "[TOOL_CALLS]",
    "[ARGS]",
    "[THINK]",
    "[/THINK]",
    "<|channel|>",
    "<|message|>",
    "<|end|>",
    "<|start|>",
    "<|constrain|>",
    "<|START_ACTION|>",
    "<|END_ACTION|>",
    "<|START_THINKING|>",
    "<|END_THINKING|>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
    "<|tool_call|>",
    "<|/tool_call|>",
    "<|python_tag|>",
    "<tool_call>",
    "</tool_call>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "<think>",
    "</think>",
];

/// A model whose words are control tokens, or one that spells them.
fn compiler(words: &[&str]) -> Compiler {
    let mut pieces: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
    pieces.resize(CONTROL as usize + words.len(), Vec::new());
    let names = (CONTROL..).map(TokenId).zip(words.iter().map(|word| word.as_bytes().to_vec()));
    let bytes = |text: &str| text.bytes().map(|byte| TokenId(byte.into())).collect();
    Compiler::new(Vocabulary::new(pieces, vec![END], names, bytes)).unwrap()
}

/// A small generator of numbers that only look random.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % bound
    }
}

/// Writes an answer, the end of what was begun preferred; `None` where it does not come to its end.
fn write(compiler: &mut Compiler, words: &[&str], grammar: &Grammar, random: &mut Random) -> Option<String> {
    let mut constraint = compiler.begin(grammar).unwrap();
    let mut text = Vec::new();
    // A word that is being spelled, its last letter first.
    let mut spelled: Vec<u8> = Vec::new();
    for _ in 0..4000 {
        let allowed: Vec<TokenId> = constraint.allowed().unwrap().iter().collect();
        let ends =
            |token: &TokenId| token.0 >= 256 || matches!(u8::try_from(token.0), Ok(b'"' | b'{' | b'}' | b']' | b'<'));
        let near: Vec<TokenId> = allowed.iter().copied().filter(ends).collect();
        let from = if near.is_empty() || random.below(4) == 0 { &allowed } else { &near };
        let any = from[random.below(from.len())];
        if spelled.is_empty() && random.below(6) == 0 {
            let Grammar::Words { words, .. } = grammar else { panic!("{grammar:?}") };
            spelled =
                words.get(random.below(words.len().max(1))).map_or_else(Vec::new, |word| word.bytes().rev().collect());
        }
        let letter = spelled.pop().map(|letter| TokenId(letter.into())).filter(|letter| allowed.contains(letter));
        if letter.is_none() {
            spelled.clear();
        }
        let token = letter.unwrap_or(any);
        if token == END {
            return Some(String::from_utf8(text).unwrap());
        }
        match u8::try_from(token.0) {
            Ok(byte) => text.push(byte),
            Err(_) => text.extend_from_slice(words[(token.0 - CONTROL) as usize].as_bytes()),
        }
        constraint.accept(token).unwrap();
        if constraint.is_complete() {
            return Some(String::from_utf8(text).unwrap());
        }
    }
    None
}

/// What an answer says, thinks and calls.
#[derive(Debug, Default)]
struct Answer {
    text: String,
    thought: String,
    calls: Vec<(String, Value)>,
}

fn read(dialect: Dialect, tools: &Tools, in_thought: bool, text: &str) -> Answer {
    let mut parser = Parser::new(dialect, true, in_thought).with_tools(&tools.list);
    let mut pieces = parser.push(text);
    pieces.extend(parser.finish());
    let mut answer = Answer::default();
    let mut calls: Vec<(String, String)> = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => answer.text += &text,
            Piece::Reasoning(text) => answer.thought += &text,
            Piece::Call { index, name, .. } => {
                assert_eq!(index as usize, calls.len());
                calls.push((name, String::new()));
            }
            Piece::Arguments { index, json } => calls[index as usize].1 += &json,
        }
    }
    answer.calls = calls.into_iter().map(|(name, json)| (name, serde_json::from_str(&json).unwrap())).collect();
    answer
}

fn tool(name: &str, strict: bool, parameters: Value) -> Tool {
    Tool { name: name.into(), description: None, parameters, strict, text: None, namespace: None }
}

fn tools(choice: ToolChoice, parallel: bool, strict: bool) -> Tools {
    let weather = json!({"type": "object", "properties":
        {"city": {"type": "string", "maxLength": 9}, "unit": {"enum": ["C", "F"]}}, "required": ["city"]});
    let time = json!({"properties": {"zone": {"$ref": "#/$defs/zone"}}, "required": ["zone"],
        "$defs": {"zone": {"type": "integer", "minimum": -12, "maximum": 14}}});
    let list = vec![tool("get_weather", strict, weather), tool("time.now", strict, time)];
    Tools { list, choice, parallel: Some(parallel) }
}

/// Whether a call is what its schema asks for.
fn is_valid((name, arguments): &(String, Value)) -> bool {
    let keys: Vec<&str> = arguments.as_object().unwrap().keys().map(String::as_str).collect();
    match name.as_str() {
        "get_weather" => {
            let city = arguments["city"].as_str().is_some_and(|city| city.chars().count() <= 9);
            city && (keys == ["city"]
                || (keys == ["city", "unit"] && ["C", "F"].contains(&arguments["unit"].as_str().unwrap())))
        }
        "time.now" => {
            keys == ["zone"]
                && arguments["zone"].as_f64().is_some_and(|zone| (-12.0..=14.0).contains(&zone) && zone.fract() == 0.0)
        }
        _ => false,
    }
}

/// Answers of a dialect within a grammar, by models with and without tokens for its words.
fn answers(dialect: Dialect, tools: &Tools, form: Option<&Form>, in_thought: bool, seeds: u64) -> Vec<Answer> {
    let format = grammar(dialect, tools, form, in_thought).unwrap();
    let grammar = Grammar::Words { lark: format.lark, words: format.words };
    let mut all = Vec::new();
    for words in [WORDS, &[]] {
        let mut compiler = compiler(words);
        compiler.check(&grammar).unwrap_or_else(|error| panic!("{dialect:?}: {error}\n{grammar:?}"));
        let written = (1..=seeds).filter_map(|seed| write(&mut compiler, words, &grammar, &mut Random(seed * 7919)));
        let before = all.len();
        all.extend(written.map(|text| read(dialect, tools, in_thought, &text)));
        assert!(all.len() >= before + usize::try_from(seeds).unwrap() / 2, "{dialect:?} seldom ends");
    }
    all
}

fn dialects() -> impl Iterator<Item = Dialect> {
    Dialect::ALL.into_iter().filter(|dialect| *dialect != Dialect::Plain)
}

#[test]
fn a_forced_call_is_a_call_of_what_was_offered() {
    for dialect in dialects() {
        for answer in answers(dialect, &tools(ToolChoice::Required, false, false), None, false, 8) {
            assert_eq!((answer.calls.len(), answer.text.as_str()), (1, ""), "{dialect:?} {answer:?}");
            assert!(is_valid(&answer.calls[0]), "{dialect:?} {answer:?}");
        }
        let named = tools(ToolChoice::Named("time.now".into()), true, false);
        for answer in answers(dialect, &named, Some(&Form::JsonObject), false, 4) {
            assert_eq!(answer.calls.len(), 1, "{dialect:?}");
            assert!(answer.calls[0].0 == "time.now" && is_valid(&answer.calls[0]), "{dialect:?} {answer:?}");
        }
    }
}

/// Tools whose parameters can be marked up one by one.
fn plain_tools(choice: ToolChoice) -> Tools {
    let parameters = json!({"type": "object", "properties": {
        "text": {"type": "string"}, "unit": {"enum": ["C", "F"]}, "count": {"type": "integer", "minimum": 3},
        "zone": {"$ref": "#/$defs/zone"}, "note": {"type": ["string", "null"]}},
        "required": ["text", "count"], "$defs": {"zone": {"type": "object", "properties": {"x": {"type": "boolean"}}}}});
    Tools { list: vec![tool("edit", false, parameters)], choice, parallel: None }
}

#[test]
fn arguments_that_are_marked_up_are_what_their_schemas_ask_for() {
    let tools = plain_tools(ToolChoice::Required);
    for dialect in [Dialect::QwenCoder, Dialect::Glm] {
        let lark = grammar(dialect, &tools, None, false).unwrap().lark;
        assert!(!lark.contains("\"arguments\""), "{dialect:?} writes JSON: {lark}");
        let mut seen = std::collections::BTreeSet::new();
        for answer in answers(dialect, &tools, None, false, 32) {
            for (name, given) in &answer.calls {
                assert_eq!((name.as_str(), answer.text.as_str()), ("edit", ""), "{dialect:?} {answer:?}");
                assert!(given["text"].is_string() && given["count"].as_f64().unwrap() >= 3.0, "{dialect:?} {given}");
                seen.extend(given.as_object().unwrap().keys().cloned());
                for (key, value) in given.as_object().unwrap() {
                    let is_right = match key.as_str() {
                        "unit" => value == "C" || value == "F",
                        "zone" => {
                            value.as_object().unwrap().iter().all(|(key, value)| key == "x" && value.is_boolean())
                        }
                        "note" => value.is_string() || value.is_null(),
                        other => ["text", "count"].contains(&other),
                    };
                    assert!(is_right, "{dialect:?} {given}");
                }
            }
        }
        assert_eq!(seen.len(), 5, "{dialect:?} leaves out what it may write: {seen:?}");
    }
}

#[test]
fn a_custom_tool_is_given_text_of_its_grammar() {
    let lark = "start: \"*** \" word LF \"\\\"\" /[^a]{1,3}/ \"\\\"\"\nword: /[a-z]+/ -> line\n%import common.LF\n";
    let parameters = json!({"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]});
    let text = Some(FreeText { form: Some(Form::Lark(lark.into())) });
    let note = Tool { text, ..tool("note", true, parameters) };
    let tools = Tools { list: vec![note], choice: ToolChoice::Named("note".into()), parallel: None };
    for dialect in dialects() {
        for answer in answers(dialect, &tools, None, false, 6) {
            let [(name, given)] = answer.calls.as_slice() else { panic!("{dialect:?} {answer:?}") };
            let text = given["input"].as_str().unwrap();
            let (first, second) = text.split_once('\n').unwrap();
            assert!(name == "note" && first.len() > 4 && first.starts_with("*** "), "{dialect:?} {text}");
            let quoted = second.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap();
            assert!((1..=3).contains(&quoted.chars().count()) && !quoted.contains('a'), "{dialect:?} {text}");
        }
    }
}

#[test]
fn several_calls_are_several_where_a_dialect_has_them() {
    for dialect in dialects() {
        let answers = answers(dialect, &tools(ToolChoice::Required, true, false), None, false, 16);
        assert!(
            answers.iter().all(|answer| answer.calls.iter().all(is_valid) && answer.text.is_empty()),
            "{dialect:?}"
        );
        let most = answers.iter().map(|answer| answer.calls.len()).max();
        let has_one = matches!(dialect, Dialect::Llama3 | Dialect::Harmony);
        assert!(if has_one { most == Some(1) } else { (2..=8).contains(&most.unwrap()) }, "{dialect:?} {most:?}");
    }
}

#[test]
fn a_thought_comes_before_a_call() {
    for dialect in dialects().filter(|dialect| dialect.has_thoughts()) {
        let answers = answers(dialect, &tools(ToolChoice::Required, false, false), None, true, 8);
        assert!(answers.iter().all(|answer| answer.calls.len() == 1 && answer.text.is_empty()), "{dialect:?}");
        assert!(answers.iter().any(|answer| !answer.thought.is_empty()), "{dialect:?}");
    }
}

#[test]
fn a_strict_tool_is_called_by_its_schema_or_not_at_all() {
    for dialect in dialects() {
        assert_eq!(grammar(dialect, &tools(ToolChoice::Auto, true, false), None, false), None);
        let answers = answers(dialect, &tools(ToolChoice::Auto, true, true), None, false, 24);
        assert!(answers.iter().all(|answer| answer.calls.iter().all(is_valid)), "{dialect:?}");
        assert!(answers.iter().any(|answer| answer.calls.is_empty()), "{dialect:?} says nothing");
        assert!(answers.iter().any(|answer| !answer.calls.is_empty()), "{dialect:?} calls nothing");
    }
}

#[test]
fn an_answer_is_of_its_form_or_a_call() {
    let form = Form::JsonSchema(r#"{"enum": ["red", 7]}"#.into());
    let choice = Form::Choice(vec!["yes".into(), "no/maybe".into()]);
    let regex = Form::Regex("[0-9]{3}/x".into());
    for dialect in dialects() {
        for answer in answers(dialect, &tools(ToolChoice::Auto, false, false), Some(&form), false, 16) {
            match answer.calls.as_slice() {
                [] => assert!(["\"red\"", "7"].contains(&answer.text.as_str()), "{dialect:?} {answer:?}"),
                [call] => assert!(is_valid(call) && answer.text.is_empty(), "{dialect:?} {answer:?}"),
                _ => panic!("{dialect:?} {answer:?}"),
            }
        }
    }
    for dialect in dialects().filter(|dialect| dialect.has_thoughts()) {
        for answer in answers(dialect, &Tools::default(), Some(&choice), true, 4) {
            assert!(["yes", "no/maybe"].contains(&answer.text.as_str()), "{dialect:?} {answer:?}");
        }
        for answer in answers(dialect, &Tools::default(), Some(&regex), true, 4) {
            assert!(answer.text.len() == 5 && answer.text.ends_with("/x"), "{dialect:?} {answer:?}");
        }
    }
}

#[test]
fn what_nothing_limits_has_no_grammar() {
    let any = tools(ToolChoice::Auto, true, false);
    assert_eq!(grammar(Dialect::Hermes, &any, None, true), None);
    assert_eq!(grammar(Dialect::Hermes, &Tools::default(), Some(&Form::JsonObject), false), None);
    assert_eq!(grammar(Dialect::Hermes, &any, Some(&Form::Lark("start: \"a\"".into())), true), None);
    assert_eq!(grammar(Dialect::Plain, &tools(ToolChoice::Required, true, true), None, false), None);
    assert_eq!(grammar(Dialect::Hermes, &tools(ToolChoice::None, true, true), None, false), None);
}

#[test]
fn a_schema_that_cannot_be_kept_to_is_refused() {
    let list = vec![tool("f", false, json!({"type": "object", "properties": {"x": {"not": {}}}}))];
    let bad = Tools { list, choice: ToolChoice::Required, parallel: None };
    let format = grammar(Dialect::Hermes, &bad, None, false).unwrap();
    let grammar = Grammar::Words { lark: format.lark, words: format.words };
    let Err(GrammarError::Wrong(message)) = compiler(&[]).check(&grammar) else { panic!("it is compiled") };
    assert!(message.contains("not"), "{message}");
}
