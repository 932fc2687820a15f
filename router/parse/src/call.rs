//! Reads a block of calls: what stands between the words that begin and end it.

use crate::arguments::{Arguments, Read, Tool};
use crate::json::is_space;
use crate::markup::{Marked, Markup, Schemas};
use crate::object::Object;
use crate::sink::Sink;
use crate::words::{ARGS, CALL_ID, SEPARATOR, Words};

/// Bytes before a call's arguments where its name stands there: a few words around a name.
pub(crate) const HEAD_BYTES_MAX: usize = 512;

/// A block of calls.
#[derive(Debug)]
pub(crate) struct Call {
    words: &'static Words,
    /// For arguments that are marked up.
    schemas: Schemas,
    at: At,
    /// Whether the calls are a list's elements.
    in_list: bool,
    /// Whether a list of calls has ended.
    listed: bool,
    /// Whether the call at hand is being passed on.
    begun: bool,
}

#[derive(Debug)]
enum At {
    /// Before a call.
    Open,
    /// Before its arguments.
    Head(String),
    Arguments(Arguments),
    Object(Object),
    Markup(Box<Markup>),
    /// Behind a call.
    Next,
}

/// What a block of calls has for the text that follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many bytes belong to it.
    Took(usize),
    /// These too, and they are the last.
    Last(usize),
    /// More text must come first.
    Wait,
    /// There is no call here.
    NoCall,
}

/// Whether a text begins with a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begins {
    Whole,
    /// It may, when more of it is there.
    Part,
    Not,
}

pub(crate) fn begins(text: &str, word: &str) -> Begins {
    if word.is_empty() {
        Begins::Not
    } else if text.starts_with(word) {
        Begins::Whole
    } else if word.starts_with(text) {
        Begins::Part
    } else {
        Begins::Not
    }
}

impl Call {
    /// Behind the word that begins a block.
    pub(crate) fn block(words: &'static Words, schemas: Schemas) -> Self {
        Self { words, schemas, at: At::Open, in_list: false, listed: false, begun: false }
    }

    /// Before the arguments of a tool that is known.
    pub(crate) fn of(words: &'static Words, name: String) -> Self {
        Self { at: At::Arguments(Arguments::new(Tool { name, id: None })), ..Self::block(words, Schemas::default()) }
    }

    /// Whether what is read belongs to a call that was passed on and can be no text any more.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Reads on; `ended` says that nothing follows `rest`.
    pub(crate) fn step(&mut self, rest: &str, ended: bool, sink: &mut Sink) -> Step {
        let calls = sink.calls();
        let step = self.read(rest, ended, sink);
        self.begun = (self.begun || sink.calls() > calls) && !matches!(self.at, At::Next);
        step
    }

    fn read(&mut self, rest: &str, ended: bool, sink: &mut Sink) -> Step {
        let Some(character) = rest.chars().next() else {
            let is_over = ended && matches!(self.at, At::Next);
            return if is_over { Step::Last(0) } else { Step::Wait };
        };
        let took = Step::Took(character.len_utf8());
        match &mut self.at {
            At::Open | At::Next if is_space(character) => took,
            At::Open => self.open(rest, character, ended),
            At::Head(_) if character == '{' => self.head(),
            At::Head(text) => {
                text.push(character);
                if text.len() > HEAD_BYTES_MAX { Step::NoCall } else { took }
            }
            At::Arguments(arguments) => {
                let read = arguments.read(character, sink);
                self.behind(read, took)
            }
            At::Object(object) => {
                let read = object.read(character, sink);
                self.behind(read, took)
            }
            At::Markup(markup) => match markup.read(rest, ended, sink) {
                Marked::Took(bytes) => Step::Took(bytes),
                Marked::Ended(bytes) => {
                    self.at = At::Next;
                    Step::Took(bytes)
                }
                Marked::Wait => Step::Wait,
                Marked::NoCall => Step::NoCall,
            },
            At::Next => self.next(rest, character, ended),
        }
    }

    fn behind(&mut self, read: Read, took: Step) -> Step {
        match read {
            Read::Took => took,
            Read::Last => {
                self.at = At::Next;
                took
            }
            Read::Before => {
                self.at = At::Next;
                Step::Took(0)
            }
            Read::Wrong => Step::NoCall,
        }
    }

    /// Before a call.
    fn open(&mut self, rest: &str, character: char, ended: bool) -> Step {
        let each = self.words.each;
        if !each.is_empty() {
            return match begins(rest, each) {
                Begins::Whole => {
                    self.at = At::Head(String::new());
                    Step::Took(each.len())
                }
                Begins::Part if !ended => Step::Wait,
                _ => Step::NoCall,
            };
        }
        match character {
            '[' if !self.in_list => self.in_list = true,
            '{' => self.at = At::Object(Object::new(self.words.bare)),
            _ if self.words.marks.is_some() && !self.in_list => {
                self.markup();
                return Step::Took(0);
            }
            _ if self.words.heads && !self.in_list => {
                self.at = At::Head(String::new());
                return Step::Took(0);
            }
            _ => return Step::NoCall,
        }
        Step::Took(1)
    }

    /// Before a call whose arguments are marked up.
    fn markup(&mut self) {
        let Words { marks: Some(marks), close, .. } = *self.words else { return };
        self.at = At::Markup(Box::new(Markup::new(marks, close, self.schemas.clone())));
    }

    /// Before the bracket that begins arguments.
    fn head(&mut self) -> Step {
        let At::Head(text) = &self.at else { return Step::NoCall };
        match tool(text) {
            Some(tool) => {
                self.at = At::Arguments(Arguments::new(tool));
                Step::Took(0)
            }
            None => Step::NoCall,
        }
    }

    /// Behind a call.
    fn next(&mut self, rest: &str, character: char, ended: bool) -> Step {
        let Words { each, tails, close, heads, bare, marks, .. } = *self.words;
        let marked = marks.map_or("", |marks| marks.tool);
        if self.in_list {
            match character {
                ',' => self.at = At::Open,
                ']' => (self.in_list, self.listed) = (false, true),
                _ => return Step::Last(0),
            }
            return Step::Took(1);
        }
        let mut may_begin = false;
        for word in tails.iter().copied().chain([each, close, marked]) {
            match begins(rest, word) {
                Begins::Whole if word == close => return Step::Last(word.len()),
                Begins::Whole if word == marked => {
                    self.markup();
                    return Step::Took(0);
                }
                Begins::Whole => {
                    if word == each {
                        self.at = At::Head(String::new());
                    }
                    return Step::Took(word.len());
                }
                Begins::Part => may_begin = true,
                Begins::Not => {}
            }
        }
        match character {
            // The answer was cut within the word.
            _ if may_begin && ended => Step::Last(rest.len()),
            _ if may_begin => Step::Wait,
            '{' if !self.listed && !heads => {
                self.at = At::Object(Object::new(bare));
                Step::Took(1)
            }
            ';' if bare => Step::Took(1),
            _ => Step::Last(0),
        }
    }
}

/// The tool that is named before its arguments.
fn tool(head: &str) -> Option<Tool> {
    let head = head.trim();
    let head = head.strip_suffix("```json").unwrap_or(head).trim_end();
    let (name, id) = match head.split_once(SEPARATOR) {
        // Either `function` and the name, or the name alone.
        Some((name, "")) => (name, None),
        Some((_, name)) => (name, None),
        None => {
            let head = head.strip_suffix(ARGS).unwrap_or(head);
            head.split_once(CALL_ID).map_or((head, None), |(name, id)| (name, Some(id.trim())))
        }
    };
    let name = name.trim();
    let id = id.filter(|id| !id.is_empty()).map(str::to_owned);
    is_name(name).then(|| Tool { name: name.to_owned(), id })
}

/// Whether a tool may be called so.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || "<>[]{}()\"'`|｜:".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_named_as_each_family_does() {
        let named = |head: &str| tool(head).map(|tool| (tool.name, tool.id));
        let plain = |name: &str| Some((name.to_owned(), None));
        assert_eq!(named("get_weather[ARGS]"), plain("get_weather"));
        assert_eq!(
            named("get_weather[CALL_ID]a1b2c3d4e[ARGS] "),
            Some(("get_weather".into(), Some("a1b2c3d4e".into())))
        );
        assert_eq!(named("function<｜tool▁sep｜>get_weather\n```json\n"), plain("get_weather"));
        assert_eq!(named("get_weather<｜tool▁sep｜>"), plain("get_weather"));
        assert_eq!(named("get weather"), None);
        assert_eq!(named(""), None);
    }
}
