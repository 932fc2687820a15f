//! JSON as it streams in: where a value ends, and what an encoded string says.

/// Brackets that may be open at once; nobody reads deeper JSON.
const DEPTH_MAX: usize = 128;

/// White space, as JSON has it.
pub(crate) fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r')
}

/// What a character is in a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scanned {
    Inside,
    /// The last of it.
    Closed,
    /// Not JSON.
    Wrong,
}

/// Finds the end of an object or a list, by its brackets.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// The closing brackets that are due.
    due: Vec<char>,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    pub(crate) fn read(&mut self, character: char) -> Scanned {
        if self.in_string {
            let escaped = std::mem::take(&mut self.escaped);
            match character {
                '"' if !escaped => self.in_string = false,
                '\\' if !escaped => self.escaped = true,
                _ => {}
            }
            return Scanned::Inside;
        }
        match character {
            '{' | '[' if self.due.len() < DEPTH_MAX => self.due.push(if character == '{' { '}' } else { ']' }),
            '}' | ']' => {
                if self.due.pop() != Some(character) {
                    return Scanned::Wrong;
                }
                if self.due.is_empty() {
                    return Scanned::Closed;
                }
            }
            '"' => self.in_string = true,
            ',' | ':' | '+' | '-' | '.' => {}
            _ if is_space(character) || character.is_ascii_alphanumeric() => {}
            _ => return Scanned::Wrong,
        }
        Scanned::Inside
    }
}

/// A string, read to its end before it is understood.
#[derive(Debug)]
pub(crate) struct Quoted {
    raw: String,
    escaped: bool,
}

impl Quoted {
    /// Behind the opening quote.
    pub(crate) fn new() -> Self {
        Self { raw: "\"".to_owned(), escaped: false }
    }

    /// Reads on; what the string says, once it ended. An error where that is nothing.
    pub(crate) fn read(&mut self, character: char) -> Option<Result<String, serde_json::Error>> {
        self.raw.push(character);
        let escaped = std::mem::take(&mut self.escaped);
        match character {
            '"' if !escaped => return Some(serde_json::from_str(&self.raw)),
            '\\' if !escaped => self.escaped = true,
            _ => {}
        }
        None
    }
}

/// What an encoded string says, character by character.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unescape {
    /// An escape that is not whole yet, with its backslash.
    escape: String,
    /// The first half of a character beyond the basic plane.
    high: Option<u32>,
}

impl Unescape {
    /// Reads on behind the opening quote; adds what it says to `text`. True at the closing quote.
    pub(crate) fn read(&mut self, character: char, text: &mut String) -> bool {
        if self.escape.is_empty() {
            match character {
                '"' => {
                    self.lone(text);
                    return true;
                }
                '\\' => self.escape.push(character),
                _ => {
                    self.lone(text);
                    text.push(character);
                }
            }
            return false;
        }
        self.escape.push(character);
        if self.escape.starts_with("\\u") {
            if self.escape.len() == 2 {
                return false;
            }
            if !character.is_ascii_hexdigit() {
                // No escape after all.
                self.lone(text);
                text.push_str(&std::mem::take(&mut self.escape));
            } else if self.escape.len() == "\\u0000".len() {
                let unit = u32::from_str_radix(&self.escape[2..], 16).unwrap_or(0);
                self.escape.clear();
                self.unit(unit, text);
            }
            return false;
        }
        self.lone(text);
        match character {
            'n' => text.push('\n'),
            't' => text.push('\t'),
            'r' => text.push('\r'),
            'b' => text.push('\u{8}'),
            'f' => text.push('\u{c}'),
            '"' | '\\' | '/' => text.push(character),
            _ => text.push_str(&self.escape),
        }
        self.escape.clear();
        false
    }

    /// A unit of UTF-16.
    fn unit(&mut self, unit: u32, text: &mut String) {
        match (self.high.take(), unit) {
            (Some(high), 0xDC00..=0xDFFF) => {
                let character = 0x10000 + ((high - 0xD800) << 10) + (unit - 0xDC00);
                text.push(char::from_u32(character).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            (before, 0xD800..=0xDBFF) => {
                self.high = before;
                self.lone(text);
                self.high = Some(unit);
            }
            (before, _) => {
                self.high = before;
                self.lone(text);
                text.push(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
        }
    }

    /// A first half that has no second.
    fn lone(&mut self, text: &mut String) {
        if self.high.take().is_some() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The end of the value that a text begins with.
    fn end(text: &str) -> Option<usize> {
        let mut scan = Scan::default();
        for (index, character) in text.char_indices() {
            match scan.read(character) {
                Scanned::Inside => {}
                Scanned::Closed => return Some(index + 1),
                Scanned::Wrong => return None,
            }
        }
        None
    }

    #[test]
    fn a_value_ends_with_its_last_bracket() {
        assert_eq!(end(r#"{"a": "}\"}", "b": [{}]} x"#), Some(24));
        assert_eq!(end(r#"{"a": [1}"#), None);
        assert_eq!(end(r#"{"a": 1</tool_call>"#), None);
        assert_eq!(end(&"[".repeat(DEPTH_MAX + 1)), None);
    }

    fn unescaped(raw: &str) -> String {
        let (mut unescape, mut text) = (Unescape::default(), String::new());
        raw.chars().skip(1).take_while(|character| !unescape.read(*character, &mut text)).for_each(drop);
        text
    }

    proptest! {
        #[test]
        fn a_string_says_what_it_encodes(text in any::<String>()) {
            let raw = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(unescaped(&raw), text.clone());
            let ascii: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            prop_assert_eq!(unescaped(&format!("\"{ascii}\"")), text);
        }
    }

    #[test]
    fn half_a_character_is_replaced_and_a_wrong_escape_kept() {
        assert_eq!(unescaped(r#""\ud83dx\ude00\ud83d""#), "\u{fffd}x\u{fffd}\u{fffd}");
        assert_eq!(unescaped(r#""\q\u12x4""#), r"\q\u12x4");
    }
}
