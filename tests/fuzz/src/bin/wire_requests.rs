//! Request bodies, as anybody with a key can send them.
#![no_main]

use allerac_wire::anthropic::MessagesRequest;
use allerac_wire::ollama::{
    CopyOrder, OllamaChat, OllamaEmbed, OllamaGenerate, PullOrder, keep_alive_of, model_name, only_loads,
};
use allerac_wire::{
    BatchEndpoint, BatchLine, BatchRequest, ChatRequest, CompletionRequest, EmbeddingRequest, Envelope, RerankRequest,
    ResponsesRequest, item_messages, metadata_of,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = model_name(bytes, &["stream"]);
    let _ = PullOrder::parse(bytes);
    let _ = CopyOrder::parse(bytes);
    if let Ok(envelope) = Envelope::parse(bytes) {
        let _ = ChatRequest::parse(envelope.clone());
        let _ = EmbeddingRequest::parse(envelope.clone());
        let _ = RerankRequest::parse(envelope.clone());
        let _ = MessagesRequest::parse(envelope.clone());
        let _ = MessagesRequest::parse_count(envelope.clone());
        let _ = only_loads(&envelope.body, "messages");
        let _ = keep_alive_of(&envelope.body);
        let _ = OllamaEmbed::parse(envelope.clone());
        let _ = OllamaEmbed::parse_old(envelope.clone());
        let _ = OllamaChat::parse(envelope.clone());
        let _ = OllamaGenerate::parse(envelope.clone());
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
