//! What a tool is given, passed on while it is written.

use crate::json::{Scan, Scanned, Unescape, is_space};
use crate::sink::Sink;

/// The tool that is called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tool {
    pub(crate) name: String,
    /// What the model calls the call.
    pub(crate) id: Option<String>,
}

/// What came of a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    Took,
    /// It was the last.
    Last,
    /// The value ended before it.
    Before,
    /// This is no call.
    Wrong,
}

/// Reads the arguments of one call: an object, or an object encoded in a string. `null` stands for no arguments.
#[derive(Debug)]
pub(crate) struct Arguments {
    tool: Tool,
    at: At,
}

#[derive(Debug)]
enum At {
    Before,
    Object(Scan),
    /// In a string; `begun` once it is known to be an object's text.
    Encoded {
        unescape: Unescape,
        begun: bool,
    },
    Null(String),
}

impl Arguments {
    pub(crate) fn new(tool: Tool) -> Self {
        Self { tool, at: At::Before }
    }

    pub(crate) fn read(&mut self, character: char, sink: &mut Sink) -> Read {
        match &mut self.at {
            At::Before => self.first(character, sink),
            At::Object(scan) => {
                let scanned = scan.read(character);
                if scanned != Scanned::Wrong {
                    sink.argument(character);
                }
                match scanned {
                    Scanned::Inside => Read::Took,
                    Scanned::Closed => Read::Last,
                    Scanned::Wrong => Read::Wrong,
                }
            }
            At::Encoded { unescape, begun } => {
                let mut text = String::new();
                let ended = unescape.read(character, &mut text);
                let shown = if *begun { text.as_str() } else { text.trim_start_matches(is_space) };
                if !*begun && !shown.is_empty() {
                    if !shown.starts_with('{') {
                        return Read::Wrong;
                    }
                    *begun = true;
                    sink.call(std::mem::take(&mut self.tool.name), self.tool.id.take());
                }
                sink.arguments(shown);
                if ended && !*begun {
                    self.nothing(sink);
                }
                if ended { Read::Last } else { Read::Took }
            }
            At::Null(text) if character.is_ascii_alphabetic() && text.len() < "null".len() => {
                text.push(character);
                Read::Took
            }
            At::Null(text) if text == "null" => {
                self.nothing(sink);
                Read::Before
            }
            At::Null(_) => Read::Wrong,
        }
    }

    fn first(&mut self, character: char, sink: &mut Sink) -> Read {
        match character {
            '{' => {
                sink.call(std::mem::take(&mut self.tool.name), self.tool.id.take());
                let mut scan = Scan::default();
                scan.read(character);
                sink.argument(character);
                self.at = At::Object(scan);
            }
            '"' => self.at = At::Encoded { unescape: Unescape::default(), begun: false },
            'n' => self.at = At::Null("n".to_owned()),
            _ if is_space(character) => {}
            _ => return Read::Wrong,
        }
        Read::Took
    }

    /// The tool is given nothing.
    fn nothing(&mut self, sink: &mut Sink) {
        sink.call(std::mem::take(&mut self.tool.name), self.tool.id.take());
        sink.arguments("{}");
    }
}

/// A call whose arguments were read as a whole. False where they are none.
pub(crate) fn whole(tool: Tool, arguments: &str, sink: &mut Sink) -> bool {
    let mut reader = Arguments::new(tool);
    let before = sink.calls();
    for character in arguments.chars().chain([' ']) {
        match reader.read(character, sink) {
            Read::Took => {}
            Read::Last | Read::Before => return true,
            Read::Wrong => break,
        }
    }
    sink.calls() > before
}
