//! Requests that were valid and are damaged are refused or read, and never end the process.

use allerac_wire::anthropic::MessagesRequest;
use allerac_wire::ollama::{OllamaChat, OllamaEmbed, OllamaGenerate};
use allerac_wire::{ChatRequest, CompletionRequest, Envelope};
use proptest::prelude::*;
use serde_json::{Value, json};

const SEEDS: [&str; 5] = [
    include_str!("../../../tests/fuzz/seeds/wire_requests/anthropic.json"),
    include_str!("../../../tests/fuzz/seeds/wire_requests/chat.json"),
    include_str!("../../../tests/fuzz/seeds/wire_requests/ollama_chat.json"),
    include_str!("../../../tests/fuzz/seeds/wire_requests/ollama_generate.json"),
    include_str!("../../../tests/fuzz/seeds/wire_requests/ollama_embed.json"),
];

fn read(text: &str) {
    let Ok(envelope) = Envelope::parse(text.as_bytes()) else { return };
    let _ = ChatRequest::parse(envelope.clone());
    let _ = CompletionRequest::parse(envelope.clone());
    let _ = MessagesRequest::parse(envelope.clone());
    let _ = MessagesRequest::parse_count(envelope.clone());
    let _ = OllamaChat::parse(envelope.clone());
    let _ = OllamaEmbed::parse(envelope.clone());
    let _ = OllamaGenerate::parse(envelope);
}

/// Puts another value in the place of the one with this number.
fn replace(value: &mut Value, left: &mut usize, other: &Value) {
    if *left == 0 {
        *value = other.clone();
    }
    *left = left.wrapping_sub(1);
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| replace(value, left, other)),
        Value::Object(map) => map.values_mut().for_each(|value| replace(value, left, other)),
        _ => {}
    }
}

#[test]
fn the_seeds_are_valid() {
    let envelope = |seed: usize| Envelope::parse(SEEDS[seed].as_bytes()).unwrap();
    MessagesRequest::parse(envelope(0)).unwrap();
    ChatRequest::parse(envelope(1)).unwrap();
    OllamaChat::parse(envelope(2)).unwrap();
    OllamaGenerate::parse(envelope(3)).unwrap();
    OllamaEmbed::parse(envelope(4)).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_wrong_value_anywhere_is_no_trouble(seed in 0..SEEDS.len(), place in 0..90usize, kind in 0..8usize) {
        let mut value: Value = serde_json::from_str(SEEDS[seed]).unwrap();
        let others = [
            json!(null), json!(true), json!(-1), json!(1e300), json!(""), json!("é\u{0}"), json!([[]]), json!({"type": "text"}),
        ];
        replace(&mut value, &mut place.clone(), &others[kind]);
        read(&value.to_string());
    }

    #[test]
    fn a_wrong_byte_anywhere_is_no_trouble(seed in 0..SEEDS.len(), place in any::<prop::sample::Index>(), byte in 0..128u8) {
        let mut bytes = SEEDS[seed].as_bytes().to_vec();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        read(&String::from_utf8_lossy(&bytes));
    }
}
