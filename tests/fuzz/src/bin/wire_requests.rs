//! Request bodies, as anybody with a key can send them.
#![no_main]

use allerac_wire::{ChatRequest, CompletionRequest, EmbeddingRequest, Envelope, RerankRequest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(envelope) = Envelope::parse(bytes) {
        let _ = ChatRequest::parse(envelope.clone());
        let _ = CompletionRequest::parse(envelope.clone());
        let _ = EmbeddingRequest::parse(envelope.clone());
        let _ = RerankRequest::parse(envelope);
    }
});
