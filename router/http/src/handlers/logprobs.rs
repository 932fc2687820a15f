//! Log probabilities in the two shapes of the API.

use allerac_engine_core::TokenLogprob;
use allerac_wire::{ChatLogprobs, CompletionLogprobs, Logprob, TopLogprob};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// As chat completions have them.
pub(crate) fn chat(entries: &[TokenLogprob]) -> ChatLogprobs {
    let content = entries
        .iter()
        .map(|entry| Logprob {
            token: text(&entry.bytes),
            logprob: entry.logprob,
            bytes: entry.bytes.clone(),
            top_logprobs: entry
                .top
                .iter()
                .map(|(_, bytes, logprob)| TopLogprob { token: text(bytes), logprob: *logprob, bytes: bytes.clone() })
                .collect(),
        })
        .collect();
    ChatLogprobs { content, refusal: None }
}

/// How far log probabilities of a plain completion have come.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    /// Characters of text before.
    offset: usize,
    /// Whether the next token is the first of a prompt, which follows nothing.
    is_first: bool,
}

impl Place {
    /// Before all text, which begins with the prompt where it is echoed.
    pub(crate) fn start(echo: bool) -> Self {
        Self { offset: 0, is_first: echo }
    }
}

/// As plain completions have them; `place` moves on.
pub(crate) fn completion(entries: &[TokenLogprob], place: &mut Place) -> CompletionLogprobs {
    let mut logprobs = CompletionLogprobs::default();
    for entry in entries {
        let is_first = std::mem::take(&mut place.is_first);
        let token = text(&entry.bytes);
        logprobs.text_offset.push(place.offset);
        place.offset += token.chars().count();
        logprobs.tokens.push(token);
        logprobs.token_logprobs.push((!is_first).then_some(entry.logprob));
        let top = || entry.top.iter().map(|(_, bytes, logprob)| (text(bytes), *logprob)).collect();
        logprobs.top_logprobs.push((!is_first).then(top));
    }
    logprobs
}
