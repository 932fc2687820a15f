//! Calls in the words of a dialect, as rules of a grammar.

use allerac_wire::Tool;

use crate::Dialect;
use crate::grammar::{Writer, quoted};
use crate::marked;
use crate::spelling::{Several, Shape};
use crate::words::{ARGS, SEPARATOR};

/// Calls of these tools.
pub(crate) struct Block {
    /// The word that begins them; `None` where a call is all of an answer.
    open: Option<&'static str>,
    /// The rule of what follows that word.
    body: String,
    /// What stands between this block and another, where a block has one call and there may be several.
    again: Option<(&'static str, usize)>,
}

impl Block {
    pub(crate) fn new(dialect: Dialect, tools: &[&Tool], calls_max: usize, writer: &mut Writer) -> Self {
        let Shape { open, before, after, close, several } = Shape::of(dialect);
        let one: Vec<String> = tools.iter().map(|tool| call(dialect, tool, writer)).collect();
        let one = writer.rule(&one.join(" | "));
        let more = calls_max - 1;
        let (calls, again) = match several {
            Several::Within(between) if more > 0 => (format!("{one} ({} {one}){{0,{more}}}", quoted(between)), None),
            Several::Blocks(between) if more > 0 => (one, Some((between, more))),
            Several::Within(_) | Several::Blocks(_) | Several::Never => (one, None),
        };
        let close = if close.is_empty() { String::new() } else { writer.word(close) };
        let body = writer.rule(&format!("{} {calls} {} {close}", quoted(before), quoted(after)));
        Self { open, body, again }
    }

    /// Calls and nothing else.
    pub(crate) fn alone(&self, writer: &mut Writer) -> String {
        let open = self.open.map_or_else(String::new, |open| writer.word(open));
        format!("{open} {} {}", self.body, self.more(writer))
    }

    /// Text, or text and calls.
    pub(crate) fn or_text(&self, writer: &mut Writer) -> String {
        let Some(open) = self.open else {
            // Text that a call cannot be taken for. A word may begin one, too.
            writer.word("<|python_tag|>");
            let text = writer.terminal(r"[ \t\r\n]*[^{ \t\r\n](?s:.*)");
            return format!("{text}? | {}", self.body);
        };
        let until = writer.until(open);
        format!("text | {until} {} {}", self.body, self.more(writer))
    }

    fn more(&self, writer: &mut Writer) -> String {
        match (self.open, self.again) {
            (Some(open), Some((between, most))) => {
                let open = writer.word(open);
                format!("({} {open} {}){{0,{most}}}", quoted(between), self.body)
            }
            _ => String::new(),
        }
    }
}

/// One call of a tool.
fn call(dialect: Dialect, tool: &Tool, writer: &mut Writer) -> String {
    // Custom tools are given text of a grammar, which only JSON lets be held to.
    let marks = dialect.words().marks.filter(|_| tool.text.is_none());
    if let Some(rule) = marks.and_then(|marks| marked::call(marks, tool, writer)) {
        return writer.rule(&rule);
    }
    let arguments = writer.arguments(tool);
    let name = quoted(&tool.name);
    let object =
        |before: &str, key: &str| format!("{} {arguments} \"}}\"", quoted(&format!("{before}{name}, \"{key}\": ")));
    match dialect {
        Dialect::Llama3 => object("{\"name\": ", "parameters"),
        Dialect::CommandR => object("{\"tool_name\": ", "parameters"),
        Dialect::CommandA => {
            let rest = object("\", \"tool_name\": ", "parameters");
            format!("\"{{\\\"tool_call_id\\\": \\\"\" /[0-9]{{1,2}}/ {rest}")
        }
        Dialect::MistralNamed => format!("{name} {} {arguments}", writer.word(ARGS)),
        Dialect::DeepSeek | Dialect::DeepSeek31 => {
            let [begin, separator, end] =
                ["<｜tool▁call▁begin｜>", SEPARATOR, "<｜tool▁call▁end｜>"].map(|word| writer.word(word));
            if dialect == Dialect::DeepSeek31 {
                return format!("{begin} {name} {separator} {arguments} {end}");
            }
            let head = quoted(&format!("{}\n```json\n", tool.name));
            format!("{begin} \"function\" {separator} {head} {arguments} \"\\n```\" {end}")
        }
        _ => object("{\"name\": ", "arguments"),
    }
}
