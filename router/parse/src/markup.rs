//! Reads a call whose arguments are marked up one by one, and passes them on as the JSON that they are.
//!
//! Strings stand there as they are, all else as JSON. Which of the two a value is, the tool's schema tells.

use std::collections::HashMap;
use std::sync::Arc;

use allerac_wire::Tool;
use serde_json::Value;

use crate::call::{Begins, HEAD_BYTES_MAX, begins, is_name};
use crate::json::is_space;
use crate::kinds::Kinds;
use crate::sink::Sink;

/// Bytes of a value that is no string; it is passed on as a whole.
const VALUE_BYTES_MAX: usize = 1024 * 1024;

/// The marks of a dialect.
#[derive(Debug)]
pub(crate) struct Marks {
    /// Before a tool's name; empty where the block begins with it.
    pub(crate) tool: &'static str,
    /// Behind the name.
    pub(crate) named: &'static str,
    /// Around a parameter's name.
    pub(crate) key: (&'static str, &'static str),
    /// Around its value; nothing before it where the value follows at once.
    pub(crate) value: (&'static str, &'static str),
    /// What ends a call; empty where the block's end does.
    pub(crate) end: &'static str,
    /// Whether a value stands on lines of its own.
    pub(crate) lines: bool,
}

/// What the tools that may be called are given.
#[derive(Debug, Clone, Default)]
pub(crate) struct Schemas(Arc<HashMap<String, Value>>);

impl Schemas {
    pub(crate) fn of(tools: &[Tool]) -> Self {
        Self(Arc::new(tools.iter().map(|tool| (tool.name.clone(), tool.parameters.clone())).collect()))
    }

    /// What a parameter may be.
    fn kinds(&self, tool: &str, key: &str) -> Kinds {
        let Some(root) = self.0.get(tool) else { return Kinds::of(&Value::Null, &Value::Null) };
        let property = root.get("properties").and_then(|properties| properties.get(key));
        let property = property.or_else(|| root.get("additionalProperties"));
        Kinds::of(property.unwrap_or(&Value::Null), root)
    }
}

/// What a marked call has for the text that follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marked {
    /// So many bytes belong to it.
    Took(usize),
    /// These too, and the call is whole.
    Ended(usize),
    /// More text must come first.
    Wait,
    /// There is no call here.
    NoCall,
}

/// One call.
#[derive(Debug)]
pub(crate) struct Markup {
    marks: &'static Marks,
    /// What ends the block that the call is in.
    close: &'static str,
    schemas: Schemas,
    tool: String,
    /// Whether an argument was passed on.
    has_given: bool,
    at: At,
}

#[derive(Debug)]
enum At {
    /// Before the mark of the tool's name.
    Open,
    /// In the tool's name.
    Name,
    /// Before a parameter, or the end.
    Between,
    Key(String),
    /// Before a parameter's value.
    Before(String),
    /// In a string; `begun` behind the line break before it.
    Text {
        begun: bool,
    },
    /// In a value that may be no string.
    Whole {
        key: String,
        raw: String,
        quotes: Quotes,
    },
}

impl Markup {
    pub(crate) fn new(marks: &'static Marks, close: &'static str, schemas: Schemas) -> Self {
        Self { marks, close, schemas, tool: String::new(), has_given: false, at: At::Open }
    }

    /// Reads on; `ended` says that nothing follows `rest`, which is not empty.
    pub(crate) fn read(&mut self, rest: &str, ended: bool, sink: &mut Sink) -> Marked {
        let marks = self.marks;
        match &mut self.at {
            At::Open if marks.tool.is_empty() => {
                self.at = At::Name;
                Marked::Took(0)
            }
            At::Open => match begins(rest, marks.tool) {
                Begins::Whole => {
                    self.at = At::Name;
                    Marked::Took(marks.tool.len())
                }
                Begins::Part if !ended => Marked::Wait,
                _ => Marked::NoCall,
            },
            At::Name => self.name(rest, ended, sink),
            At::Between => self.between(rest, ended, sink),
            At::Key(key) => {
                if let Some((named, behind)) = rest.split_once(marks.key.1) {
                    key.push_str(named);
                    let (key, took) = (std::mem::take(key), rest.len() - behind.len());
                    if key.len() > HEAD_BYTES_MAX {
                        return broken(sink);
                    }
                    self.at = At::Before(key.trim().to_owned());
                    return Marked::Took(took);
                }
                let is_too_long = rest.len() > HEAD_BYTES_MAX + marks.key.1.len();
                if is_too_long || ended { broken(sink) } else { Marked::Wait }
            }
            At::Before(key) => {
                let begun = rest.trim_start_matches(is_space);
                let space = rest.len() - begun.len();
                let open = marks.value.0;
                if open.is_empty() {
                    let key = std::mem::take(key);
                    self.value(key, sink);
                    return Marked::Took(0);
                }
                match begins(begun, open) {
                    Begins::Whole => {
                        let key = std::mem::take(key);
                        self.value(key, sink);
                        Marked::Took(space + open.len())
                    }
                    Begins::Part if !ended => Marked::Wait,
                    _ => broken(sink),
                }
            }
            At::Text { begun } => {
                if marks.lines && !*begun {
                    *begun = true;
                    return Marked::Took(usize::from(rest.starts_with('\n')));
                }
                self.text(rest, ended, sink)
            }
            At::Whole { .. } => self.whole(rest, ended, sink),
        }
    }

    /// In the tool's name, which ends with its mark; where that is a line break, also before any other mark.
    fn name(&mut self, rest: &str, ended: bool, sink: &mut Sink) -> Marked {
        let marks = self.marks;
        let at_line = marks.named == "\n";
        let is_end = |character: char| if at_line { matches!(character, '\n' | '<') } else { character == '>' };
        let Some(place) = rest.find(is_end) else {
            return if rest.len() > HEAD_BYTES_MAX || ended { Marked::NoCall } else { Marked::Wait };
        };
        let name = rest[..place].trim();
        if place > HEAD_BYTES_MAX || !is_name(name) {
            return Marked::NoCall;
        }
        if at_line && rest[place..].starts_with('<') {
            // A name of something else, of which more must be seen.
            let follows = [marks.key.0, self.close].map(|mark| begins(&rest[place..], mark));
            if !follows.contains(&Begins::Whole) {
                return if follows.contains(&Begins::Part) && !ended { Marked::Wait } else { Marked::NoCall };
            }
        }
        name.clone_into(&mut self.tool);
        sink.call(name.to_owned(), None);
        sink.argument('{');
        self.at = At::Between;
        Marked::Took(place + usize::from(!rest[place..].starts_with('<')))
    }

    fn between(&mut self, rest: &str, ended: bool, sink: &mut Sink) -> Marked {
        let space = rest.len() - rest.trim_start_matches(is_space).len();
        if space > 0 {
            return Marked::Took(space);
        }
        let Marks { key, end, .. } = *self.marks;
        let mut may_begin = false;
        for mark in [key.0, end, self.close] {
            match begins(rest, mark) {
                Begins::Whole if mark == key.0 => {
                    self.at = At::Key(String::new());
                    return Marked::Took(mark.len());
                }
                Begins::Whole => {
                    sink.argument('}');
                    // The end of the block is for whoever reads the block.
                    return Marked::Ended(if mark == end { mark.len() } else { 0 });
                }
                Begins::Part => may_begin = true,
                Begins::Not => {}
            }
        }
        match (may_begin, ended) {
            (true, false) => Marked::Wait,
            // The answer was cut within a mark.
            (true, true) => Marked::Took(rest.len()),
            (false, _) => broken(sink),
        }
    }

    /// Before the value of a parameter.
    fn value(&mut self, key: String, sink: &mut Sink) {
        if self.schemas.kinds(&self.tool, &key).is_string() {
            self.give(&key, sink);
            sink.argument('"');
            self.at = At::Text { begun: false };
        } else {
            self.at = At::Whole { key, raw: String::new(), quotes: Quotes::default() };
        }
    }

    fn give(&mut self, key: &str, sink: &mut Sink) {
        let comma = if std::mem::replace(&mut self.has_given, true) { ", " } else { "" };
        sink.arguments(&format!("{comma}{}: ", Value::from(key)));
    }

    /// In a string.
    fn text(&mut self, rest: &str, ended: bool, sink: &mut Sink) -> Marked {
        let close = self.marks.value.1;
        let found = until(rest, close);
        let (length, is_whole) = match found {
            Until::Whole(place) => (place, true),
            Until::Part(_) if ended => (rest.len(), false),
            Until::Part(place) => (place, false),
        };
        let mut text = &rest[..length];
        // The last line break may be the one before the mark.
        if self.marks.lines && (is_whole || !ended) {
            text = text.strip_suffix('\n').unwrap_or(text);
        }
        let escaped = Value::from(text).to_string();
        sink.arguments(&escaped[1..escaped.len() - 1]);
        if is_whole {
            sink.argument('"');
            self.at = At::Between;
            return Marked::Took(length + close.len());
        }
        if text.is_empty() { Marked::Wait } else { Marked::Took(text.len()) }
    }

    /// In a value that is passed on as a whole.
    fn whole(&mut self, rest: &str, ended: bool, sink: &mut Sink) -> Marked {
        let close = self.marks.value.1;
        let At::Whole { key, raw, quotes } = &mut self.at else { return Marked::NoCall };
        let (length, is_whole) = match until(rest, close) {
            // A mark in a string of JSON is part of the string.
            Until::Whole(place) if quotes.clone().are_open_behind(&rest[..place]) => (place + close.len(), false),
            Until::Whole(place) => (place, true),
            Until::Part(_) if ended => (rest.len(), false),
            Until::Part(place) => (place, false),
        };
        let cut = rest.floor_char_boundary(length.min(VALUE_BYTES_MAX - raw.len()));
        raw.push_str(&rest[..cut]);
        quotes.are_open_behind(&rest[..cut]);
        if cut < length {
            return if cut == 0 { broken(sink) } else { Marked::Took(cut) };
        }
        if !is_whole {
            return if cut == 0 { Marked::Wait } else { Marked::Took(cut) };
        }
        let (key, raw) = (std::mem::take(key), std::mem::take(raw));
        let kinds = self.schemas.kinds(&self.tool, &key);
        self.give(&key, sink);
        sink.arguments(&json_of(&raw, kinds, self.marks.lines));
        self.at = At::Between;
        Marked::Took(cut + close.len())
    }
}

/// What follows is no part of a call: what was read of this one is all of it.
fn broken(sink: &mut Sink) -> Marked {
    sink.argument('}');
    Marked::Ended(0)
}

/// Whether a value that is read is in a string of JSON.
#[derive(Debug, Clone, Default)]
struct Quotes {
    /// Whether the value is JSON that may have strings in it, once it began.
    is_json: Option<bool>,
    in_string: bool,
    escaped: bool,
}

impl Quotes {
    /// Reads on; whether a string goes on behind it.
    fn are_open_behind(&mut self, text: &str) -> bool {
        for character in text.chars() {
            match self.is_json {
                None if is_space(character) => {}
                None => {
                    self.is_json = Some(matches!(character, '{' | '[' | '"'));
                    self.in_string = character == '"';
                }
                Some(false) => {}
                Some(true) if self.in_string => {
                    let escaped = std::mem::take(&mut self.escaped);
                    match character {
                        '"' if !escaped => self.in_string = false,
                        '\\' if !escaped => self.escaped = true,
                        // JSON has no line break in a string: it was none.
                        '\n' => self.is_json = Some(false),
                        _ => {}
                    }
                }
                Some(true) => self.in_string = character == '"',
            }
        }
        self.is_json == Some(true) && self.in_string
    }
}

/// Where a mark is in a text.
enum Until {
    Whole(usize),
    /// From here on the text may become the mark; at its end, where it does not.
    Part(usize),
}

fn until(text: &str, mark: &str) -> Until {
    if let Some(place) = text.find(mark) {
        return Until::Whole(place);
    }
    let longest = mark.len().min(text.len());
    let part = (1..=longest).rev().find(|length| mark.is_char_boundary(*length) && text.ends_with(&mark[..*length]));
    Until::Part(text.len() - part.unwrap_or(0))
}

/// A value as JSON: what it is as JSON where its parameter takes that, else the string that it is.
fn json_of(raw: &str, kinds: Kinds, lines: bool) -> String {
    let text = if lines { raw.strip_prefix('\n').unwrap_or(raw) } else { raw };
    let text = if lines { text.strip_suffix('\n').unwrap_or(text) } else { text };
    let bare = text.trim();
    // Models that were taught Python write its words.
    let bare = match bare {
        "True" if !kinds.has_string() => "true",
        "False" if !kinds.has_string() => "false",
        "None" if !kinds.has_string() => "null",
        bare => bare,
    };
    match serde_json::from_str::<Value>(bare) {
        Ok(value) if kinds.has(Kinds::of_value(&value)) || !kinds.has_string() => bare.to_owned(),
        _ => Value::from(text).to_string(),
    }
}
