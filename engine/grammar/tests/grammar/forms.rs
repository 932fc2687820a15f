//! Which texts each form of grammar lets through.

use allerac_engine_core::{Grammar, TokenId};
use allerac_engine_grammar::GrammarError;

use crate::writer::{ENDS, accepts, begin, compiler};

/// JSON, its strings without escapes of numbers.
const JSON: &str = r#"
root ::= object
value ::= object | list | (text | number | "null" | "true" | "false") space
object ::= "{" space (pair ("," space pair)*)? "}" space
pair ::= text space ":" space value
list ::= "[" space (value ("," space value)*)? "]" space
text ::= "\"" ([^"\\\x00-\x1F] | "\\" ["\\/bfnrt])* "\""
number ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)? ([eE] [-+]? [0-9]+)?
space ::= | " " | "\n" [ ]{0,20}
"#;

fn table(grammar: &Grammar, within: &[&str], without: &[&str]) {
    for text in within {
        assert!(accepts(grammar, text), "{text:?} is in {grammar:?}");
    }
    for text in without {
        assert!(!accepts(grammar, text), "{text:?} is not in {grammar:?}");
    }
}

fn wrong(grammar: &Grammar, words: &str) {
    let Err(GrammarError::Wrong(message)) = compiler().check(grammar) else { panic!("{grammar:?} is compiled") };
    assert!(message.contains(words), "{message}");
}

#[test]
fn a_regular_expression_is_the_whole_answer() {
    let phone = Grammar::Regex("[0-9]{3}-[0-9]{4}".into());
    table(&phone, &["555-1234"], &["", "555", "555-12345", " 555-1234", "555-123x"]);
    table(&Grammar::Regex(r"^(a/b|\w+)\n$".into()), &["a/b\n", "Größe\n"], &["a/b", "a b\n"]);
    wrong(&Grammar::Regex("(a".into()), "unclosed group");
    wrong(&Grammar::Regex("a\\".into()), "incomplete escape");
    wrong(&Grammar::Regex("(?=a)b".into()), "look-around");
}

#[test]
fn a_choice_is_one_of_its_strings() {
    let choices = ["red", "redder", "a \"quoted\" \\ line\n", "größer"];
    let grammar = Grammar::Choice(choices.map(String::from).to_vec());
    table(&grammar, &choices, &["", "r", "redd", "green", "a \"quoted\""]);
    // Nothing can follow, so nothing more is asked of the model.
    let mut only = begin(&Grammar::Choice(vec!["ab".into()]));
    assert_eq!(only.forced(), [TokenId(97), TokenId(98)]);
    only.accept(TokenId(97)).unwrap();
    assert!(!only.is_complete());
    only.accept(TokenId(98)).unwrap();
    assert!(only.is_complete());
    // After `red` the model decides whether it goes on.
    let mut open = begin(&grammar);
    for byte in b"red" {
        open.accept(TokenId((*byte).into())).unwrap();
    }
    let allowed = open.allowed().unwrap();
    assert!(allowed.contains(ENDS[0]) && allowed.contains(ENDS[1]) && allowed.contains(TokenId(u32::from(b'd'))));
}

#[test]
fn grammars_of_llama_cpp_mean_what_they_mean_there() {
    let equations = Grammar::Gbnf(
        "root ::= (side \"=\" blank side \"\\n\")+ # one a line\nside ::= item ([-+*/] blank item)*\n\
         item ::= number | name | \"(\" blank side \")\" blank\nnumber ::= [0-9]{1,9} blank\n\
         name ::= [a-z] ([a-z] | [0-9])* blank\nblank ::= [ \\t\\n]*"
            .into(),
    );
    table(&equations, &["1=1\n", "(a + 2)*b3 = 3\nx=y\n", "((1))=1\n"], &["", "1=1", "(1=1\n", "1++1=2\n"]);
    let lists = Grammar::Gbnf("root ::= item{2,3}\nitem ::= \"- \" [^\\r\\n\\u2028]+ \"\\n\"".into());
    table(&lists, &["- a\n- größe\n", "- 1\n- 2\n- 3\n"], &["- a\n", "- a\n- \n", "- 1\n- 2\n- 3\n- 4\n"]);
    let characters = Grammar::Gbnf(r#"root ::= [\x41-\x43\]] "\u00e9\U0001F600\t\"" [^a-z-]? ."#.into());
    table(&characters, &["Bé😀\t\"?", "]é😀\t\"?\n"], &["Dé😀\t\"?", "Bé😀\t\"-?", "Bé😀\t\""]);
    let json = Grammar::Gbnf(JSON.into());
    table(&json, &["{}", "{\"a\": [1, {\"b\":\nnull}]}", "{\"\\né\":-1.5e3} "], &["[]", "{a:1}", "{\"a\": 01}"]);
    // Where the longest match would be wrong.
    let hidden = Grammar::Gbnf("root ::= \"a\" more | \"abc\" root?\nmore ::= \"bd\" | \"b\" more".into());
    table(&hidden, &["abd", "abbbd", "abc", "abcabd"], &["ab", "abbc", "abdx"]);
    let spaces = Grammar::Gbnf("root ::= \"-\" root? [ ]* \" x\" | \"y\" [ ]* root?".into());
    table(&spaces, &["- x", "-    x", "--  x x", "-y x", "y  y"], &["-x", "- ", "-y"]);
    let empty = Grammar::Gbnf("root ::= \"\" | \"a\" root?".into());
    table(&empty, &["", "aaa"], &["b"]);
    wrong(&Grammar::Gbnf("root ::= a \"x\"\na ::= a \"x\"".into()), "no text satisfies the rule `root`");
}

#[test]
fn lark_is_as_llguidance_has_it() {
    let lark = Grammar::Lark("%llguidance {}\nstart: \"a\" NAME\nNAME: /[a-z]{2}/\n".into());
    table(&lark, &["abc"], &["a", "abcd", "Abc"]);
    let nested = Grammar::Lark("%llguidance {}\nstart: \"x=\" %json {\"type\":\"integer\"}\n".into());
    table(&nested, &["x=5", "x=-12"], &["x=", "x=1.5", "5"]);
    wrong(&Grammar::Lark("%llguidance {}\nstart: a\n".into()), "unknown name: \"a\"");
    // No token that ends a turn or stands for no text, by whatever name.
    for token in ["<[256]>", "<[258]>", "<|im_end|>"] {
        let grammar = Grammar::Lark(format!("%llguidance {{}}\nstart: \"a\" {token} \"b\"\n"));
        assert!(compiler().check(&grammar).is_err(), "{token}");
    }
}

#[test]
fn json_ends_with_its_last_bracket_and_its_white_space_is_bounded() {
    let object = Grammar::JsonSchema(r#"{"type":"object"}"#.into());
    table(&object, &["{}", "{\n  \"a\": [1, null]\n}", "{ \"a\" : {} }"], &["[]", " {}", "{} ", "{  }", "{\n\n}"]);
    let indented = |spaces: usize| format!("{{\n{}}}", " ".repeat(spaces));
    table(&object, &[&indented(20)], &[&indented(21)]);
    let own = Grammar::JsonSchema(r#"{"type":"object","x-guidance":{"whitespace_pattern":"x"}}"#.into());
    table(&own, &["{ }"], &["{x}"]);
}
