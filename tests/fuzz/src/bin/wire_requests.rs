//! Request bodies, as anybody with a key can send them.
#![no_main]

use allerac_wire::{
    BatchEndpoint, BatchLine, BatchRequest, ChatRequest, CompletionRequest, Envelope, ResponsesRequest, item_messages,
    metadata_of,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(envelope) = Envelope::parse(bytes) {
        let _ = ChatRequest::parse(envelope.clone());
        let _ = CompletionRequest::parse(envelope.clone());
        if let Ok(request) = ResponsesRequest::parse(envelope) {
            let _ = item_messages(request.instructions.as_deref(), &request.input, 0);
        }
    }
    let _ = BatchRequest::parse(bytes);
    if let Ok(line) = BatchLine::parse(bytes, BatchEndpoint::Chat) {
        let _ = line.envelope();
    }
    let _ = metadata_of(bytes);
});
