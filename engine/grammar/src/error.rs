//! What is wrong with a grammar.

/// Characters of a message; llguidance quotes whole grammars in some.
const MESSAGE_CHARS_MAX: usize = 500;

/// What a dead end is called.
pub(crate) const NOTHING_FOLLOWS: &str = "no text that the model has tokens for satisfies it";

/// A grammar that cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// It is wrong, or beyond what can be compiled; what its author should read.
    #[error("{0}")]
    Wrong(String),
    /// Another one is still being compiled that takes too long.
    #[error("another grammar is still being compiled")]
    Busy,
}

impl GrammarError {
    /// The error of llguidance, without the dumps of its state that follow the message.
    pub(crate) fn from_library(error: &impl ToString) -> Self {
        Self::Wrong(without_dumps(&error.to_string()))
    }
}

/// A message of llguidance, cut before what is for its own developers (`<state>`, `<backtrace>`).
pub(crate) fn without_dumps(message: &str) -> String {
    if message.starts_with("panic:") {
        // It names a special token where the vocabulary has none to name, or hits a bug; its words help nobody.
        return "it cannot be compiled".to_owned();
    }
    if message.starts_with("NoExtensionBias") {
        return NOTHING_FOLLOWS.to_owned();
    }
    if message.starts_with("oneOf constraints are not supported") {
        // The library's advice is an option that would let wrong answers through.
        return "oneOf is not supported for options that may overlap; use anyOf".to_owned();
    }
    if let Some((_, reason)) = message.rsplit_once("\nerror: ") {
        // A picture of the regular expression stands before it.
        return format!("it is no regular expression: {reason}");
    }
    let message = message.split("\n<").next().unwrap_or_default().trim();
    let cut = message.char_indices().nth(MESSAGE_CHARS_MAX).map(|(index, _)| index);
    cut.map_or_else(|| message.to_owned(), |cut| format!("{}...", &message[..cut]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_short_and_without_dumps() {
        assert_eq!(without_dumps("no rule\n<state>\nTokens: ...\n</state>"), "no rule");
        assert_eq!(without_dumps(&"é".repeat(600)), format!("{}...", "é".repeat(500)));
        assert_eq!(without_dumps("at 1(2): x\n   1 | start: y\n"), "at 1(2): x\n   1 | start: y");
        assert_eq!(without_dumps("panic: oh\n<backtrace>\nmain.rs\n</backtrace>"), "it cannot be compiled");
    }
}
