//! One answer of a running request: what it costs, and how it is read.

use allerac_parse::{Parser, Piece};
use uuid::Uuid;

use crate::progress::call_id;

/// One answer.
#[derive(Debug)]
pub(crate) struct Choice {
    started: bool,
    parser: Parser,
    /// Calls that it may have; more are left out.
    calls_max: u32,
    calls: u32,
    pub(crate) cached_tokens: u32,
    pub(crate) completion_tokens: u32,
    /// Of these, thought.
    pub(crate) reasoning_tokens: u32,
}

impl Choice {
    pub(crate) fn new(parser: Parser, calls_max: u32) -> Self {
        Self {
            started: false,
            parser,
            calls_max,
            calls: 0,
            cached_tokens: 0,
            completion_tokens: 0,
            reasoning_tokens: 0,
        }
    }

    pub(crate) fn start(&mut self, cached_tokens: u32) {
        self.started = true;
        self.cached_tokens = cached_tokens;
    }

    pub(crate) fn has_started(&self) -> bool {
        self.started
    }

    /// Whether it called a tool.
    pub(crate) fn has_called(&self) -> bool {
        self.calls > 0
    }

    /// Reads on, after so many tokens in all. Calls get a name where the model gave none.
    pub(crate) fn read(&mut self, request_id: Uuid, index: u32, text: &str, tokens: u32) -> Vec<Piece> {
        if self.parser.is_thinking() {
            self.reasoning_tokens += tokens.saturating_sub(self.completion_tokens);
        }
        self.completion_tokens = tokens;
        let pieces = self.parser.push(text);
        self.admit(request_id, index, pieces)
    }

    /// Reads the last of it.
    pub(crate) fn end(&mut self, request_id: Uuid, index: u32, tail: &str, tokens: u32) -> Vec<Piece> {
        let mut pieces = self.read(request_id, index, tail, tokens);
        let held = self.parser.finish();
        pieces.extend(self.admit(request_id, index, held));
        pieces
    }

    /// Names calls, and leaves out those that are too many.
    fn admit(&mut self, request_id: Uuid, choice: u32, pieces: Vec<Piece>) -> Vec<Piece> {
        let named = pieces.into_iter().filter_map(|piece| match piece {
            Piece::Call { index, .. } | Piece::Arguments { index, .. } if index >= self.calls_max => None,
            Piece::Call { index, id, name } => {
                self.calls = self.calls.max(index + 1);
                Some(Piece::Call { index, id: Some(id.unwrap_or_else(|| call_id(request_id, choice, index))), name })
            }
            other => Some(other),
        });
        named.collect()
    }
}
