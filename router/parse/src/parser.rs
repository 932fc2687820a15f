//! Reads an answer while it streams in.

use crate::Dialect;

/// A piece of an answer. Concatenated, the pieces of one kind are the whole of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// What is said.
    Text(String),
    /// What is thought.
    Reasoning(String),
    /// A tool begins to be called; what it is given follows.
    Call {
        /// The call's place among the calls of this answer, from 0.
        index: u32,
        /// What the model calls this call, where it gives it a name.
        id: Option<String>,
        /// The tool.
        name: String,
    },
    /// More of what a tool is given: a piece of JSON text.
    Arguments {
        /// The call's place.
        index: u32,
        /// The piece.
        json: String,
    },
}

/// Reads one answer.
#[derive(Debug)]
pub struct Parser {
    thinking: bool,
}

impl Parser {
    /// A reader of one answer. `calls` says whether tools may be called; `thinking`, whether the prompt has begun the
    /// model's thoughts.
    #[must_use]
    pub fn new(_dialect: Dialect, _calls: bool, thinking: bool) -> Self {
        Self { thinking }
    }

    /// Reads on. What may yet become a call or the end of a thought is held back.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        if text.is_empty() { Vec::new() } else { vec![Piece::Text(text.to_owned())] }
    }

    /// Whatever was held back, now that nothing follows.
    pub fn finish(&mut self) -> Vec<Piece> {
        Vec::new()
    }

    /// Whether what comes next is thought.
    #[must_use]
    pub fn is_thinking(&self) -> bool {
        self.thinking
    }
}
