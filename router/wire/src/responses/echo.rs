//! What a response repeats of its request.

use serde_json::{Map, Value, json};

use super::tools::echoed;
use crate::conversation::{ChatRequest, Tool};
use crate::fields::Fields;

/// Collects it while the request is read.
pub(super) struct Echo {
    map: Map<String, Value>,
}

impl Echo {
    /// What is repeated as it came, with the defaults of what may be left out.
    pub(super) fn of(fields: &Fields) -> Self {
        let mut map = Map::new();
        let mut copy = |name: &str, default: Value| {
            map.insert(name.to_owned(), fields.peek(name).cloned().unwrap_or(default));
        };
        for name in [
            "instructions",
            "max_output_tokens",
            "max_tool_calls",
            "previous_response_id",
            "prompt_cache_key",
            "prompt_cache_retention",
            "safety_identifier",
            "user",
            "temperature",
            "top_p",
        ] {
            copy(name, Value::Null);
        }
        copy("parallel_tool_calls", json!(true));
        copy("presence_penalty", json!(0.0));
        copy("frequency_penalty", json!(0.0));
        copy("tool_choice", json!("auto"));
        copy("truncation", json!("disabled"));
        copy("top_logprobs", json!(0));
        let inner = |name: &str, part: &str| fields.peek(name).and_then(|value| value.get(part)).cloned();
        let summary = inner("reasoning", "summary").or_else(|| inner("reasoning", "generate_summary"));
        let effort = inner("reasoning", "effort").unwrap_or_default();
        map.insert("reasoning".into(), json!({"effort": effort, "summary": summary.unwrap_or_default()}));
        let verbosity = inner("text", "verbosity").filter(|verbosity| !verbosity.is_null());
        let verbosity = verbosity.unwrap_or_else(|| json!("medium"));
        map.insert("text".into(), json!({"format": {"type": "text"}, "verbosity": verbosity}));
        Self { map }
    }

    pub(super) fn tools(&mut self, list: &[Tool]) {
        self.map.insert("tools".into(), Value::Array(echoed(list)));
    }

    /// A schema always binds here.
    pub(super) fn format(&mut self, format: &Value) {
        let mut format = format.clone();
        if format.get("type").is_some_and(|kind| kind == "json_schema")
            && let Value::Object(map) = &mut format
        {
            map.entry("description").or_insert(Value::Null);
            map.insert("strict".into(), json!(true));
        }
        self.map["text"]["format"] = format;
    }

    pub(super) fn finish(
        mut self,
        chat: &ChatRequest,
        background: bool,
        conversation: Option<&str>,
    ) -> Map<String, Value> {
        self.map.insert("background".into(), json!(background));
        self.map.insert("store".into(), json!(chat.store));
        self.map.insert("metadata".into(), Value::Object(chat.metadata.clone()));
        self.map.insert("prompt".into(), Value::Null);
        let conversation = conversation.map_or(Value::Null, |id| json!({"id": id}));
        self.map.insert("conversation".into(), conversation);
        self.map
    }
}
