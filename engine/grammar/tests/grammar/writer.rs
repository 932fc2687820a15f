//! A vocabulary, and ways to write in a grammar.

use allerac_engine_core::{Constraint, Grammar, TokenId, TokenMask};
use allerac_engine_grammar::{Compiler, Vocabulary};

/// Tokens of several bytes, among them some that cut characters and join parts of JSON.
const WORDS: &[&[u8]] = &[
    b"\": ", b"\", \"", b"{\"", b"\"}", b"},", b"]]", b": {", b"true", b"false", b"nul", b"l}", b"10", b"-1", b".5",
    b"e1", b"abc", b"ab", b"a\"", b"\n  ", b"  ", b", ", b"\xC3", b"\xA9x", b"\\u", b"\\\"", b"name", b"\"k1",
    b"\"k0\"",
];
/// Two ends of a turn and a control token, after bytes and words.
pub(crate) const ENDS: [TokenId; 2] = [TokenId(256), TokenId(257)];
pub(crate) const CONTROL: TokenId = TokenId(258);

fn pieces() -> Vec<Vec<u8>> {
    let bytes = (0..=255u8).map(|byte| vec![byte]);
    // An end of a turn may have bytes in a vocabulary; they are no text.
    let special = [b"</s>".to_vec(), Vec::new(), Vec::new()];
    bytes.chain(special).chain(WORDS.iter().map(|word| word.to_vec())).collect()
}

pub(crate) fn piece(token: TokenId) -> Vec<u8> {
    pieces().swap_remove(token.0 as usize)
}

pub(crate) fn compiler() -> Compiler {
    let bytes = |text: &str| text.bytes().map(|byte| TokenId(byte.into())).collect();
    let names = [(ENDS[0], b"</s>".to_vec()), (CONTROL, b"[CALL]".to_vec())];
    Compiler::new(Vocabulary::new(pieces(), ENDS.to_vec(), names, bytes)).unwrap()
}

pub(crate) fn begin(grammar: &Grammar) -> Box<dyn Constraint> {
    compiler().begin(grammar).unwrap()
}

/// Whether a whole text is in a grammar, written byte by byte; and so in whatever else spells it.
pub(crate) fn accepts(grammar: &Grammar, text: &str) -> bool {
    let mut constraint = begin(grammar);
    for byte in text.bytes() {
        let token = TokenId(byte.into());
        if constraint.is_complete() || !constraint.allowed().unwrap().contains(token) {
            return false;
        }
        constraint.accept(token).unwrap();
    }
    constraint.is_complete() || ENDS.iter().all(|end| constraint.allowed().unwrap().contains(*end))
}

/// Writes with choices from `random`, mostly short ones; the text, and whether it came to its end.
pub(crate) fn write(
    constraint: &mut dyn Constraint,
    mut random: impl FnMut() -> u32,
    look_ahead: bool,
) -> (String, bool) {
    let mut text = Vec::new();
    for _ in 0..600 {
        let forced = if look_ahead { constraint.forced() } else { Vec::new() };
        let allowed = constraint.allowed().unwrap().clone();
        check(&allowed, &forced);
        let candidates: Vec<TokenId> = allowed.iter().collect();
        // Ends, quotes and closing brackets are preferred, or nothing would ever end.
        let closing = candidates
            .iter()
            .copied()
            .find(|token| ENDS.contains(token) || matches!(piece(*token)[..], [b'"' | b'}' | b']'] | [b'"', b'}']));
        let token =
            closing.filter(|_| !random().is_multiple_of(3)).unwrap_or(candidates[random() as usize % candidates.len()]);
        if ENDS.contains(&token) {
            return (String::from_utf8(text).unwrap(), true);
        }
        text.extend_from_slice(&piece(token));
        constraint.accept(token).unwrap();
        if constraint.is_complete() {
            return (String::from_utf8(text).unwrap(), true);
        }
    }
    (String::from_utf8_lossy(&text).into_owned(), false)
}

fn check(allowed: &TokenMask, forced: &[TokenId]) {
    assert!(!allowed.is_empty());
    assert!(!allowed.contains(CONTROL), "a control token stands for no text");
    assert_eq!(allowed.contains(ENDS[0]), allowed.contains(ENDS[1]), "all ends are the same");
    assert!(allowed.iter().all(|token| token.0 < u32::try_from(pieces().len()).unwrap()));
    if let Some(first) = forced.first() {
        assert!(allowed.contains(*first), "what is forced is allowed");
    }
}
