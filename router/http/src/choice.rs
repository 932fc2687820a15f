//! One answer of a running request: what it costs, and how it is read.

use allerac_engine_core::TokenLogprob;
use allerac_parse::{Parser, Piece};
use uuid::Uuid;

use crate::progress::call_id;

/// A prompt that its answer begins with.
#[derive(Debug)]
struct Echo {
    text: String,
    /// Whether its tokens are yet to be scored.
    is_scored: bool,
    logprobs: Vec<TokenLogprob>,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Choice {
    started: bool,
    parser: Parser,
    /// What comes before the answer, until it is told.
    echo: Option<Echo>,
    /// Calls that it may have; more are left out.
    calls_max: u32,
    calls: u32,
    pub(crate) cached_tokens: u32,
    pub(crate) completion_tokens: u32,
    /// Of these, thought.
    pub(crate) reasoning_tokens: u32,
    /// Tokens of the prediction that were right, and that were not.
    pub(crate) predicted: (u32, u32),
}

impl Choice {
    pub(crate) fn new(parser: Parser, calls_max: u32) -> Self {
        Self {
            started: false,
            parser,
            echo: None,
            calls_max,
            calls: 0,
            cached_tokens: 0,
            completion_tokens: 0,
            reasoning_tokens: 0,
            predicted: (0, 0),
        }
    }

    /// Lets the answer begin with its prompt, once that is scored where it `is_scored`.
    pub(crate) fn echo(&mut self, text: String, is_scored: bool) {
        self.echo = Some(Echo { text, is_scored, logprobs: Vec::new() });
    }

    pub(crate) fn start(&mut self, cached_tokens: u32) {
        self.started = true;
        match &mut self.echo {
            // An engine that takes over after a crash scores the prompt anew.
            Some(echo) if echo.is_scored => echo.logprobs.clear(),
            // The prompt was computed for another choice of the same request.
            Some(echo) if !echo.logprobs.is_empty() => return,
            _ => {}
        }
        self.cached_tokens = cached_tokens;
    }

    /// Whether its prompt is yet to be scored.
    pub(crate) fn waits_for_scores(&self) -> bool {
        self.echo.as_ref().is_some_and(|echo| echo.is_scored)
    }

    /// How likely the tokens of its prompt were, until that is told.
    pub(crate) fn scores(&self) -> Option<&[TokenLogprob]> {
        self.echo.as_ref().map(|echo| echo.logprobs.as_slice())
    }

    /// Takes over the scores of another choice with the same prompt.
    pub(crate) fn adopt(&mut self, scores: Vec<TokenLogprob>) {
        if let Some(echo) = &mut self.echo {
            echo.logprobs = scores;
            echo.is_scored = false;
        }
    }

    /// Notes how likely tokens of the prompt were.
    pub(crate) fn score(&mut self, logprobs: Vec<TokenLogprob>) {
        if let Some(echo) = &mut self.echo {
            echo.logprobs.extend(logprobs);
        }
    }

    /// What comes before the answer, once.
    pub(crate) fn take_echo(&mut self) -> Option<(String, Vec<TokenLogprob>)> {
        let Echo { text, mut logprobs, .. } = self.echo.take()?;
        // Some tokenisers put a space before all text.
        let first = logprobs.iter_mut().find(|entry| !entry.bytes.is_empty());
        if let Some(first) = first.filter(|first| first.bytes[0] == b' ' && !text.starts_with(' ')) {
            first.bytes.remove(0);
        }
        Some((text, logprobs))
    }

    /// The same, unless its scores are waited for.
    pub(crate) fn take_plain_echo(&mut self) -> Option<(String, Vec<TokenLogprob>)> {
        if self.waits_for_scores() { None } else { self.take_echo() }
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
