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

/// As plain completions have them; `offset` is the number of characters of text before, and moves on.
pub(crate) fn completion(entries: &[TokenLogprob], offset: &mut usize) -> CompletionLogprobs {
    let mut logprobs = CompletionLogprobs::default();
    for entry in entries {
        let token = text(&entry.bytes);
        logprobs.text_offset.push(*offset);
        *offset += token.chars().count();
        logprobs.tokens.push(token);
        logprobs.token_logprobs.push(entry.logprob);
        logprobs.top_logprobs.push(entry.top.iter().map(|(_, bytes, logprob)| (text(bytes), *logprob)).collect());
    }
    logprobs
}
