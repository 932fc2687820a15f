//! Calls as a dialect spells them.

use allerac_wire::ToolCall;
use serde_json::{Map, Value};

use crate::Dialect;
use crate::markup::Marks;
use crate::words::{ARGS, SEPARATOR};

/// How a dialect writes several calls.
pub(crate) enum Several {
    /// In one block, with this between them.
    Within(&'static str),
    /// Each in a block of its own, with this between blocks.
    Blocks(&'static str),
    /// Not at all.
    Never,
}

/// What stands around the calls of a block.
pub(crate) struct Shape {
    /// The word that begins it; `None` where a call is all of an answer.
    pub(crate) open: Option<&'static str>,
    pub(crate) before: &'static str,
    pub(crate) after: &'static str,
    /// The word that ends it; empty for none.
    pub(crate) close: &'static str,
    pub(crate) several: Several,
}

impl Shape {
    pub(crate) fn of(dialect: Dialect) -> Self {
        let words = dialect.words();
        let (before, after, several) = match dialect {
            Dialect::Plain | Dialect::Harmony | Dialect::Llama3 => ("", "", Several::Never),
            Dialect::Hermes | Dialect::QwenCoder => ("\n", "\n", Several::Blocks("\n")),
            Dialect::Glm => ("", "", Several::Blocks("\n")),
            // A fence is no word of its own: other text has it, too.
            Dialect::Gemma => ("\n", "\n```", Several::Blocks("\n")),
            Dialect::MistralNamed => ("", "", Several::Blocks("")),
            Dialect::DeepSeek => ("", "", Several::Within("\n")),
            Dialect::DeepSeek31 => ("", "", Several::Within("")),
            Dialect::CommandR => ("\n[\n    ", "\n]```", Several::Within(",\n    ")),
            Dialect::CommandA => ("[\n    ", "\n]", Several::Within(",\n    ")),
            Dialect::Mistral | Dialect::Granite | Dialect::Phi4 | Dialect::Nemotron => {
                ("[", "]", Several::Within(", "))
            }
        };
        let is_fenced = matches!(dialect, Dialect::Gemma | Dialect::CommandR);
        Self {
            open: words.opens.first().copied().filter(|_| !words.bare),
            before,
            after,
            close: if is_fenced { "" } else { words.close },
            several,
        }
    }
}

/// Calls in the words of a dialect that has blocks; of others in those of Hermes.
pub(crate) fn spelled(dialect: Dialect, calls: &[ToolCall]) -> String {
    let dialect = if matches!(dialect, Dialect::Plain | Dialect::Harmony) { Dialect::Hermes } else { dialect };
    let Shape { open, before, after, close, several } = Shape::of(dialect);
    let open = open.unwrap_or_default();
    let block = |calls: &str| format!("{open}{before}{calls}{after}{close}");
    let each = calls.iter().enumerate().map(|(index, call)| one(dialect, index, call));
    match several {
        Several::Within(between) => block(&each.collect::<Vec<_>>().join(between)),
        Several::Blocks(between) => each.map(|call| block(&call)).collect::<Vec<_>>().join(between),
        Several::Never => each.collect::<Vec<_>>().join("; "),
    }
}

fn one(dialect: Dialect, index: usize, call: &ToolCall) -> String {
    let name = &call.name;
    let arguments = if call.arguments.trim().is_empty() { "{}" } else { call.arguments.as_str() };
    if let (Some(marks), Ok(given)) = (dialect.words().marks, serde_json::from_str(arguments)) {
        return marked(marks, name, &given);
    }
    match dialect {
        Dialect::Llama3 => format!(r#"{{"name": "{name}", "parameters": {arguments}}}"#),
        Dialect::CommandR => format!(r#"{{"tool_name": "{name}", "parameters": {arguments}}}"#),
        Dialect::CommandA => {
            format!(r#"{{"tool_call_id": "{index}", "tool_name": "{name}", "parameters": {arguments}}}"#)
        }
        Dialect::MistralNamed => format!("{name}{ARGS}{arguments}"),
        Dialect::DeepSeek => {
            format!("<｜tool▁call▁begin｜>function{SEPARATOR}{name}\n```json\n{arguments}\n```<｜tool▁call▁end｜>")
        }
        Dialect::DeepSeek31 => format!("<｜tool▁call▁begin｜>{name}{SEPARATOR}{arguments}<｜tool▁call▁end｜>"),
        _ => format!(r#"{{"name": "{name}", "arguments": {arguments}}}"#),
    }
}

/// A call whose arguments are marked up one by one: strings as they are, all else as JSON.
fn marked(marks: &Marks, name: &str, given: &Map<String, Value>) -> String {
    let line = if marks.lines { "\n" } else { "" };
    let mut call = format!("{}{name}{}{line}", marks.tool, marks.named);
    for (key, value) in given {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let ((key_open, key_close), (open, close)) = (marks.key, marks.value);
        let between = if open.is_empty() { "" } else { "\n" };
        call += &format!("{key_open}{key}{key_close}{between}{open}{line}{text}{line}{close}\n");
    }
    call + marks.end
}
