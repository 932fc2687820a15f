//! Where pieces of an answer are put together.

use crate::Piece;

/// Pieces of one push; what belongs together becomes one piece.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    pieces: Vec<Piece>,
    calls: u32,
}

impl Sink {
    pub(crate) fn take(&mut self) -> Vec<Piece> {
        std::mem::take(&mut self.pieces)
    }

    /// Calls so far.
    pub(crate) fn calls(&self) -> u32 {
        self.calls
    }

    pub(crate) fn text(&mut self, more: &str) {
        match self.pieces.last_mut() {
            _ if more.is_empty() => {}
            Some(Piece::Text(text)) => text.push_str(more),
            _ => self.pieces.push(Piece::Text(more.to_owned())),
        }
    }

    pub(crate) fn thought(&mut self, more: &str) {
        match self.pieces.last_mut() {
            _ if more.is_empty() => {}
            Some(Piece::Reasoning(text)) => text.push_str(more),
            _ => self.pieces.push(Piece::Reasoning(more.to_owned())),
        }
    }

    /// A call begins.
    pub(crate) fn call(&mut self, name: String, id: Option<String>) {
        self.pieces.push(Piece::Call { index: self.calls, id, name });
        self.calls += 1;
    }

    /// More arguments of the call that began last.
    pub(crate) fn arguments(&mut self, more: &str) {
        let index = self.calls.saturating_sub(1);
        match self.pieces.last_mut() {
            _ if more.is_empty() => {}
            Some(Piece::Arguments { json, .. }) => json.push_str(more),
            _ => self.pieces.push(Piece::Arguments { index, json: more.to_owned() }),
        }
    }

    pub(crate) fn argument(&mut self, character: char) {
        self.arguments(character.encode_utf8(&mut [0; 4]));
    }
}
