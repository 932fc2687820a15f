//! Grammars that would take forever, or all of the memory.

use allerac_engine_core::Grammar;
use allerac_engine_grammar::GrammarError;

use crate::writer::{begin, compiler, write};

fn wrong(grammar: &Grammar, words: &str) {
    let Err(GrammarError::Wrong(message)) = compiler().check(grammar) else { panic!("it is compiled") };
    assert!(message.contains(words), "{message}");
    assert!(message.len() < 2100, "{} bytes", message.len());
}

fn schema(text: &str) -> Grammar {
    Grammar::JsonSchema(text.into())
}

#[test]
fn what_is_too_large_is_refused() {
    wrong(&schema(r#"{"type":"integer","multipleOf":999983}"#), "multipleOf is supported up to");
    wrong(&schema(r#"{"anyOf":[{"multipleOf":9000},{"items":{"multipleOf":0.9001}}]}"#), "multipleOf is supported");
    let nested = "%llguidance {}\nstart: %json {\"type\":\"integer\",\"multiple\\u004ff\":999983}\n";
    wrong(&Grammar::Lark(nested.into()), "multipleOf is supported");
    let products: Vec<String> = (0..8)
        .map(|i| {
            let options: Vec<String> =
                (0..8).map(|j| format!(r#"{{"type":"object","properties":{{"p{i}_{j}":{{}}}}}}"#)).collect();
            format!(r#"{{"anyOf":[{}]}}"#, options.join(","))
        })
        .collect();
    wrong(&schema(&format!(r#"{{"allOf":[{}]}}"#, products.join(","))), "too large");
    let doubling: String = (0..60).map(|i| format!("A{i}: A{} A{}\n", i + 1, i + 1)).collect();
    wrong(&Grammar::Lark(format!("%llguidance {{}}\nstart: A0\n{doubling}A60: \"z\"\n")), "too big");
    let deep = format!("%llguidance {{}}\nstart: {}\"a\"{}\n", "(".repeat(5000), ")".repeat(5000));
    wrong(&Grammar::Lark(deep), "too deeply nested");
    wrong(&Grammar::Regex(format!("{}a{}", "(".repeat(2000), ")".repeat(2000))), "nest");
    let optional = |count: u32| {
        let properties: Vec<String> = (0..count).map(|index| format!(r#""p{index}":{{}}"#)).collect();
        schema(&format!(r#"{{"type":"object","properties":{{{}}}}}"#, properties.join(",")))
    };
    compiler().check(&optional(480)).unwrap();
    wrong(&optional(1500), "items");
}

#[test]
fn what_refers_to_itself_or_elsewhere_is_refused() {
    wrong(&schema(r##"{"$ref":"#"}"##), "no text");
    wrong(&schema(r##"{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}}"##), "no text");
    wrong(&schema(r##"{"$ref":"#/$defs/none"}"##), "not found");
    wrong(&schema(r#"{"$ref":"http://example.com/schema"}"#), "example.com");
}

#[test]
fn what_cannot_be_kept_to_is_refused_and_not_left_out() {
    wrong(&schema(r#"{"type":"array","uniqueItems":true}"#), "uniqueItems");
    wrong(&schema(r#"{"not":{"type":"string"}}"#), "not");
    wrong(&schema(r#"{"type":"string","format":"nonsense"}"#), "format");
    wrong(&schema(r#"{"oneOf":[{"type":"object"},{"type":"object"}]}"#), "oneOf is not supported for options");
    wrong(&schema(r#"{"type":"string","minLength":5,"maxLength":2}"#), "minLength");
    wrong(&schema("5"), "a schema is an object");
    wrong(&schema("{"), "EOF");
}

#[test]
fn long_repetitions_and_chains_are_followed_without_being_unrolled() {
    let chain: String = (0..3000).map(|i| format!("a{i}: \"x\" a{}\n", i + 1)).collect();
    let chain = Grammar::Lark(format!("%llguidance {{}}\nstart: a0\n{chain}a3000: \"z\"\n"));
    for grammar in [chain, Grammar::Regex("(a{1000}){1000}".into()), Grammar::Regex("(a|b)*a(a|b){100}".into())] {
        write(&mut *begin(&grammar), || 1, true);
    }
}

#[test]
fn a_grammar_that_is_too_ambiguous_fails_its_own_request() {
    let mut constraint = begin(&Grammar::Gbnf("root ::= s\ns ::= s s | \"a\" | [a-z]".into()));
    let letter = allerac_engine_core::TokenId(u32::from(b'a'));
    let failed = (0..5000).find_map(|_| {
        let allowed = constraint.allowed().err();
        allowed.or_else(|| constraint.accept(letter).err())
    });
    let message = failed.expect("it takes ever longer").to_string();
    assert!(message.contains("ambiguous") || message.contains("items"), "{message}");
    // And stays so: there is never a token without a mask.
    assert!(constraint.allowed().is_err());
}
