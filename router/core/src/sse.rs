//! Server-sent events, read from a stream of bytes (WHATWG HTML, section 9.2.6).

/// The longest event, in bytes: far more than any chunk of a completion.
const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Puts events together from bytes that come in pieces.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    data: String,
    has_data: bool,
    /// A carriage return ended the last line: a line feed right after it ends nothing.
    after_return: bool,
}

/// An event longer than we keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {EVENT_BYTES_MAX} bytes")]
pub struct TooLong;

impl Parser {
    /// Takes bytes; returns the data of every event complete by now.
    ///
    /// # Errors
    /// [`TooLong`]; the stream cannot be followed after that.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, TooLong> {
        let mut events = Vec::new();
        for byte in bytes {
            let after_return = std::mem::replace(&mut self.after_return, *byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => events.extend(self.end_line()),
                _ => self.line.push(*byte),
            }
            if self.line.len() + self.data.len() > EVENT_BYTES_MAX {
                return Err(TooLong);
            }
        }
        Ok(events)
    }

    /// Reads the line that just ended; an empty one ends the event.
    fn end_line(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            let complete = std::mem::take(&mut self.has_data);
            return complete.then(|| std::mem::take(&mut self.data));
        }
        let value = line.strip_prefix(b"data:")?;
        let value = value.strip_prefix(b" ").unwrap_or(value);
        if std::mem::replace(&mut self.has_data, true) {
            self.data.push('\n');
        }
        self.data.push_str(&String::from_utf8_lossy(value));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Vec<String> {
        Parser::default().push(text.as_bytes()).unwrap()
    }

    #[test]
    fn events_end_at_empty_lines_and_other_fields_are_ignored() {
        assert_eq!(parse("data: a\n\n"), ["a"]);
        assert_eq!(parse("data:a\r\ndata: b\r\n\r\n"), ["a\nb"]);
        assert_eq!(parse(": comment\nevent: x\nid: 1\ndata:  a\r\r"), [" a"]);
        assert_eq!(parse("data\n\nevent: x\n\n"), [""; 0]);
        assert_eq!(parse("data: unfinished\n"), [""; 0]);
    }

    #[test]
    fn an_endless_line_is_an_error() {
        assert_eq!(Parser::default().push(&vec![b'x'; EVENT_BYTES_MAX + 1]), Err(TooLong));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_events(
            text in "(data: ?[a-c]{0,3}|:x|event: y|)(\r\n|\n|\r)*", more in "(data:[a-c]{0,3}\n|\n|\r\n){0,12}",
            cut in 0usize..64,
        ) {
            let whole = format!("{text}{more}");
            let cut = cut.min(whole.len());
            let mut parser = Parser::default();
            let mut events = parser.push(&whole.as_bytes()[..cut]).unwrap();
            events.extend(parser.push(&whole.as_bytes()[cut..]).unwrap());
            prop_assert_eq!(events, parse(&whole));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = Parser::default().push(&bytes);
        }
    }
}
