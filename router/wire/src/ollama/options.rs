//! `options`: how tokens are chosen, and what concerns the machine.

use serde_json::{Map, Value};

use crate::fields::{Fields, WireError};
use crate::options::{Options, stops};

/// Stop strings of one request. Each is looked for in every token.
pub(crate) const STOPS_MAX: usize = 16;
/// What Ollama lets a client say about the machine. The box knows it better: these are accepted and change nothing.
pub(crate) const MACHINE: &[&str] = &[
    "f16_kv",
    "low_vram",
    "main_gpu",
    "num_batch",
    "num_ctx",
    "num_gpu",
    "num_keep",
    "num_thread",
    "numa",
    "use_mlock",
    "use_mmap",
    "logits_all",
];

/// What belongs into `options`, and programs made for several APIs put beside it, with its name there. Ollama ignores
/// it; whoever sends it wants it.
pub(crate) const BESIDE: &[(&str, &str)] = &[
    ("max_tokens", "num_predict"),
    ("max_output_tokens", "num_predict"),
    ("max_completion_tokens", "num_predict"),
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("top_k", "top_k"),
    ("seed", "seed"),
    ("stop", "stop"),
    ("presence_penalty", "presence_penalty"),
    ("frequency_penalty", "frequency_penalty"),
];

/// Puts what stands beside `options` into it.
pub(super) fn gather(fields: &mut Fields) -> Result<(), WireError> {
    let mut map = match fields.take("options") {
        None => Map::new(),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(fields.wrong_type("options", "an object", &other)),
    };
    for (name, inside) in BESIDE {
        let Some(value) = fields.take(name) else { continue };
        if map.get(*inside).is_some_and(|said| !said.is_null() && *said != value) {
            let message = format!("`{name}` and `options.{inside}` say different things; send one of them");
            return Err(fields.error(name, "invalid_value", message));
        }
        map.insert((*inside).to_owned(), value);
    }
    fields.put("options", Value::Object(map));
    Ok(())
}

pub(super) fn options(fields: &mut Fields) -> Result<Options, WireError> {
    let mut inner = Fields::of("options", fields.take("options").unwrap_or_else(|| Value::Object(Map::new())))?;
    // Zero and less is as many as there can be.
    let predict = inner.integer("num_predict", -2..=i64::from(u32::MAX))?.unwrap_or(-1);
    let stop = stops(&mut inner, "stop", STOPS_MAX)?;
    for name in MACHINE {
        if let Some(value) = inner.take(name).filter(|value| !value.is_number() && !value.is_boolean()) {
            return Err(inner.wrong_type(name, "a number or a boolean", &value));
        }
    }
    inner.only("penalize_newline", |value| value == true)?;
    inner.only("tfs_z", |value| value.as_f64() == Some(1.0))?;
    let options = Options::open(&mut inner)?;
    inner.finish(&["embedding_only", "vocab_only"])?;
    let max_tokens = u32::try_from(predict).ok().filter(|tokens| *tokens > 0);
    Ok(Options { max_tokens, cuts_to_context: true, stop, include_usage: true, ..options })
}
