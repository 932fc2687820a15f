//! Finds stop strings in a stream of text and holds back what may yet become one.

/// Watches for several stop strings at once. Each follows the text with the automaton of Knuth, Morris
/// and Pratt, so the cost of a byte does not depend on how long the strings are.
#[derive(Debug)]
pub struct StopMatcher {
    patterns: Vec<Pattern>,
    /// Text seen but not given out: the longest suffix that begins a stop string.
    held: String,
}

/// What to do after some text was pushed.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// Give this text out and go on.
    Text(String),
    /// A stop string came: give this text out, which ends before it, and end.
    Stopped {
        /// The text.
        text: String,
        /// Which stop string, by its place in the list.
        stop: u32,
    },
}

#[derive(Debug)]
struct Pattern {
    bytes: Vec<u8>,
    /// Its place in the list.
    place: u32,
    /// For each prefix, the length of its longest proper prefix that is also its suffix.
    failure: Vec<usize>,
    /// How many bytes of the pattern the end of the text matches.
    matched: usize,
}

impl StopMatcher {
    /// A matcher for these strings; empty ones are ignored.
    #[must_use]
    pub fn new(stops: &[String]) -> Self {
        let numbered = (0..).zip(stops).filter(|(_, stop)| !stop.is_empty());
        let patterns = numbered.map(|(place, stop)| Pattern::new(place, stop)).collect();
        Self { patterns, held: String::new() }
    }

    /// Takes more text.
    pub fn push(&mut self, text: &str) -> Progress {
        let before = self.held.len();
        self.held.push_str(text);
        for (offset, byte) in text.bytes().enumerate() {
            let end = before + offset + 1;
            let complete = self.patterns.iter_mut().filter_map(|pattern| pattern.advance(byte)).max();
            if let Some((length, stop)) = complete {
                self.held.truncate(end - length);
                // The text that matched is gone with this; what comes after begins anew.
                self.patterns.iter_mut().for_each(|pattern| pattern.matched = 0);
                return Progress::Stopped { text: std::mem::take(&mut self.held), stop };
            }
        }
        let undecided = self.patterns.iter().map(|pattern| pattern.matched).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - undecided);
        Progress::Text(std::mem::replace(&mut self.held, rest))
    }

    /// What was held back, when nothing more comes.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

impl Pattern {
    fn new(place: u32, stop: &str) -> Self {
        let bytes = stop.as_bytes().to_vec();
        let mut failure = vec![0; bytes.len()];
        let mut length = 0;
        for index in 1..bytes.len() {
            while length > 0 && bytes[index] != bytes[length] {
                length = failure[length - 1];
            }
            if bytes[index] == bytes[length] {
                length += 1;
            }
            failure[index] = length;
        }
        Self { bytes, place, failure, matched: 0 }
    }

    /// Follows one byte; the pattern's length and place when it is complete.
    fn advance(&mut self, byte: u8) -> Option<(usize, u32)> {
        while self.matched > 0 && self.bytes[self.matched] != byte {
            self.matched = self.failure[self.matched - 1];
        }
        if self.bytes[self.matched] == byte {
            self.matched += 1;
        }
        (self.matched == self.bytes.len()).then_some((self.bytes.len(), self.place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matcher(stops: &[&str]) -> StopMatcher {
        StopMatcher::new(&stops.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn text_that_may_become_a_stop_string_is_held_until_decided() {
        let mut matcher = matcher(&["END"]);
        assert_eq!(matcher.push("one E"), Progress::Text("one ".into()));
        assert_eq!(matcher.push("N"), Progress::Text(String::new()));
        assert_eq!(matcher.push("x"), Progress::Text("ENx".into()));
        assert_eq!(matcher.push("EN"), Progress::Text(String::new()));
        assert_eq!(matcher.finish(), "EN");
    }

    #[test]
    fn the_text_ends_before_the_stop_string_that_completes_first() {
        let mut matcher = matcher(&["lazy dog", "fox"]);
        assert_eq!(matcher.push("the fox and the lazy dog"), Progress::Stopped { text: "the ".into(), stop: 1 });
        // Nothing is left of it when the rest of the text ends.
        assert_eq!(matcher.push(""), Progress::Text(String::new()));
        assert_eq!(matcher.finish(), "");
    }

    #[test]
    fn what_follows_a_stop_string_begins_anew() {
        let mut matcher = matcher(&["1, 12", "never"]);
        assert_eq!(matcher.push("0, 1, 12"), Progress::Stopped { text: "0, ".into(), stop: 0 });
        assert_eq!(matcher.push(""), Progress::Text(String::new()));
        assert_eq!(matcher.push("1, 1"), Progress::Text(String::new()));
        assert_eq!(matcher.push("2"), Progress::Stopped { text: String::new(), stop: 0 });
    }

    #[test]
    fn without_stop_strings_everything_passes() {
        assert_eq!(matcher(&[]).push("any"), Progress::Text("any".into()));
    }

    #[test]
    fn a_ten_thousand_character_stop_string_of_one_letter_is_cheap() {
        let stop = "a".repeat(10_000);
        let mut matcher = matcher(&[&stop]);
        for _ in 0..9_999 {
            assert_eq!(matcher.push("a"), Progress::Text(String::new()));
        }
        assert_eq!(matcher.push("b"), Progress::Text(format!("{}b", "a".repeat(9_999))));
    }

    proptest! {
        #[test]
        fn any_split_gives_what_a_search_of_the_whole_gives(
            text in "[abé]{0,24}", stops in proptest::collection::vec("[abé]{1,4}", 0..3), step in 1usize..5,
        ) {
            let mut matcher = StopMatcher::new(&stops);
            let mut out = String::new();
            let mut stopped = false;
            let characters: Vec<char> = text.chars().collect();
            for part in characters.chunks(step) {
                match matcher.push(&part.iter().collect::<String>()) {
                    Progress::Text(text) => out.push_str(&text),
                    Progress::Stopped { text, .. } => { out.push_str(&text); stopped = true; break; }
                }
            }
            if !stopped { out.push_str(&matcher.finish()); }
            // The naive answer: the stop string that ends first; of those, the longest.
            let first = (0..=text.len()).filter(|end| text.is_char_boundary(*end)).find_map(|end| {
                stops.iter().filter(|stop| text[..end].ends_with(stop.as_str())).map(String::len).max()
                    .map(|length| text[..end - length].to_owned())
            });
            prop_assert_eq!(stopped, first.is_some());
            prop_assert_eq!(out, first.unwrap_or(text));
        }
    }
}
