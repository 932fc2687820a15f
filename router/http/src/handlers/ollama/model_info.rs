//! `model_info` of `/api/show`: what a model's files say of it, by the names of GGUF.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use allerac_router_core::{HeaderValue, LocalModel};
use serde_json::{Map, Value, json};

/// An encoder's `config.json` is some kilobytes.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// What is shown apart.
const TEMPLATE: &str = "tokenizer.chat_template";
/// Names of an encoder's `config.json`, and of GGUF for them.
const OF_CONFIG: [(&str, &str); 5] = [
    ("hidden_size", "embedding_length"),
    ("num_hidden_layers", "block_count"),
    ("num_attention_heads", "attention.head_count"),
    ("intermediate_size", "feed_forward_length"),
    ("vocab_size", "vocab_size"),
];

/// All of it, with the context that is served: models may have been trained for more.
pub(super) fn of(model: &LocalModel, context: u32) -> Map<String, Value> {
    let mut info = match &model.header {
        Some(header) => header
            .values()
            .filter(|(name, _)| *name != TEMPLATE)
            .map(|(name, value)| (name.to_owned(), shown(value)))
            .collect(),
        None => of_config(model),
    };
    let family = || model.entry().map(|entry| entry.family.clone()).unwrap_or_default();
    let architecture = info.entry("general.architecture").or_insert_with(|| json!(family())).clone();
    let architecture = architecture.as_str().unwrap_or_default();
    info.insert(format!("{architecture}.context_length"), json!(context));
    info.insert("general.parameter_count".into(), json!(model.parameters));
    info
}

/// Long lists are left out, as Ollama does.
fn shown(value: &HeaderValue) -> Value {
    match value {
        HeaderValue::Unsigned(number) => json!(number),
        HeaderValue::Signed(number) => json!(number),
        HeaderValue::Float(number) | HeaderValue::Double(number) => json!(number),
        HeaderValue::Bool(is) => json!(is),
        HeaderValue::Text(text) => json!(text),
        HeaderValue::Numbers(numbers) => json!(numbers),
        HeaderValue::List(_) => Value::Null,
    }
}

/// What an encoder's configuration says.
fn of_config(model: &LocalModel) -> Map<String, Value> {
    let mut info = Map::new();
    let config = model.parts.iter().find(|(name, _)| name == "config.json").and_then(|(_, path)| read(path));
    let Some(config) = config else { return info };
    let Some(architecture) = config["model_type"].as_str() else { return info };
    info.insert("general.architecture".into(), json!(architecture));
    for (name, ours) in OF_CONFIG {
        if config[name].is_u64() {
            info.insert(format!("{architecture}.{ours}"), config[name].clone());
        }
    }
    info
}

fn read(path: &Path) -> Option<Value> {
    let mut text = String::new();
    File::open(path).ok()?.take(CONFIG_BYTES_MAX).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}
