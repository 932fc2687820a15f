//! What an answer must be, in the words of a dialect.

use std::fmt::Write;

use allerac_wire::{Form, Tool, ToolChoice, Tools};
use serde_json::{Value, json};

use crate::Dialect;
use crate::block::Block;
use crate::escaped::escaped_lark;
use crate::input::INPUT;
use crate::schema::{arguments_of, closed, json_of};
use crate::words::MESSAGE;

/// Calls of one answer where a call is forced: a small model would go on until its tokens are used up.
const CALLS_MAX: usize = 8;

/// A grammar in llguidance's variant of Lark, with words that are control tokens of some models and text in others.
/// The rules `word_0`, `until_0` (text up to the word, with it) and so on, `text` (any, without the words) and the
/// terminal `TEXT` (some) are defined by whoever knows the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// The grammar.
    pub lark: String,
    /// The words.
    pub words: Vec<String>,
}

/// The format of an answer that may call these tools and whose text must be of `form`; `in_thought` says that the
/// prompt has begun a thought. `None` where nothing in the dialect limits the answer: no call is forced or strict, and
/// no thought or call may stand instead of the form. A client's own grammar stays as it is.
#[must_use]
pub fn grammar(dialect: Dialect, tools: &Tools, form: Option<&Form>, in_thought: bool) -> Option<Format> {
    let offered: Vec<&Tool> = match &tools.choice {
        ToolChoice::Named(name) => tools.list.iter().filter(|tool| tool.name == *name).collect(),
        _ => tools.callable().iter().collect(),
    };
    let is_forced = matches!(tools.choice, ToolChoice::Required | ToolChoice::Named(_)) && !offered.is_empty();
    let said = match form.filter(|_| !is_forced) {
        None => Said::Text,
        Some(form) => Said::Form(rule_of(form)?),
    };
    let thinks_first = in_thought || dialect == Dialect::Harmony;
    let is_limited = match said {
        _ if dialect == Dialect::Plain => false,
        _ if is_forced => true,
        Said::Form(_) => thinks_first || !offered.is_empty(),
        Said::Text => offered.iter().any(|tool| tool.strict),
    };
    if !is_limited {
        return None;
    }
    // Where nothing is said, a call that must be made is one: a small model would repeat it until it may not.
    let is_parallel = tools.parallel.unwrap_or(!is_forced) && !matches!(tools.choice, ToolChoice::Named(_));
    let calls_max = if is_parallel { CALLS_MAX } else { 1 };
    let mut writer = Writer::new();
    let start = if dialect == Dialect::Harmony {
        writer.channels(&offered, &said, is_forced, in_thought)
    } else {
        let block = (!offered.is_empty()).then(|| Block::new(dialect, &offered, calls_max, &mut writer));
        writer.tags(dialect, block, &said, is_forced, in_thought)
    };
    Some(writer.format(&start))
}

/// What stands where no tool is called.
enum Said {
    Text,
    /// What this part of a rule derives.
    Form(String),
}

/// A form as a part of a rule; `None` for grammars of a client's own.
fn rule_of(form: &Form) -> Option<String> {
    match form {
        Form::JsonObject => Some(json_of(&json!({"type": "object"}))),
        Form::JsonSchema(schema) => serde_json::from_str(schema).ok().map(|schema| json_of(&closed(&schema))),
        Form::Choice(choices) => {
            let choices: Vec<String> = choices.iter().map(|choice| quoted(choice)).collect();
            Some(format!("({})", choices.join(" | ")))
        }
        Form::Regex(regex) => Some(format!("/{}/", slashes_escaped(regex))),
        Form::Gbnf(_) | Form::Lark(_) => None,
    }
}

/// A Lark string is written as in JSON.
pub(crate) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A regular expression between slashes, on one line.
pub(crate) fn slashes_escaped(regex: &str) -> String {
    let mut escaped = String::with_capacity(regex.len());
    let mut is_escape = false;
    for character in regex.chars() {
        match character {
            '/' if !is_escape => escaped.push_str("\\/"),
            '\n' if is_escape => escaped.push('n'),
            '\n' => escaped.push_str("\\n"),
            _ => escaped.push(character),
        }
        is_escape = character == '\\' && !is_escape;
    }
    escaped
}

/// Writes rules.
pub(crate) struct Writer {
    words: Vec<&'static str>,
    rules: String,
    /// Rules that were named here.
    named: usize,
}

impl Writer {
    fn new() -> Self {
        Self { words: Vec::new(), rules: String::new(), named: 0 }
    }

    fn place(&mut self, word: &'static str) -> usize {
        self.words.iter().position(|known| *known == word).unwrap_or_else(|| {
            self.words.push(word);
            self.words.len() - 1
        })
    }

    /// The rule of a word.
    pub(crate) fn word(&mut self, word: &'static str) -> String {
        format!("word_{}", self.place(word))
    }

    /// The rule of text up to a word, with it.
    pub(crate) fn until(&mut self, word: &'static str) -> String {
        format!("until_{}", self.place(word))
    }

    /// Gives a part of a rule a name.
    pub(crate) fn rule(&mut self, body: &str) -> String {
        let name = format!("part_{}", self.named);
        self.named += 1;
        let _ = writeln!(self.rules, "{name}: {body}");
        name
    }

    /// Gives text that this regular expression matches a name.
    pub(crate) fn terminal(&mut self, regex: &str) -> String {
        let name = format!("PART_{}", self.named);
        self.named += 1;
        let _ = writeln!(self.rules, "{name}: TEXT & /{regex}/");
        name
    }

    /// The arguments of a tool.
    pub(crate) fn arguments(&mut self, tool: &Tool) -> String {
        let lark = tool.text.as_ref().and_then(|text| match &text.form {
            Some(Form::Lark(lark)) => escaped_lark(lark).ok(),
            _ => None,
        });
        match lark {
            Some(lark) => {
                let text = self.rule(&format!("%lark {{\n{lark}\n}}"));
                self.rule(&format!("{} {text} {}", quoted(&format!("{{\"{INPUT}\": \"")), quoted("\"}")))
            }
            None => self.rule(&arguments_of(&tool.parameters)),
        }
    }

    fn format(self, start: &str) -> Format {
        let lark = format!("%llguidance {{}}\nstart: {start}\n{}", self.rules);
        Format { lark, words: self.words.into_iter().map(str::to_owned).collect() }
    }

    /// An answer of a dialect that marks thoughts and calls in the text.
    fn tags(
        &mut self,
        dialect: Dialect,
        block: Option<Block>,
        said: &Said,
        is_forced: bool,
        in_thought: bool,
    ) -> String {
        let close = dialect.words().thought.map(|(_, close)| close).filter(|_| in_thought);
        let thought = close.map_or_else(String::new, |close| self.until(close));
        let gap = if thought.is_empty() { String::new() } else { self.rule("/\\n{1,2}/?") };
        let calls = block.as_ref().map(|block| block.alone(self));
        let answer = match (said, block, calls) {
            (_, Some(_), Some(calls)) if is_forced => format!("{gap} {calls}"),
            (Said::Form(form), _, Some(calls)) => format!("{gap} ({form} | {calls})"),
            (Said::Form(form), _, None) => format!("{gap} {form}"),
            (Said::Text, Some(block), _) => format!("({})", block.or_text(self)),
            (Said::Text, None, _) => "text".to_owned(),
        };
        let answer = self.rule(&answer);
        format!("{thought} {answer}")
    }

    /// An answer of gpt-oss.
    fn channels(&mut self, offered: &[&Tool], said: &Said, is_forced: bool, in_thought: bool) -> String {
        let [channel, message] = ["<|channel|>", MESSAGE].map(|word| self.word(word));
        let [start, constrain] = ["<|start|>", "<|constrain|>"].map(|word| self.word(word));
        let rest_of_thought = format!("{} {start} \"assistant\"", self.until("<|end|>"));
        let thought =
            if in_thought { rest_of_thought } else { format!("({channel} \"analysis\" {message} {rest_of_thought})?") };
        let mut answers: Vec<String> = Vec::new();
        for tool in offered {
            let arguments = self.arguments(tool);
            let to = quoted(&format!("commentary to=functions.{} ", tool.name));
            answers.push(format!("{channel} {to} {constrain} \"json\" {message} {arguments}"));
        }
        if !is_forced {
            let said = match said {
                Said::Text => "text",
                Said::Form(form) => form,
            };
            answers.push(format!("{channel} \"final\" {message} {said}"));
        }
        let answer = self.rule(&answers.join(" | "));
        format!("{thought} {answer}")
    }
}
