//! Finds DRY's sequence breakers in a text that comes token by token.
//!
//! llama.cpp lists for each breaker the tokens that it may begin in and how the rest of it would be tokenised.
//! Here the bytes are compared, so a breaker is found however it falls into tokens.

/// The breakers and the end of the text so far.
#[derive(Debug)]
pub(super) struct Breakers {
    breakers: Vec<Vec<u8>>,
    /// As many of the last bytes as may belong to a breaker that goes on.
    tail: Vec<u8>,
}

impl Breakers {
    pub(super) fn new(breakers: &[String]) -> Self {
        let breakers = breakers.iter().filter(|breaker| !breaker.is_empty());
        Self { breakers: breakers.map(|breaker| breaker.as_bytes().to_vec()).collect(), tail: Vec::new() }
    }

    /// Whether a breaker ends in these bytes, the next ones of the text. Control tokens have none, and no breaker
    /// reaches across them.
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        if bytes.is_empty() {
            self.tail.clear();
            return false;
        }
        let old = self.tail.len();
        self.tail.extend_from_slice(bytes);
        let tail = &self.tail;
        // With at most one byte less than the breaker before them, it cannot have ended earlier.
        let found =
            self.breakers.iter().any(|breaker| is_in(breaker, &tail[(old + 1).saturating_sub(breaker.len())..]));
        let kept = self.breakers.iter().map(Vec::len).max().unwrap_or(1) - 1;
        self.tail.drain(..self.tail.len().saturating_sub(kept));
        found
    }

    /// Whether these bytes hold a whole breaker.
    pub(super) fn are_in(&self, bytes: &[u8]) -> bool {
        self.breakers.iter().any(|breaker| is_in(breaker, bytes))
    }
}

fn is_in(breaker: &[u8], bytes: &[u8]) -> bool {
    bytes.windows(breaker.len()).any(|window| window == breaker)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After which of these pieces of text a breaker ended.
    fn ends(breakers: &[&str], pieces: &[&str]) -> Vec<bool> {
        let breakers: Vec<String> = breakers.iter().map(|breaker| (*breaker).to_owned()).collect();
        let mut breakers = Breakers::new(&breakers);
        pieces.iter().map(|piece| breakers.push(piece.as_bytes())).collect()
    }

    #[test]
    fn a_breaker_is_found_however_it_falls_into_tokens() {
        assert_eq!(ends(&["\n"], &["a", "b\nc", "\n", "d"]), [false, true, true, false]);
        assert_eq!(ends(&["abc"], &["xa", "b", "cx", "abc", "ab", "ac"]), [false, false, true, true, false, false]);
        assert_eq!(ends(&["aab"], &["a", "a", "a", "b"]), [false, false, false, true]);
        assert_eq!(ends(&["long one", ":"], &["x:", "long ", "one", "one"]), [true, false, true, false]);
    }

    #[test]
    fn a_breaker_counts_once_and_not_across_control_tokens() {
        // The long one makes it remember more than `:` needs.
        assert_eq!(ends(&[":", "0123456789"], &["a:", "b", "c"]), [true, false, false]);
        assert_eq!(ends(&["ab"], &["a", "", "b"]), [false, false, false]);
    }

    #[test]
    fn without_breakers_nothing_is_found() {
        assert_eq!(ends(&[], &["a", "\n"]), [false, false]);
        assert_eq!(ends(&[""], &["a", ""]), [false, false]);
    }
}
