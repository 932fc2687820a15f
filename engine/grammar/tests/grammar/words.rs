//! Grammars in a model's own words for what is no text.

use allerac_engine_core::{Constraint, Grammar, TokenId};

use crate::writer::{CONTROL, ENDS, begin};

/// Tokens of a text, in which `@` stands for the control token.
fn tokens(text: &str) -> impl Iterator<Item = TokenId> {
    text.bytes().map(|byte| if byte == b'@' { CONTROL } else { TokenId(byte.into()) })
}

fn goes_on(constraint: &mut dyn Constraint, text: &str) -> bool {
    tokens(text).all(|token| {
        let may = !constraint.is_complete() && constraint.allowed().unwrap().contains(token);
        if may {
            constraint.accept(token).unwrap();
        }
        may
    })
}

fn accepts(grammar: &Grammar, text: &str) -> bool {
    let mut constraint = begin(grammar);
    goes_on(&mut *constraint, text) && (constraint.is_complete() || constraint.allowed().unwrap().contains(ENDS[0]))
}

fn words(lark: &str, words: &[&str]) -> Grammar {
    Grammar::Words { lark: lark.into(), words: words.iter().copied().map(String::from).collect() }
}

#[test]
fn a_word_is_the_control_token_of_its_name_and_nothing_else() {
    let grammar = words("start: word_0 \"[\" %json {\"type\":\"integer\"} \"]\"", &["[CALL]"]);
    assert!(accepts(&grammar, "@[12]"));
    for text in ["[CALL][12]", "[12]", "@@[12]", "@[12]@", "@[1@2]"] {
        assert!(!accepts(&grammar, text), "{text}");
    }
}

#[test]
fn a_word_that_the_model_has_no_token_for_is_text() {
    let grammar = words("start: word_0 /[0-9]+/ word_1", &["<call>", "</call>"]);
    assert!(accepts(&grammar, "<call>12</call>"));
    for text in ["@12</call>", "12", "<call>12"] {
        assert!(!accepts(&grammar, text), "{text}");
    }
}

#[test]
fn text_is_free_and_without_the_words() {
    let spelled = words("start: text | (until_0 /[0-9]+/ word_1)+ text", &["<call>", "</call>"]);
    let control = words("start: text | (until_0 /[0-9]+/ word_1)+ text", &["[CALL]", "</call>"]);
    for text in ["", "hello <b> </call", "12", "  \n"] {
        assert!(accepts(&spelled, text), "{text:?}");
        assert!(accepts(&control, text), "{text:?}");
    }
    for text in ["<call>1</call>", "so: <call>1</call>\n<call>2</call> done", "<<call>1</call>"] {
        assert!(accepts(&spelled, text), "{text}");
        assert!(accepts(&control, &text.replace("<call>", "@")), "{text}");
    }
    for text in ["<call>", "a <call>x</call>", "a</call>", "<call>1</call> </call>", "<call>1"] {
        assert!(!accepts(&spelled, text), "{text}");
        assert!(!accepts(&control, &text.replace("<call>", "@")), "{text}");
    }
    assert!(!accepts(&spelled, "@"), "a control token that no word names");
    assert!(!accepts(&control, "so: [CALL]"), "the name of one in letters");
}

#[test]
fn what_a_word_forces_is_guessed_up_to_the_next_control_token() {
    let spelled = words("start: word_0 \"{\\\"name\\\": \" /[a-z]+/", &["<call>"]);
    assert!(begin(&spelled).forced().starts_with(&tokens("<call>{\"nam").collect::<Vec<_>>()));
    let control = words("start: \"ab\" word_0 \"cd\"", &["[CALL]"]);
    let mut constraint = begin(&control);
    assert_eq!(constraint.forced(), tokens("ab").collect::<Vec<_>>());
    assert!(goes_on(&mut *constraint, "ab@cd"));
    assert!(constraint.is_complete());
}
