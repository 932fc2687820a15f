//! Answers of models, with calls and thoughts, in any number of pushes; and the templates that dialects are told by.
#![no_main]

use allerac_parse::{Dialect, Parser, Piece};
use libfuzzer_sys::fuzz_target;

/// What comes of an answer, adjacent pieces of one kind joined.
fn read<'t>(dialect: Dialect, calls: bool, thinking: bool, parts: impl Iterator<Item = &'t str>) -> Vec<Piece> {
    let mut parser = Parser::new(dialect, calls, thinking);
    let mut pieces: Vec<Piece> = parts.flat_map(|part| parser.push(part)).collect();
    pieces.extend(parser.finish());
    let mut joined: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (joined.last_mut(), piece) {
            (Some(Piece::Text(text)), Piece::Text(more)) => *text += &more,
            (Some(Piece::Reasoning(text)), Piece::Reasoning(more)) => *text += &more,
            (Some(Piece::Arguments { json, .. }), Piece::Arguments { json: more, .. }) => *json += &more,
            (_, piece) => joined.push(piece),
        }
    }
    joined
}

fuzz_target!(|bytes: &[u8]| {
    // The first bytes say how the rest is read.
    let [settings, step, text @ ..] = bytes else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let _ = Dialect::of_template(text);
    let dialect = Dialect::ALL[usize::from(settings / 4) % Dialect::ALL.len()];
    let _ = dialect.begins_in_thought(text);
    let (calls, thinking) = (settings & 1 == 1, settings & 2 == 2);
    let whole = read(dialect, calls, thinking, std::iter::once(text));
    // In pushes of a few characters it is the same.
    let step = usize::from(step % 16) + 1;
    let cuts: Vec<usize> = text.char_indices().map(|(place, _)| place).step_by(step).chain([text.len()]).collect();
    let parts = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]);
    assert_eq!(read(dialect, calls, thinking, parts), whole);
    // Calls come in their order, and each but one that is cut has arguments.
    let indices = whole.iter().filter_map(|piece| if let Piece::Call { index, .. } = piece { Some(*index) } else { None });
    assert!(indices.eq(0..u32::try_from(whole.iter().filter(|piece| matches!(piece, Piece::Call { .. })).count()).unwrap()));
    if !calls {
        assert!(whole.iter().all(|piece| matches!(piece, Piece::Text(_) | Piece::Reasoning(_))));
    }
});
