//! Request bodies, as anybody with a key can send them.
#![no_main]

use allerac_wire::{ChatRequest, CompletionRequest, Envelope};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(envelope) = Envelope::parse(bytes) {
        let _ = ChatRequest::parse(envelope.clone());
        let _ = CompletionRequest::parse(envelope);
    }
});
