//! Every kind of grammar as one that llguidance reads.

use allerac_engine_core::{Grammar, TokenId, TokenMask};
use llguidance::JsonCompileOptions;
use llguidance::api::TopLevelGrammar;
use llguidance::derivre::RegexBuilder;
use serde_json::{Deserializer, Value};

use crate::error::GrammarError;
use crate::gbnf;
use crate::vocabulary::Vocabulary;

/// White space between the parts of JSON: one space, or a new line and its indentation. Unbounded, a small model
/// that has lost its way writes white space until its tokens are used up.
const WHITE_SPACE: &str = r"\x20|\n\x20{0,20}";

/// The sum of the divisors in a schema, their digits read as whole numbers (0.25 is 25). A divisor is compiled to
/// as many states, at microseconds and a kilobyte each, which no limit of llguidance counts.
const DIVISORS_MAX: u64 = 10_000;

pub(crate) fn translate(grammar: &Grammar, vocabulary: &Vocabulary) -> Result<TopLevelGrammar, GrammarError> {
    match grammar {
        Grammar::JsonSchema(schema) => json_schema(schema),
        Grammar::Regex(regex) => {
            // The translation below drops what is no regular expression instead of refusing it.
            RegexBuilder::new().mk_regex(regex).map_err(|error| GrammarError::from_library(&error))?;
            Ok(TopLevelGrammar::from_regex(regex))
        }
        Grammar::Choice(choices) => Ok(TopLevelGrammar::from_lark(choice(choices))),
        Grammar::Gbnf(text) => gbnf::to_lark(text).map(TopLevelGrammar::from_lark),
        Grammar::Lark(text) => lark(text),
        Grammar::Words { lark: text, words } => lark(&format!("{text}\n{}", rules(words, vocabulary))),
    }
}

/// The rules that grammars of words may refer to. Text has no word in it, not even the name of a control token in
/// letters: whoever reads the answer could not tell them apart.
fn rules(words: &[String], vocabulary: &Vocabulary) -> String {
    let quoted = |word: &String| Value::from(word.as_str()).to_string();
    let forbidden: Vec<String> = words.iter().map(quoted).collect();
    let free = match forbidden.as_slice() {
        [] => "/(?s:.*)/".to_owned(),
        words => format!("/(?s:.*)/ & ~(/(?s:.*)/ ({}) /(?s:.*)/)", words.join(" | ")),
    };
    let mut rules = format!("FREE: {free}\nTEXT: FREE & /(?s:.+)/\ntext: TEXT?\n");
    for (index, word) in words.iter().enumerate() {
        let rule = match vocabulary.control(word) {
            Some(TokenId(id)) => format!("word_{index}: <[{id}]>\nuntil_{index}: text <[{id}]>\n"),
            None => {
                let word = quoted(word);
                format!("word_{index}: {word}\nuntil_{index}[lazy]: FREE {word}\n")
            }
        };
        rules += &rule;
    }
    rules
}

/// The control tokens that a grammar names.
pub(crate) fn named(grammar: &Grammar, vocabulary: &Vocabulary) -> TokenMask {
    match grammar {
        Grammar::Words { words, .. } => words.iter().filter_map(|word| vocabulary.control(word)).collect(),
        _ => TokenMask::default(),
    }
}

fn json_schema(schema: &str) -> Result<TopLevelGrammar, GrammarError> {
    let mut schema: Value = serde_json::from_str(schema).map_err(|error| GrammarError::from_library(&error))?;
    if !schema.is_object() {
        return Err(GrammarError::Wrong("a schema is an object".to_owned()));
    }
    check_divisors(divisors(&schema))?;
    // The options stand in the schema; a client's own, under this name, are replaced.
    JsonCompileOptions { whitespace_pattern: Some(WHITE_SPACE.to_owned()), ..JsonCompileOptions::default() }
        .apply_to(&mut schema);
    Ok(TopLevelGrammar::from_json_schema(schema))
}

fn choice(choices: &[String]) -> String {
    // A Lark string is written as in JSON.
    let quoted: Vec<String> = choices.iter().map(|choice| Value::from(choice.as_str()).to_string()).collect();
    format!("start: CHOICE\nCHOICE: {}\n", quoted.join(" | "))
}

/// Lark may have schemas in it.
fn lark(text: &str) -> Result<TopLevelGrammar, GrammarError> {
    let after = text.match_indices("%json").map(|(index, keyword)| &text[index + keyword.len()..]);
    let schemas = after.filter_map(|rest| Deserializer::from_str(rest).into_iter::<Value>().next()?.ok());
    check_divisors(schemas.map(|schema| divisors(&schema)).fold(0, u64::saturating_add))?;
    Ok(TopLevelGrammar::from_lark(text.to_owned()))
}

fn check_divisors(sum: u64) -> Result<(), GrammarError> {
    if sum <= DIVISORS_MAX {
        return Ok(());
    }
    Err(GrammarError::Wrong(format!("multipleOf is supported up to {DIVISORS_MAX}, all divisors together")))
}

fn divisors(schema: &Value) -> u64 {
    match schema {
        Value::Array(values) => values.iter().map(divisors).fold(0, u64::saturating_add),
        Value::Object(map) => {
            let own = map.get("multipleOf").filter(|divisor| divisor.is_number()).map_or(0, digits);
            map.values().map(divisors).fold(own, u64::saturating_add)
        }
        _ => 0,
    }
}

/// The digits of a number before its exponent.
fn digits(number: &Value) -> u64 {
    let text = number.to_string();
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let digits = mantissa.chars().filter_map(|character| character.to_digit(10));
    digits.fold(0u64, |number, digit| number.saturating_mul(10).saturating_add(digit.into()))
}
