//! Turns the bytes of tokens into text at character borders.

/// Collects bytes and gives whole characters out; a character may be spread over several tokens.
#[derive(Debug, Default)]
pub struct Utf8Assembler {
    /// The start of an unfinished character, at most three bytes.
    held: Vec<u8>,
}

impl Utf8Assembler {
    /// Takes more bytes; returns every character complete by now. Invalid bytes become U+FFFD.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let mut text = String::with_capacity(self.held.len());
        let mut rest: &[u8] = &self.held;
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    let Some(invalid) = error.error_len() else {
                        rest = after;
                        break;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &after[invalid..];
                }
            }
        }
        self.held = rest.to_vec();
        text
    }

    /// What is left when nothing more comes: U+FFFD for an unfinished character.
    pub fn finish(&mut self) -> &'static str {
        let unfinished = !self.held.is_empty();
        self.held.clear();
        if unfinished { "\u{FFFD}" } else { "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_character_spread_over_tokens_comes_out_once_and_whole() {
        let mut assembler = Utf8Assembler::default();
        let parts: Vec<String> = "a€😀".as_bytes().chunks(1).map(|byte| assembler.push(byte)).collect();
        assert_eq!(parts, ["a", "", "", "€", "", "", "", "😀"]);
        assert_eq!(assembler.finish(), "");
    }

    #[test]
    fn an_unfinished_character_at_the_end_is_replaced() {
        let mut assembler = Utf8Assembler::default();
        assert_eq!(assembler.push(&[b'x', 0xF0, 0x9F]), "x");
        assert_eq!(assembler.finish(), "\u{FFFD}");
        assert_eq!(assembler.finish(), "");
    }

    proptest! {
        #[test]
        fn any_split_gives_what_a_lossy_conversion_of_the_whole_gives(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            cuts in proptest::collection::vec(0usize..64, 0..8),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.push(bytes.len());
            cuts.sort_unstable();
            let mut assembler = Utf8Assembler::default();
            let (mut text, mut from) = (String::new(), 0);
            for cut in cuts {
                text.push_str(&assembler.push(&bytes[from..cut]));
                from = cut;
            }
            text.push_str(assembler.finish());
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}
