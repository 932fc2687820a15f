//! A conversation as the body of a chat completion, for another server.

use serde_json::{Map, Value, json};

use crate::constraint::Form;
use crate::conversation::{ChatRequest, Message, Tool, ToolChoice};
use crate::sampling::Sampling;

impl ChatRequest {
    /// The body that asks another server for this, by its own name for the model. The answer is streamed.
    #[must_use]
    pub fn for_upstream(&self, model: &str) -> Map<String, Value> {
        let mut body = Map::new();
        let mut set = |name: &str, value: Value| {
            body.insert(name.to_owned(), value);
        };
        set("model", json!(model));
        set("messages", self.messages.iter().map(Message::for_upstream).collect());
        set("stream", json!(true));
        if !self.tools.list.is_empty() {
            set("tools", self.tools.list.iter().map(Tool::json).collect());
            set("tool_choice", choice(&self.tools.choice));
            if self.tools.parallel == Some(false) {
                set("parallel_tool_calls", json!(false));
            }
        }
        if let Some(effort) = self.effort {
            set("reasoning_effort", json!(effort.as_str()));
        }
        let options = &self.options;
        if options.choices > 1 {
            set("n", json!(options.choices));
        }
        if let Some(top) = self.top_logprobs {
            set("logprobs", json!(true));
            set("top_logprobs", json!(top));
        }
        if let Some(max_tokens) = options.max_tokens {
            set("max_completion_tokens", json!(max_tokens));
        }
        if !options.stop.is_empty() {
            set("stop", json!(options.stop));
        }
        if let Some((name, value)) = options.constraint.as_ref().map(|constraint| form(&constraint.form)) {
            set(name, value);
        }
        sampling(&options.sampling, set);
        body
    }
}

fn choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::None => json!("none"),
        ToolChoice::Required => json!("required"),
        ToolChoice::Named(name) => json!({"type": "function", "function": {"name": name}}),
    }
}

/// The field that says what an answer must be: OpenAI's where it has one, else vLLM's.
fn form(form: &Form) -> (&'static str, Value) {
    match form {
        Form::JsonObject => ("response_format", json!({"type": "json_object"})),
        Form::JsonSchema(schema) => {
            let schema: Value = serde_json::from_str(schema).unwrap_or_else(|_| json!({}));
            let schema = json!({"name": "answer", "strict": true, "schema": schema});
            ("response_format", json!({"type": "json_schema", "json_schema": schema}))
        }
        Form::Regex(regex) => ("structured_outputs", json!({"regex": regex})),
        Form::Choice(choices) => ("structured_outputs", json!({"choice": choices})),
        Form::Gbnf(grammar) | Form::Lark(grammar) => ("structured_outputs", json!({"grammar": grammar})),
    }
}

/// What was said of sampling. What was left open is for the other server.
fn sampling(sampling: &Sampling, mut set: impl FnMut(&str, Value)) {
    let mut number = |name: &str, value: Option<f32>| {
        if let Some(value) = value {
            // Through text, so that 0.7 does not become 0.699999988.
            set(name, value.to_string().parse::<f64>().map_or(Value::Null, |value| json!(value)));
        }
    };
    number("temperature", sampling.temperature);
    number("top_p", sampling.top_p);
    number("min_p", sampling.min_p);
    number("presence_penalty", Some(sampling.presence_penalty).filter(|penalty| *penalty != 0.0));
    number("frequency_penalty", Some(sampling.frequency_penalty).filter(|penalty| *penalty != 0.0));
    if let Some(top_k) = sampling.top_k {
        set("top_k", json!(top_k));
    }
    if let Some(seed) = sampling.seed {
        set("seed", json!(seed));
    }
}
