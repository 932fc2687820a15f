use super::*;
use proptest::prelude::*;

fn refused(grammar: &str, words: &str) {
    let error = to_lark(grammar).unwrap_err().to_string();
    assert!(error.contains(words), "{error}");
}

#[test]
fn a_grammar_without_recursion_becomes_one_lexeme() {
    let lark = to_lark("root ::= \"a\" name? # comment\nname ::= [a-z]{2,3} | .\nunused ::= unused").unwrap();
    let wanted = ["L0: R0", "start: L0", "R0: (\"a\" (R1)?)", "R1: ((/[\\x{61}-\\x{7a}]/){2,3} | /(?s:.)/)", ""];
    assert_eq!(lark, wanted.join("\n"));
}

#[test]
fn regular_parts_of_recursive_rules_become_lexemes_as_large_as_they_get() {
    let lark = to_lark("root ::= \"(\" ws root \")\" | [0-9]+ ws\nws ::= | \" \"").unwrap();
    let wanted = [
        "start: r0",
        "R1: (\"\" | \" \")",
        "L0: (\"(\" R1)",
        "L1: \")\"",
        "L2: (((/[\\x{30}-\\x{39}]/)+ R1))",
        "r0: ((L0 r0 L1) | L2)",
        "",
    ];
    assert_eq!(lark, wanted.join("\n"));
}

#[test]
fn lexemes_that_could_go_on_in_what_follows_fall_into_their_parts() {
    // Where a space follows digits, the longest match cannot know whose space it is.
    let lark = to_lark("root ::= [0-9]+ \" \"* | root \" .\"").unwrap();
    let wanted =
        ["start: r0", "L0: \" .\"", "L1: (/[\\x{30}-\\x{39}]/)+", "L2: \" \"", "r0: ((r0 L0) | ((L1 (L2)*)))", ""];
    assert_eq!(lark, wanted.join("\n"));
    // One lexeme must not hide the end of another that begins alike.
    let lark = to_lark("root ::= \"a\" more | \"abc\" root?\nmore ::= \"bd\" | \"b\" more").unwrap();
    let lexemes: Vec<&str> = lark.lines().filter(|line| line.starts_with('L')).map(|line| &line[4..]).collect();
    assert_eq!(lexemes, ["\"a\"", "\"b\"", "\"c\"", "(\"bd\")"], "{lark}");
}

#[test]
fn what_llama_cpp_would_not_read_is_refused() {
    refused("", "no rule `root`");
    refused("rule ::= \"a\"", "no rule `root`");
    refused("root ::= other", "uses `other`, which is not defined");
    refused("root ::= \"a\"\nroot ::= \"b\"", "defined twice");
    refused("root = \"a\"", "line 1: expected `::=`");
    refused("root ::= \"a\"\n\nother ::= \"b", "line 3: expected the end of what was opened, found the end");
    refused("root ::= [a-z", "expected the end of what was opened");
    refused("root ::= []", "expected a character in `[]`");
    refused("root ::= [z-a]", "is empty");
    refused("root ::= (\"a\"", "expected `)`");
    refused("root ::= \"a\")", "expected a new line after a rule");
    refused("root ::= *", "expected something to repeat");
    refused("root ::= \"a\"{3,2}", "is empty");
    refused("root ::= \"a\"{9999}", "more than 2000 times");
    refused("root ::= \"a\"{x}", "expected a number");
    refused("root ::= \"\\q\"", "is no escape");
    refused("root ::= \"\\xZZ\"", "expected 2 hexadecimal digits");
    refused("root ::= \"\\uD800\"", "is no character");
    refused("root ::= <[1000]>", "tokens cannot be named");
    refused("root ::= !<think>", "tokens cannot be named");
    refused(&format!("root ::= {}\"a\"{}", "(".repeat(100), ")".repeat(100)), "nested more than");
    let chain: String = (0..2000).map(|rule| format!("r{rule} ::= r{}\n", rule + 1)).collect();
    refused(&format!("root ::= r0\n{chain}r2000 ::= \"a\""), "follow one from another");
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(
        text in proptest::collection::vec(
            prop_oneof![
                Just("root ::= "), Just("\n"), Just("root"), Just("a"), Just(" "), Just("("), Just(")"), Just("["), Just("]"),
                Just("^"), Just("-"), Just("\""), Just("\\"), Just("x41"), Just("|"), Just("*"), Just("{"), Just("}"),
                Just("2"), Just(","), Just("."), Just("#"), Just("é"), Just("<"), Just("\r"), Just("\u{2028}"),
            ],
            0..40,
        ),
    ) {
        let _ = to_lark(&text.concat());
        let _ = to_lark(&format!("root ::= {}", text.concat()));
    }
}
