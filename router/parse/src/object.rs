//! A call as a JSON object: `{"name": .., "arguments": ..}`, in any order and with either family's keys.

use crate::arguments::{Arguments, Read, Tool, whole};
use crate::json::{Quoted, Scan, Scanned, is_space};
use crate::sink::Sink;

/// Reads one call, behind its opening bracket.
#[derive(Debug)]
pub(crate) struct Object {
    at: At,
    name: Option<String>,
    id: Option<String>,
    /// Arguments that came before the name.
    early: Option<String>,
    /// Whether it began to be passed on.
    begun: bool,
    /// Whether only a call has these keys, since nothing else tells it from JSON that is meant as text.
    strict: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Name,
    Arguments,
    Id,
    Kind,
    Other,
}

#[derive(Debug)]
enum At {
    /// Before a key, or the end.
    Key,
    InKey(Quoted),
    Colon(Key),
    Value(Key),
    /// In a string that names something.
    Word(Key, Quoted),
    Arguments(Arguments),
    /// In a value that is kept as it is.
    Whole(Key, Whole),
    /// Behind a value.
    Comma,
}

/// A value as it is written.
#[derive(Debug, Default)]
struct Whole {
    raw: String,
    scan: Scan,
    escaped: bool,
}

impl Whole {
    fn read(&mut self, character: char) -> Read {
        let first = self.raw.chars().next();
        let read = match first.unwrap_or(character) {
            '{' | '[' => match self.scan.read(character) {
                Scanned::Inside => Read::Took,
                Scanned::Closed => Read::Last,
                Scanned::Wrong => Read::Wrong,
            },
            '"' => {
                let escaped = std::mem::take(&mut self.escaped);
                self.escaped = character == '\\' && !escaped;
                if character == '"' && !escaped && first.is_some() { Read::Last } else { Read::Took }
            }
            _ if is_space(character) || matches!(character, ',' | '}' | ']') => Read::Before,
            _ if character.is_ascii_alphanumeric() || matches!(character, '+' | '-' | '.') => Read::Took,
            _ => Read::Wrong,
        };
        if matches!(read, Read::Took | Read::Last) {
            self.raw.push(character);
        }
        read
    }
}

impl Object {
    pub(crate) fn new(strict: bool) -> Self {
        Self { at: At::Key, name: None, id: None, early: None, begun: false, strict }
    }

    /// Reads on; `Last` is the closing bracket.
    pub(crate) fn read(&mut self, character: char, sink: &mut Sink) -> Read {
        match &mut self.at {
            At::Key => self.key(character, sink),
            At::InKey(quoted) => match quoted.read(character) {
                None => Read::Took,
                Some(Ok(word)) => self.named(&word),
                Some(Err(_)) => Read::Wrong,
            },
            At::Colon(key) => {
                let key = *key;
                self.expect(character, ':', At::Value(key))
            }
            At::Value(_) if is_space(character) => Read::Took,
            At::Value(key) => {
                let key = *key;
                self.value(key, character, sink)
            }
            At::Word(key, quoted) => match (quoted.read(character), *key) {
                (None, _) => Read::Took,
                (Some(Ok(word)), Key::Name) if word.is_empty() => Read::Wrong,
                (Some(Ok(word)), key) => {
                    let field = if key == Key::Name { &mut self.name } else { &mut self.id };
                    *field = Some(word);
                    self.at = At::Comma;
                    Read::Took
                }
                (Some(Err(_)), _) => Read::Wrong,
            },
            At::Arguments(arguments) => {
                let read = arguments.read(character, sink);
                self.behind(read, None, character, sink)
            }
            At::Whole(key, whole) => {
                let (key, read) = (*key, whole.read(character));
                let ended = matches!(read, Read::Last | Read::Before);
                let raw = (key == Key::Arguments && ended).then(|| std::mem::take(&mut whole.raw));
                self.behind(read, raw, character, sink)
            }
            At::Comma if character == '}' => self.end(sink),
            At::Comma => self.expect(character, ',', At::Key),
        }
    }

    /// Goes on behind a value, where it ended.
    fn behind(&mut self, read: Read, early: Option<String>, character: char, sink: &mut Sink) -> Read {
        if !matches!(read, Read::Last | Read::Before) {
            return read;
        }
        if matches!(self.at, At::Arguments(_)) {
            self.begun = true;
        }
        self.early = early.or_else(|| self.early.take());
        self.at = At::Comma;
        if read == Read::Before { self.read(character, sink) } else { Read::Took }
    }

    fn expect(&mut self, character: char, wanted: char, then: At) -> Read {
        if character == wanted {
            self.at = then;
        } else if !is_space(character) {
            return Read::Wrong;
        }
        Read::Took
    }

    fn key(&mut self, character: char, sink: &mut Sink) -> Read {
        match character {
            '"' => self.at = At::InKey(Quoted::new()),
            '}' => return self.end(sink),
            _ if is_space(character) => {}
            _ => return Read::Wrong,
        }
        Read::Took
    }

    fn named(&mut self, word: &str) -> Read {
        let key = match word {
            "name" | "tool_name" | "function" => Key::Name,
            "arguments" | "parameters" => Key::Arguments,
            "id" => Key::Id,
            "type" => Key::Kind,
            _ => Key::Other,
        };
        if self.strict && matches!(key, Key::Id | Key::Other) {
            return Read::Wrong;
        }
        self.at = At::Colon(key);
        Read::Took
    }

    fn value(&mut self, key: Key, character: char, sink: &mut Sink) -> Read {
        self.at = match (key, &self.name) {
            (Key::Name, None) if character == '"' => At::Word(key, Quoted::new()),
            (Key::Name, None) => return Read::Wrong,
            (Key::Id, _) if character == '"' => At::Word(key, Quoted::new()),
            (Key::Arguments, Some(name)) if !self.begun => {
                At::Arguments(Arguments::new(Tool { name: name.clone(), id: self.id.take() }))
            }
            _ => At::Whole(key, Whole::default()),
        };
        match &self.at {
            // The opening quote is known.
            At::Word(..) => Read::Took,
            _ => self.read(character, sink),
        }
    }

    /// At the closing bracket.
    fn end(&mut self, sink: &mut Sink) -> Read {
        if self.begun {
            return Read::Last;
        }
        let Some(name) = self.name.take() else { return Read::Wrong };
        let tool = Tool { name, id: self.id.take() };
        let is_call = match &self.early {
            Some(arguments) => whole(tool, arguments, sink),
            None => !self.strict && whole(tool, "{}", sink),
        };
        if is_call { Read::Last } else { Read::Wrong }
    }
}
