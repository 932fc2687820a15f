//! Reads an answer while it streams in.

use allerac_wire::Tool;

use crate::Dialect;
use crate::call::{Call, HEAD_BYTES_MAX, Step};
use crate::json::is_space;
use crate::markup::Schemas;
use crate::sink::Sink;
use crate::words::{MESSAGE, Words};

/// White space that is held back because a call or the end of a thought may follow, in bytes. What stands before
/// more than that was meant.
const SPACE_BYTES_MAX: usize = 256;
/// Bytes of a call that are held back until the tool is known; then it is no call. Arguments come after the name,
/// except from models that turn it round.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// A piece of an answer. Concatenated, the pieces of one kind are the whole of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// What is said.
    Text(String),
    /// What is thought.
    Reasoning(String),
    /// A tool begins to be called; what it is given follows.
    Call {
        /// The call's place among the calls of this answer, from 0.
        index: u32,
        /// What the model calls this call, where it gives it a name.
        id: Option<String>,
        /// The tool.
        name: String,
    },
    /// More of what a tool is given: a piece of JSON text.
    Arguments {
        /// The call's place.
        index: u32,
        /// The piece.
        json: String,
    },
}

/// Reads one answer. What each push gives depends on where the text was cut, what all of them give together does not.
#[derive(Debug)]
pub struct Parser {
    words: &'static Words,
    schemas: Schemas,
    calls: bool,
    state: State,
    /// Text that came in; all before `at` is read.
    pending: String,
    at: usize,
    /// What is read of a call that may turn out to be none.
    held: String,
    /// Whether nothing follows.
    ended: bool,
    sink: Sink,
}

#[derive(Debug)]
enum State {
    /// Nothing was said.
    Start,
    /// Text; `fresh` where white space before it does not belong to it.
    Text {
        fresh: bool,
    },
    Thought {
        fresh: bool,
    },
    /// In a header that says what follows.
    Header,
    Call(Call),
}

/// Where a word is in a text.
enum Found {
    Whole(usize, &'static str),
    /// From here on the text may become one.
    Part(usize),
    None,
}

impl Parser {
    /// A reader of one answer. `calls` says whether tools may be called; `thinking`, whether the prompt has begun the
    /// model's thoughts.
    #[must_use]
    pub fn new(dialect: Dialect, calls: bool, thinking: bool) -> Self {
        let state = if thinking { State::Thought { fresh: true } } else { State::Start };
        let (pending, held, sink) = (String::new(), String::new(), Sink::default());
        let schemas = Schemas::default();
        Self { words: dialect.words(), schemas, calls, state, pending, at: 0, held, ended: false, sink }
    }

    /// The same, knowing these tools: in some dialects only a tool's schema tells a string from a number.
    #[must_use]
    pub fn with_tools(mut self, tools: &[Tool]) -> Self {
        if self.words.marks.is_some() {
            self.schemas = Schemas::of(tools);
        }
        self
    }

    /// Reads on. What may yet become a call or the end of a thought is held back.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        self.pending.drain(..self.at);
        self.at = 0;
        self.pending.push_str(text);
        while self.step() {}
        self.sink.take()
    }

    /// Whatever was held back, now that nothing follows.
    pub fn finish(&mut self) -> Vec<Piece> {
        self.ended = true;
        while self.step() {}
        self.sink.text(&std::mem::take(&mut self.held));
        self.sink.text(&self.pending[self.at..]);
        self.at = self.pending.len();
        self.sink.take()
    }

    /// Whether what comes next is thought.
    #[must_use]
    pub fn is_thinking(&self) -> bool {
        matches!(self.state, State::Thought { .. })
    }

    /// Reads on by one word or one stretch of text; false where more must come first.
    fn step(&mut self) -> bool {
        match self.state {
            State::Start => self.start(),
            State::Text { fresh } => self.text(fresh),
            State::Thought { fresh } => self.thought(fresh),
            State::Header => self.header(),
            State::Call(_) => self.call(),
        }
    }

    fn rest(&self) -> &str {
        &self.pending[self.at..]
    }

    /// At the beginning, where a thought or a bare call may stand.
    fn start(&mut self) -> bool {
        let rest = self.rest();
        let begun = rest.trim_start_matches(is_space);
        let space = rest.len() - begun.len();
        let open = self.words.thought.map_or("", |(open, _)| open);
        let recipient = if self.words.headers.is_empty() { "" } else { RECIPIENT };
        if space > SPACE_BYTES_MAX {
            self.state = State::Text { fresh: false };
        } else if !open.is_empty() && begun.starts_with(open) {
            self.at += space + open.len();
            self.state = State::Thought { fresh: true };
        } else if !recipient.is_empty() && begun.starts_with(recipient) {
            self.hold(space);
            self.state = State::Header;
        } else if self.calls && self.words.bare && begun.starts_with('{') {
            self.hold(space);
            self.state = State::Call(Call::block(self.words, self.schemas.clone()));
        } else if !self.ended && (open.starts_with(begun) || recipient.starts_with(begun)) && self.waits_at_start() {
            return false;
        } else {
            self.state = State::Text { fresh: false };
        }
        true
    }

    /// Whether white space at the beginning may stand before anything but text.
    fn waits_at_start(&self) -> bool {
        self.words.thought.is_some() || !self.words.headers.is_empty() || (self.calls && self.words.bare)
    }

    fn text(&mut self, fresh: bool) -> bool {
        if fresh && self.skip_space() {
            return false;
        }
        let rest = &self.pending[self.at..];
        let opens = if self.calls { self.words.opens } else { &[] };
        let found = find(rest, &[opens, self.words.frames, self.words.headers]);
        let (length, word) = match found {
            Found::Whole(place, word) => (place, Some(word)),
            Found::Part(place) if !self.ended => (place, None),
            Found::Part(_) | Found::None => (rest.len(), None),
        };
        let opens_calls = word.is_some_and(|word| opens.contains(&word));
        // White space before a call does not belong to the text.
        let holds = opens_calls || (word.is_none() && !opens.is_empty() && !self.ended);
        let said = if holds { length - trailing_space(&rest[..length]) } else { length };
        self.sink.text(&rest[..said]);
        self.at += said;
        self.state = State::Text { fresh: fresh && said == 0 };
        let Some(word) = word else { return false };
        if opens_calls {
            self.hold(length - said + word.len());
            self.state = State::Call(Call::block(self.words, self.schemas.clone()));
        } else if self.words.headers.contains(&word) {
            self.hold(word.len());
            self.state = State::Header;
        } else {
            self.at += word.len();
        }
        true
    }

    fn thought(&mut self, fresh: bool) -> bool {
        if fresh && self.skip_space() {
            return false;
        }
        let rest = &self.pending[self.at..];
        let close = self.words.thought.map(|(_, close)| close);
        let found = match &close {
            Some(close) => find(rest, &[std::slice::from_ref(close)]),
            None => find(rest, &[self.words.frames, self.words.headers]),
        };
        let (length, word) = match found {
            Found::Whole(place, word) => (place, Some(word)),
            Found::Part(place) if !self.ended => (place, None),
            Found::Part(_) | Found::None => (rest.len(), None),
        };
        let holds = word.is_some() || !self.ended;
        let thought = if holds { length - trailing_space(&rest[..length]) } else { length };
        self.sink.thought(&rest[..thought]);
        self.at += thought;
        self.state = State::Thought { fresh: fresh && thought == 0 };
        let Some(word) = word else { return false };
        // Where no word of its own ends it, the next part of the answer does.
        self.at += length - thought + if close.is_some() { word.len() } else { 0 };
        self.state = State::Text { fresh: true };
        true
    }

    /// In a header, of which the beginning is held.
    fn header(&mut self) -> bool {
        let rest = &self.pending[self.at..];
        let length = match find(rest, &[&[MESSAGE]]) {
            Found::Whole(place, _) => Some(place).filter(|place| *place <= HEAD_BYTES_MAX),
            _ if rest.len() <= HEAD_BYTES_MAX + MESSAGE.len() && !self.ended => return false,
            _ => None,
        };
        let Some(length) = length else {
            self.release();
            return true;
        };
        let header = format!("{}{}", self.held, &rest[..length]);
        self.hold(length + MESSAGE.len());
        match recipient(&header) {
            Some(name) if self.calls => {
                self.state = State::Call(Call::of(self.words, name.to_owned()));
                return true;
            }
            None if header.contains("<|channel|>analysis") => self.state = State::Thought { fresh: true },
            _ => self.state = State::Text { fresh: false },
        }
        self.held.clear();
        true
    }

    fn call(&mut self) -> bool {
        let State::Call(call) = &mut self.state else { return false };
        let calls = self.sink.calls();
        let step = call.step(&self.pending[self.at..], self.ended, &mut self.sink);
        let has_begun = call.has_begun() || self.sink.calls() > calls;
        if has_begun {
            self.held.clear();
        }
        match step {
            Step::Wait => return false,
            Step::NoCall => self.release(),
            Step::Took(bytes) if has_begun => self.at += bytes,
            Step::Took(bytes) => {
                self.hold(bytes);
                if self.held.len() > HELD_BYTES_MAX {
                    self.release();
                }
            }
            Step::Last(bytes) => {
                self.at += bytes;
                self.held.clear();
                self.state = State::Text { fresh: true };
            }
        }
        true
    }

    /// Reads white space that belongs to nothing. True where all is read.
    fn skip_space(&mut self) -> bool {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(is_space).len();
        self.rest().is_empty()
    }

    /// Reads bytes that may turn out to be text.
    fn hold(&mut self, bytes: usize) {
        self.held.push_str(&self.pending[self.at..self.at + bytes]);
        self.at += bytes;
    }

    /// What is held is text.
    fn release(&mut self) {
        self.sink.text(&std::mem::take(&mut self.held));
        self.state = State::Text { fresh: false };
    }
}

/// What stands before the name of a tool in a header.
const RECIPIENT: &str = "to=";

/// The tool that a header is for.
fn recipient(header: &str) -> Option<&str> {
    let (_, to) = header.split_once(RECIPIENT)?;
    let name = to.split(|c: char| c.is_whitespace() || c == '<').next()?;
    let name = name.strip_prefix("functions.").unwrap_or(name);
    (!name.is_empty()).then_some(name)
}

/// Bytes of the white space that a text ends with, as far as it is held back.
fn trailing_space(text: &str) -> usize {
    (text.len() - text.trim_end_matches(is_space).len()).min(SPACE_BYTES_MAX)
}

/// The first of these words in a text.
fn find(text: &str, words: &[&[&'static str]]) -> Found {
    for (place, byte) in text.bytes().enumerate() {
        for word in words.iter().copied().flatten().filter(|word| word.as_bytes()[0] == byte) {
            if text.as_bytes()[place..].starts_with(word.as_bytes()) {
                return Found::Whole(place, word);
            }
            if word.as_bytes().starts_with(&text.as_bytes()[place..]) {
                return Found::Part(place);
            }
        }
    }
    Found::None
}
