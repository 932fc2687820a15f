//! What a custom tool is given: the text of the one argument that models write it as.

use crate::json::{Unescape, is_space};

/// The argument.
pub(crate) const INPUT: &str = "input";
/// Bytes of what stands before the text where it is written as it should be.
const HEAD_BYTES_MAX: usize = 64;

/// Reads the arguments of a call while they stream in.
#[derive(Debug, Clone, Default)]
pub struct Input {
    at: At,
}

#[derive(Debug, Clone)]
enum At {
    /// Before the text.
    Head(String),
    Text(Unescape),
    /// Something else, of which the whole must be seen.
    Other(String),
    Done,
}

impl Default for At {
    fn default() -> Self {
        Self::Head(String::new())
    }
}

impl Input {
    /// Reads on; the text that came.
    pub fn push(&mut self, json: &str) -> String {
        let mut text = String::new();
        for character in json.chars() {
            match &mut self.at {
                At::Head(head) => {
                    head.push(character);
                    match begun(head) {
                        Some(true) => self.at = At::Text(Unescape::default()),
                        Some(false) => self.at = At::Other(std::mem::take(head)),
                        None => {}
                    }
                }
                At::Text(unescape) => {
                    if unescape.read(character, &mut text) {
                        self.at = At::Done;
                    }
                }
                At::Other(whole) => whole.push(character),
                At::Done => {}
            }
        }
        text
    }

    /// What is left of the text, now that nothing follows.
    pub fn finish(&mut self) -> String {
        match std::mem::replace(&mut self.at, At::Done) {
            At::Head(whole) | At::Other(whole) => other(whole),
            At::Text(_) | At::Done => String::new(),
        }
    }
}

/// The text in arguments that are all there.
#[must_use]
pub fn input_of(arguments: &str) -> String {
    let mut input = Input::default();
    let text = input.push(arguments);
    text + &input.finish()
}

/// Whether the text begins behind this; `None` where more must be seen.
fn begun(head: &str) -> Option<bool> {
    let mut rest = head;
    for part in ["{", "\"input\"", ":", "\""] {
        rest = rest.trim_start_matches(is_space);
        match rest.strip_prefix(part) {
            Some(behind) => rest = behind,
            None if part.starts_with(rest) && head.len() <= HEAD_BYTES_MAX => return None,
            None => return Some(false),
        }
    }
    Some(true)
}

/// Arguments of another form: the argument where there is one, else all of them.
fn other(whole: String) -> String {
    let value: Option<serde_json::Value> = serde_json::from_str(&whole).ok();
    let found = value.as_ref().and_then(|value| value.get(INPUT));
    match found {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_streams() {
        let json = "{ \"input\" : \"a\\n\\\"\\u00e9\\\\\" }";
        let mut input = Input::default();
        let parts: Vec<String> = json.chars().map(|character| input.push(&character.to_string())).collect();
        assert_eq!(parts.concat() + &input.finish(), "a\n\"é\\");
        assert_eq!(input_of(json), "a\n\"é\\");
        assert_eq!(input_of("{\"input\": \"cut"), "cut");
    }

    #[test]
    fn what_else_a_model_writes_is_text_too() {
        assert_eq!(input_of("{\"why\": 1, \"input\": \"x\"}"), "x");
        assert_eq!(input_of("{\"input\": {\"a\": 1}}"), "{\"a\":1}");
        assert_eq!(input_of("{\"patch\": \"x\"}"), "{\"patch\": \"x\"}");
        assert_eq!(input_of("*** Begin"), "*** Begin");
        assert_eq!(input_of(""), "");
    }
}
