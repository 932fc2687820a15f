//! Where a long text may be cut without changing its tokens.
//!
//! llama.cpp's tokeniser first finds the special tokens in a text, in a time that grows with the square of
//! their number: a few megabytes of `<|im_start|>` took it five minutes. A special token is a border that
//! no other token crosses, so a text with many of them is cut there and tokenised part by part.

use aho_corasick::{AhoCorasick, MatchKind};
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token_type::LlamaTokenAttr;
use llama_cpp_2::vocab::LlamaVocab;

/// Special tokens in one part: few enough to be fast, and more than any ordinary prompt has.
const SPECIALS_MAX: usize = 1024;

/// Finds the special tokens of a vocabulary in a text. `None` where there are none to find.
pub(crate) struct Specials {
    /// Those found in any text.
    user_defined: Option<AhoCorasick>,
    /// Those and the control tokens, which are parsed on request.
    all: Option<AhoCorasick>,
}

impl Specials {
    pub(crate) fn new(vocabulary: &LlamaVocab) -> Self {
        let is = |token: LlamaToken, attr| vocabulary.attr(token).contains(attr);
        let texts = |wanted: &dyn Fn(LlamaToken) -> bool| -> Vec<String> {
            let tokens = vocabulary.tokens().filter(|token| wanted(*token));
            let texts = tokens.filter_map(|token| vocabulary.text(token)?.to_str().ok().map(str::to_owned));
            texts.filter(|text| !text.is_empty()).collect()
        };
        let user_defined = |token| is(token, LlamaTokenAttr::UserDefined);
        let any =
            |token| user_defined(token) || is(token, LlamaTokenAttr::Control) || is(token, LlamaTokenAttr::Unknown);
        Self { user_defined: automaton(&texts(&user_defined)), all: automaton(&texts(&any)) }
    }

    /// The parts of a text; together they are the text.
    pub(crate) fn parts<'t>(&self, text: &'t str, control: bool) -> Vec<&'t str> {
        let automaton = if control { &self.all } else { &self.user_defined };
        automaton.as_ref().map_or_else(|| vec![text], |automaton| cut(automaton, text))
    }
}

fn automaton(texts: &[String]) -> Option<AhoCorasick> {
    if texts.is_empty() {
        return None;
    }
    // Too large an automaton is the only error, at gigabytes of special tokens.
    AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(texts).ok()
}

fn cut<'t>(automaton: &AhoCorasick, text: &'t str) -> Vec<&'t str> {
    let mut parts = Vec::new();
    let mut from = 0;
    for found in automaton.find_iter(text).skip(SPECIALS_MAX).step_by(SPECIALS_MAX) {
        parts.push(&text[from..found.start()]);
        from = found.start();
    }
    parts.push(&text[from..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_before_every_so_many_special_tokens() {
        let automaton = automaton(&["<a>".into(), "<ab>".into()]).unwrap();
        let text = format!("é{}rest<ab>", "x<a>".repeat(2 * SPECIALS_MAX));
        let parts = cut(&automaton, &text);
        assert_eq!(parts.concat(), text);
        let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        assert_eq!(lengths, [2 + 4 * SPECIALS_MAX + 1, 4 * SPECIALS_MAX + 3, 4]);
        assert_eq!(cut(&automaton, "<a>few<ab>"), ["<a>few<ab>"]);
        assert_eq!(cut(&automaton, ""), [""]);
    }
}
