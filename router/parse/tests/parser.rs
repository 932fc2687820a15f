//! What each dialect's answers are read as.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use allerac_parse::{Dialect, Parser, Piece};
use allerac_wire::Tool;
use proptest::prelude::*;
use serde_json::json;

/// Concatenates what belongs together.
fn joined(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut all: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (all.last_mut(), piece) {
            (Some(Piece::Text(text)), Piece::Text(more)) | (Some(Piece::Reasoning(text)), Piece::Reasoning(more)) => {
                text.push_str(&more);
            }
            (Some(Piece::Arguments { index, json }), Piece::Arguments { index: other, json: more })
                if *index == other =>
            {
                json.push_str(&more);
            }
            (_, piece) => all.push(piece),
        }
    }
    all
}

/// Reads an answer that comes in these parts.
fn read(dialect: Dialect, calls: bool, thinking: bool, parts: &[&str]) -> Vec<Piece> {
    let mut parser = Parser::new(dialect, calls, thinking);
    let mut pieces: Vec<Piece> = parts.iter().flat_map(|part| parser.push(part)).collect();
    pieces.extend(parser.finish());
    joined(pieces)
}

fn text(text: &str) -> Piece {
    Piece::Text(text.into())
}

fn thought(text: &str) -> Piece {
    Piece::Reasoning(text.into())
}

fn call(index: u32, name: &str, json: &str) -> [Piece; 2] {
    named(index, None, name, json)
}

fn named(index: u32, id: Option<&str>, name: &str, json: &str) -> [Piece; 2] {
    [Piece::Call { index, id: id.map(str::to_owned), name: name.into() }, Piece::Arguments { index, json: json.into() }]
}

/// An answer with calls is read as these pieces, as a whole and letter by letter.
fn check(dialect: Dialect, answer: &str, wanted: &[&[Piece]]) {
    let letters: Vec<String> = answer.chars().map(String::from).collect();
    let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
    assert_eq!(read(dialect, true, false, &[answer]), wanted.concat(), "{dialect:?} {answer}");
    assert_eq!(read(dialect, true, false, &letters), wanted.concat(), "{dialect:?} {answer}, by letters");
}

#[test]
fn hermes() {
    let one = "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern }\"}}\n</tool_call>";
    let bern = call(0, "weather", "{\"city\": \"Bern }\"}");
    check(Dialect::Hermes, one, &[&bern]);
    check(Dialect::Hermes, &format!(" Let me see.\n\n{one}\n"), &[&[text(" Let me see.")], &bern]);
    check(Dialect::Hermes, &format!("<think>\nhm\n</think>\n\n{one}"), &[&[thought("hm")], &bern]);
    check(Dialect::Hermes, "<think>\n\n</think>\n\nHi <b>", &[&[text("Hi <b>")]]);
    let two = format!("{one}\n{}", one.replace("weather", "time"));
    check(Dialect::Hermes, &two, &[&bern, &call(1, "time", "{\"city\": \"Bern }\"}")]);
    // A list in one block, as SmolLM2 writes it, and arguments in a string.
    let list = r#"<tool_call>[{"name": "a", "arguments": {}}, {"name": "b", "arguments": "{\"x\": \"\u00e9\"}"}]</tool_call> ok"#;
    check(Dialect::Hermes, list, &[&call(0, "a", "{}"), &call(1, "b", r#"{"x": "é"}"#), &[text("ok")]]);
    let turned = r#"<tool_call>{"arguments": {"x": [1]}, "name": "a"}</tool_call>"#;
    check(Dialect::Hermes, turned, &[&call(0, "a", r#"{"x": [1]}"#)]);
    check(Dialect::Hermes, r#"<tool_call>{"name": "a"}</tool_call>"#, &[&call(0, "a", "{}")]);
    check(Dialect::Hermes, r#"<tool_call>{"name": "a", "arguments": null}</tool_call>"#, &[&call(0, "a", "{}")]);
    // Cut in its arguments.
    check(Dialect::Hermes, r#"<tool_call>{"name": "a", "arguments": {"x": "#, &[&call(0, "a", r#"{"x": "#)]);
    // Never closed, and closed too early.
    check(Dialect::Hermes, r#"<tool_call>{"name": "a", "arguments": {}}"#, &[&call(0, "a", "{}")]);
    let broken = r#"<tool_call>{"name": "a", "arguments": {"x": 1</tool_call> so"#;
    check(Dialect::Hermes, broken, &[&call(0, "a", r#"{"x": 1"#), &[text("</tool_call> so")]]);
}

#[test]
fn what_is_no_call_is_text() {
    for answer in [
        "<tool_call>none</tool_call>",
        "a <tool_call>",
        "a  <tool_cal",
        "x\n\n<tool_call>{\"name\": 5, \"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": \"Bern\"}</tool_call>",
        "<tool_call>{\"name\": \"f\"",
        "<tool_call>[]</tool_call>",
        "<tool_call>{\"arguments\": {}}</tool_call>",
        "  ",
        "",
        "ends with space \n ",
    ] {
        let wanted = if answer.is_empty() { vec![] } else { vec![text(answer)] };
        check(Dialect::Hermes, answer, &[&wanted]);
    }
    let second = "<tool_call>no <tool_call>{\"name\": \"f\", \"arguments\": {}}";
    check(Dialect::Hermes, second, &[&[text("<tool_call>no")], &call(0, "f", "{}")]);
}

#[test]
fn so_much_white_space_was_meant() {
    let called = format!("a{}<tool_call>{{\"name\": \"f\"}}</tool_call>", "\n".repeat(300));
    check(Dialect::Hermes, &called, &[&[text(&format!("a{}", "\n".repeat(44)))], &call(0, "f", "{}")]);
    let late = format!("{}<think>hm</think>", " ".repeat(300));
    check(Dialect::Hermes, &late, &[&[text(&late)]]);
}

#[test]
fn a_call_that_never_names_its_tool_is_text_in_the_end() {
    let endless = format!("<tool_call>{{\"arguments\": {{\"x\": \"{}", "y".repeat(100_000));
    check(Dialect::Hermes, &endless, &[&[text(&endless)]]);
}

#[test]
fn llama_3() {
    let bern = call(0, "weather", r#"{"city": "Bern"}"#);
    check(Dialect::Llama3, r#"{"name": "weather", "parameters": {"city": "Bern"}}"#, &[&bern]);
    check(Dialect::Llama3, r#"<|python_tag|>{"name": "weather", "parameters": {"city": "Bern"}}"#, &[&bern]);
    let typed = "\n\n{\"type\": \"function\", \"name\": \"weather\", \"parameters\": {\"city\": \"Bern\"}}";
    check(Dialect::Llama3, typed, &[&bern]);
    let two = r#"{"name": "a", "parameters": {}}; {"name": "b", "parameters": {}}"#;
    check(Dialect::Llama3, two, &[&call(0, "a", "{}"), &call(1, "b", "{}")]);
    // JSON that is meant as text.
    for answer in [
        r#"{"name": "Anna", "age": 34}"#,
        r#"{"name": "Anna"}"#,
        r#"{"city": "Bern"}"#,
        "{ braces }",
        r#"So: {"name": "weather", "parameters": {}}"#,
    ] {
        check(Dialect::Llama3, answer, &[&[text(answer)]]);
    }
}

#[test]
fn mistral() {
    let list =
        r#"[TOOL_CALLS][{"name": "f", "arguments": {"x": 1}, "id": "123456789"}, {"name": "g", "arguments": {}}]"#;
    check(Dialect::Mistral, list, &[&call(0, "f", r#"{"x": 1}"#), &call(1, "g", "{}")]);
    check(Dialect::Mistral, &list.replacen("][", "] [", 1), &[&call(0, "f", r#"{"x": 1}"#), &call(1, "g", "{}")]);
    let first = r#"[TOOL_CALLS][{"id": "123456789", "name": "f", "arguments": {"x": 1}}]"#;
    check(Dialect::Mistral, first, &[&named(0, Some("123456789"), "f", r#"{"x": 1}"#)]);
    let heads = "Well.[TOOL_CALLS]f[CALL_ID]abcdefghi[ARGS]{\"x\": 1}[TOOL_CALLS]g[ARGS]{}";
    let wanted = [named(0, Some("abcdefghi"), "f", "{\"x\": 1}"), call(1, "g", "{}")].concat();
    check(Dialect::MistralNamed, heads, &[&[text("Well.")], &wanted]);
    check(Dialect::MistralNamed, "[THINK]hm[/THINK]So.", &[&[thought("hm"), text("So.")]]);
    check(Dialect::MistralNamed, "[TOOL_CALLS]no call {}", &[&[text("[TOOL_CALLS]no call {}")]]);
}

#[test]
fn deepseek() {
    let r1 = "hm\n</think>\n\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"x\": 1}\n```\
              <｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{}\n```<｜tool▁call▁end｜>\
              <｜tool▁calls▁end｜>";
    let calls = [call(0, "f", "{\"x\": 1}"), call(1, "g", "{}")].concat();
    check(Dialect::DeepSeek, &format!("<think>{r1}"), &[&[thought("hm")], &calls]);
    assert_eq!(read(Dialect::DeepSeek, true, true, &[r1]), [vec![thought("hm")], calls.clone()].concat());
    let v31 = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"x\": 1}<｜tool▁call▁end｜>\
               <｜tool▁call▁begin｜>g<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    check(Dialect::DeepSeek31, v31, &[&calls]);
    let misspelled = v31.replacen("<｜tool▁calls▁begin｜>", "<｜tool_calls_begin｜>", 1);
    check(Dialect::DeepSeek31, &misspelled, &[&calls]);
    let no_call = "<｜tool▁calls▁begin｜>maybe";
    check(Dialect::DeepSeek, no_call, &[&[text(no_call)]]);
}

#[test]
fn gemma_and_command_r() {
    let block = "Sure:\n```tool_call\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n```";
    check(Dialect::Gemma, block, &[&[text("Sure:")], &call(0, "f", "{\"x\": 1}")]);
    check(Dialect::Gemma, "```python\n{}\n```", &[&[text("```python\n{}\n```")]]);
    let action =
        "Action: ```json\n[\n    {\n        \"tool_name\": \"f\",\n        \"parameters\": {\"x\": 1}\n    }\n]```";
    check(Dialect::CommandR, action, &[&call(0, "f", "{\"x\": 1}")]);
    let a = "<|START_THINKING|>hm<|END_THINKING|><|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": \"f\", \
             \"parameters\": {}},\n    {\"tool_call_id\": \"1\", \"tool_name\": \"g\", \"parameters\": {}}\n]<|END_ACTION|>";
    check(Dialect::CommandA, a, &[&[thought("hm")], &call(0, "f", "{}"), &call(1, "g", "{}")]);
    check(Dialect::CommandA, "<|START_RESPONSE|>Hi.<|END_RESPONSE|>", &[&[text("Hi.")]]);
}

#[test]
fn lists_behind_one_word() {
    let calls = [call(0, "f", "{}"), call(1, "g", "{}")].concat();
    let list = r#"[{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}]"#;
    check(Dialect::Granite, &format!("<|tool_call|>{list}"), &[&calls]);
    check(Dialect::Granite, "<think>hm</think><response>Hi</response>", &[&[thought("hm"), text("Hi")]]);
    check(Dialect::Phi4, &format!("<|tool_call|>{list}<|/tool_call|>"), &[&calls]);
    check(Dialect::Nemotron, &format!("<TOOLCALL>{list}</TOOLCALL>"), &[&calls]);
}

#[test]
fn harmony() {
    let think = "<|channel|>analysis<|message|>hm<|end|>";
    check(
        Dialect::Harmony,
        &format!("{think}<|start|>assistant<|channel|>final<|message|>Hi <b>!"),
        &[&[thought("hm"), text("Hi <b>!")]],
    );
    let bern = call(0, "weather", "{\"city\":\"Bern\"}");
    check(
        Dialect::Harmony,
        &format!(
            "{think}<|start|>assistant<|channel|>commentary to=functions.weather <|constrain|>json<|message|>\
             {{\"city\":\"Bern\"}}<|call|>"
        ),
        &[&[thought("hm")], &bern],
    );
    check(Dialect::Harmony, " to=functions.weather<|channel|>commentary json<|message|>{\"city\":\"Bern\"}", &[&bern]);
    let preamble = "<|channel|>commentary<|message|>I look.<|end|>";
    let called = "<|start|>assistant<|channel|>commentary to=functions.weather<|message|>{\"city\":\"Bern\"}";
    check(Dialect::Harmony, &format!("{preamble}{called}"), &[&[text("I look.")], &bern]);
    check(Dialect::Harmony, "Hi, no channel.", &[&[text("Hi, no channel.")]]);
    assert_eq!(read(Dialect::Harmony, false, false, &[called]), [text("{\"city\":\"Bern\"}")]);
}

#[test]
fn without_tools_text_is_untouched_but_for_thoughts() {
    let answer = " <tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call> \n";
    assert_eq!(read(Dialect::Hermes, false, false, &[answer]), [text(answer)]);
    assert_eq!(read(Dialect::Plain, true, false, &["<think>a</think>"]), [text("<think>a</think>")]);
    assert_eq!(read(Dialect::Llama3, false, false, &["{\"name\": \"f\"", ", \"parameters\": {}}"])[..1].len(), 1);
    assert_eq!(
        read(Dialect::Hermes, false, false, &["<th", "ink>\nhm \n</think>\n\nHi \n"]),
        [thought("hm"), text("Hi \n")]
    );
    // A thought stands at the beginning or nowhere.
    assert_eq!(read(Dialect::Hermes, false, false, &["I say <think>."]), [text("I say <think>.")]);
}

#[test]
fn text_and_arguments_come_as_they_are_written() {
    let mut parser = Parser::new(Dialect::Hermes, true, false);
    assert_eq!(parser.push("Hello <b"), [text("Hello <b")]);
    assert_eq!(parser.push("> <tool_call>{\"name\": \"f\", "), [text(">")]);
    let [begins, first] = call(0, "f", "{");
    assert_eq!(parser.push("\"arguments\": {"), [begins, first]);
    assert_eq!(parser.push("\"x\": "), [Piece::Arguments { index: 0, json: "\"x\": ".into() }]);
    assert_eq!(parser.push("1}"), [Piece::Arguments { index: 0, json: "1}".into() }]);
    assert_eq!(parser.push("}\n</tool_call>"), []);
    let mut parser = Parser::new(Dialect::Hermes, true, true);
    assert!(parser.is_thinking());
    assert_eq!(parser.push("\nI thi"), [thought("I thi")]);
    assert_eq!(parser.push("nk.\n</thi"), [thought("nk.")]);
    assert_eq!(parser.push("nk>\n\n"), []);
    assert!(!parser.is_thinking());
}

#[test]
fn a_long_answer_takes_a_time_that_grows_with_its_length_only() {
    // A quadratic reader would take minutes.
    for part in
        ["<tool_call>", "{\"name\": \"f\", \"arguments\": {\"x\": \"", " ", "[TOOL_CALLS]x", "<｜tool▁calls▁begin｜> "]
    {
        for dialect in Dialect::ALL {
            let whole = part.repeat(400_000 / part.len());
            let _ = read(dialect, true, false, &[&whole]);
            let bytes: Vec<&str> = (0..400_000 / part.len()).map(|_| part).collect();
            let _ = read(dialect, true, true, &bytes);
        }
    }
}

/// Parts of answers, so that random texts come close to all that is read.
const FRAGMENTS: &[&str] = &[
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "{\"name\": \"f\", \"arguments\": ",
    "{\"x\": [1, \"}\"]}",
    "}",
    "]",
    "[",
    "{",
    "\"{\\\"x\\\": 1}\"",
    ", ",
    "[TOOL_CALLS]",
    "f[ARGS]",
    "[CALL_ID]123456789",
    "[THINK]",
    "[/THINK]",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "function<｜tool▁sep｜>f\n```json\n",
    "\n```",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
    "```tool_call\n",
    "```",
    "<|channel|>",
    "analysis",
    "final",
    "commentary to=functions.f ",
    "<|message|>",
    "<|end|>",
    "<|start|>assistant",
    "<|call|>",
    "Action: ```json\n",
    "<|START_ACTION|>",
    "<|END_ACTION|>",
    "<|START_THINKING|>",
    "<|END_THINKING|>",
    "<|START_RESPONSE|>",
    "<|python_tag|>",
    "<|tool_call|>",
    "<TOOLCALL>",
    "null",
    " ",
    "\n",
    "to=",
    "\"parameters\": ",
    "text",
    "é",
    "<",
    "{\"parameters\": {}, \"name\": \"g\"}",
    "\\u00",
    "\\",
    "\"",
];

fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![9 => proptest::sample::select(FRAGMENTS).prop_map(String::from), 1 => any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn where_a_text_is_cut_makes_no_difference(
        dialect in proptest::sample::select(&Dialect::ALL[..]), calls: bool, thinking: bool,
        fragments in proptest::collection::vec(fragment(), 0..14), cuts in proptest::collection::vec(0usize..200, 0..8),
    ) {
        let whole = fragments.concat();
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| whole.is_char_boundary(*cut)).collect();
        cuts.extend([0, whole.len()]);
        cuts.sort_unstable();
        let parts: Vec<&str> = cuts.windows(2).map(|cut| &whole[cut[0]..cut[1]]).collect();
        prop_assert_eq!(read(dialect, calls, thinking, &parts), read(dialect, calls, thinking, &[&whole]));
    }

    #[test]
    fn what_has_no_words_of_a_dialect_is_text(
        dialect in proptest::sample::select(&Dialect::ALL[..]), answer in "[a-z .,!?\n]{0,80}",
    ) {
        let wanted = if answer.is_empty() { vec![] } else { vec![text(&answer)] };
        prop_assert_eq!(read(dialect, true, false, &[&answer]), wanted);
    }

    #[test]
    fn arguments_are_what_the_model_wrote(
        dialect in proptest::sample::select(&[Dialect::Hermes, Dialect::Gemma, Dialect::Phi4][..]),
        key in any::<String>(), value in any::<String>(), number in any::<i64>(),
    ) {
        let json = serde_json::json!({key: [value, number, {}]}).to_string();
        let (open, close) = match dialect {
            Dialect::Hermes => ("<tool_call>", "</tool_call>"),
            Dialect::Gemma => ("```tool_call\n", "\n```"),
            _ => ("<|tool_call|>[", "]<|/tool_call|>"),
        };
        let wanted = call(0, "f", &json).to_vec();
        let plain = format!("{open}{{\"name\": \"f\", \"arguments\": {json}}}{close}");
        prop_assert_eq!(read(dialect, true, false, &[&plain]), wanted.clone());
        let encoded = serde_json::Value::from(json).to_string();
        let encoded = format!("{open}{{\"name\": \"f\", \"arguments\": {encoded}}}{close}");
        prop_assert_eq!(read(dialect, true, false, &[&encoded]), wanted);
    }
}

/// As `check`, of an answer by a model that knows these tools.
fn check_knowing(dialect: Dialect, tools: &[Tool], answer: &str, wanted: &[&[Piece]]) {
    let read = |parts: &mut dyn Iterator<Item = &str>| {
        let mut parser = Parser::new(dialect, true, false).with_tools(tools);
        let mut pieces: Vec<Piece> = parts.flat_map(|part| parser.push(part)).collect();
        pieces.extend(parser.finish());
        joined(pieces)
    };
    assert_eq!(read(&mut std::iter::once(answer)), wanted.concat(), "{dialect:?} {answer}");
    let mut letters = answer.char_indices().map(|(place, letter)| &answer[place..place + letter.len_utf8()]);
    assert_eq!(read(&mut letters), wanted.concat(), "{dialect:?} {answer}, by letters");
}

fn weather_and_edit() -> [Tool; 2] {
    let tool = |name: &str, parameters| Tool {
        name: name.into(),
        description: None,
        parameters,
        strict: false,
        text: None,
        namespace: None,
    };
    let weather = json!({"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"},
        "wind": {"type": ["string", "null"]}, "at": {"$ref": "#/$defs/place"}, "exact": {"type": "boolean"}},
        "$defs": {"place": {"type": "object"}}});
    let edit = json!({"type": "object", "properties": {"text": {"type": "string"}}});
    [tool("weather", weather), tool("edit", edit)]
}

#[test]
fn qwen_coder() {
    let tools = weather_and_edit();
    let parameter = |name: &str, value: &str| format!("<parameter={name}>\n{value}\n</parameter>\n");
    let call_of =
        |tool: &str, parameters: &str| format!("<tool_call>\n<function={tool}>\n{parameters}</function>\n</tool_call>");
    let wanted = |json: &str| call(0, "weather", json);
    let knowing = |answer: &str, pieces: &[&[Piece]]| check_knowing(Dialect::QwenCoder, &tools, answer, pieces);
    // The words of the published template.
    let bern = call_of("weather", &(parameter("city", "Bern") + &parameter("days", "3")));
    knowing(&bern, &[&wanted(r#"{"city": "Bern", "days": 3}"#)]);
    knowing(&format!("Let me see.\n\n{bern}"), &[&[text("Let me see.")], &wanted(r#"{"city": "Bern", "days": 3}"#)]);
    knowing(
        &format!("<think>\nhm\n</think>\n\n{bern}"),
        &[&[thought("hm")], &wanted(r#"{"city": "Bern", "days": 3}"#)],
    );
    let two = format!("{bern}\n{}", call_of("edit", &parameter("text", "a\n\n  \"b\" <c>\n")));
    knowing(&two, &[&wanted(r#"{"city": "Bern", "days": 3}"#), &call(1, "edit", r#"{"text": "a\n\n  \"b\" <c>\n"}"#)]);
    // A string stays one, whatever it looks like; all else is what it is as JSON.
    knowing(&call_of("weather", &parameter("city", "12")), &[&wanted(r#"{"city": "12"}"#)]);
    knowing(&call_of("weather", &parameter("wind", "null")), &[&wanted(r#"{"wind": null}"#)]);
    knowing(&call_of("weather", &parameter("wind", "5")), &[&wanted(r#"{"wind": "5"}"#)]);
    knowing(&call_of("weather", &parameter("exact", "True")), &[&wanted(r#"{"exact": true}"#)]);
    knowing(&call_of("weather", &parameter("at", "{\"x\": [1]}")), &[&wanted(r#"{"at": {"x": [1]}}"#)]);
    // What looks like the end of a value within a string of JSON is none.
    let nested = r#"{"x": "</parameter>"}"#;
    knowing(&call_of("weather", &parameter("at", nested)), &[&wanted(r#"{"at": {"x": "</parameter>"}}"#)]);
    knowing(&call_of("weather", &parameter("wind", "\"open")), &[&wanted(r#"{"wind": "\"open"}"#)]);
    knowing(&call_of("weather", &parameter("days", "many")), &[&wanted(r#"{"days": "many"}"#)]);
    knowing(&call_of("weather", &parameter("more", "[1]")), &[&wanted(r#"{"more": [1]}"#)]);
    knowing(&call_of("weather", ""), &[&wanted("{}")]);
    knowing(&call_of("weather", "<parameter=city>Bern</parameter>"), &[&wanted(r#"{"city": "Bern"}"#)]);
    // Several in one block, never closed, and as its cousins write it.
    let both = bern.replace("</tool_call>", "<function=edit>\n</function>\n</tool_call>");
    knowing(&both, &[&wanted(r#"{"city": "Bern", "days": 3}"#), &call(1, "edit", "{}")]);
    knowing("<tool_call>\n<function=edit>\n</tool_call> ok", &[&call(0, "edit", "{}"), &[text("ok")]]);
    knowing("<tool_call>\n{\"name\": \"edit\", \"arguments\": {}}\n</tool_call>", &[&call(0, "edit", "{}")]);
    // Cut in a string, and in a number.
    knowing("<tool_call>\n<function=weather>\n<parameter=city>\nBer", &[&wanted(r#"{"city": "Ber"#)]);
    knowing("<tool_call>\n<function=weather>\n<parameter=days>\n3", &[&wanted("{")]);
    for answer in ["<tool_call>\nnone\n</tool_call>", "<tool_call>\n<function=a b>\n", "<tool_call>\n<functio"] {
        knowing(answer, &[&[text(answer)]]);
    }
}

#[test]
fn glm() {
    let tools = weather_and_edit();
    let knowing = |answer: &str, pieces: &[&[Piece]]| check_knowing(Dialect::Glm, &tools, answer, pieces);
    let parameter = |name: &str, value: &str| format!("<arg_key>{name}</arg_key>\n<arg_value>{value}</arg_value>\n");
    let bern = format!("<tool_call>weather\n{}{}</tool_call>", parameter("city", "Bern"), parameter("days", "3"));
    let wanted = call(0, "weather", r#"{"city": "Bern", "days": 3}"#);
    knowing(&bern, &[&wanted]);
    knowing(
        &format!("<think>hm</think>\nSo:\n{bern}\n<tool_call>edit\n</tool_call>"),
        &[&[thought("hm"), text("So:")], &wanted, &call(1, "edit", "{}")],
    );
    // Since 4.7 without line breaks.
    knowing(&bern.replace('\n', ""), &[&wanted]);
    knowing("<tool_call>edit</tool_call>", &[&call(0, "edit", "{}")]);
    let lines = format!("<tool_call>edit\n{}</tool_call>", parameter("text", "\na <b>\n"));
    knowing(&lines, &[&call(0, "edit", r#"{"text": "\na <b>\n"}"#)]);
    knowing(
        "<tool_call>edit\n<arg_key>text</arg_key>\n<arg_value>cut </arg_va",
        &[&call(0, "edit", r#"{"text": "cut </arg_va"#)],
    );
    for answer in ["<tool_call>", "<tool_call>not so\n", "<tool_call>f<b>", "<tool_call>weather"] {
        knowing(answer, &[&[text(answer)]]);
    }
}
