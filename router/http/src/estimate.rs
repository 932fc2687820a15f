//! What a request to another server takes at most, as far as its body tells: what is set aside for it.

use allerac_router_core::Endpoint;
use allerac_wire::Envelope;
use serde_json::{Map, Value, json};

/// Few texts have fewer bytes a token: an estimate that is rarely too small.
const BYTES_A_TOKEN_MIN: usize = 3;
/// English text has about this many.
pub(crate) const BYTES_A_TOKEN: usize = 4;
/// Output set aside when the client does not bound it, in tokens.
const OUTPUT_DEFAULT: u32 = 4096;
/// What bounds the output of a choice: of chats, and of everything before that was there.
const OUTPUT_BOUNDS: [&str; 2] = ["max_completion_tokens", "max_tokens"];

/// How many tokens the prompt of a request has, rather too many than too few.
pub(crate) fn prompt_estimate(envelope: &Envelope) -> u32 {
    u32::try_from(prompt_bytes(&envelope.body).div_ceil(BYTES_A_TOKEN_MIN)).unwrap_or(u32::MAX)
}

/// About how many tokens the prompt of a body has.
pub(crate) fn estimate(body: &Map<String, Value>) -> u32 {
    u32::try_from(prompt_bytes(body).div_ceil(BYTES_A_TOKEN)).unwrap_or(u32::MAX)
}

fn prompt_bytes(body: &Map<String, Value>) -> usize {
    let named =
        ["messages", "prompt", "suffix", "tools", "functions", "response_format", "input", "query", "documents"];
    let read = named.into_iter().filter_map(|name| body.get(name));
    read.map(|value| value.to_string().len().max(token_ids(value) * BYTES_A_TOKEN)).sum()
}

/// Tokens that are given by their numbers, which may be written shorter than their text.
fn token_ids(value: &Value) -> usize {
    match value {
        Value::Array(values) if values.iter().all(Value::is_number) => values.len(),
        Value::Array(values) => values.iter().map(|value| value.as_array().map_or(0, Vec::len)).sum(),
        _ => 0,
    }
}

/// What bounds the output of a choice, by endpoint.
fn bounds(endpoint: Endpoint) -> &'static [&'static str] {
    if endpoint == Endpoint::Completions { &OUTPUT_BOUNDS[1..] } else { &OUTPUT_BOUNDS }
}

/// A number of a body, also as servers take it that are not strict. Nothing is as much as none: to some servers it is no
/// bound.
fn number(body: &Map<String, Value>, name: &str) -> Option<u64> {
    let text = match body.get(name)? {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let whole = text.trim().split('.').next()?;
    whole.parse().ok().filter(|number| *number > 0)
}

/// The most output that may be made: of each choice for each prompt.
pub(crate) fn output_estimate(endpoint: Endpoint, envelope: &Envelope) -> u32 {
    let number = |name: &str| number(&envelope.body, name);
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    // Which of several counts is up to the server.
    let wanted = bounds(endpoint).iter().filter_map(|name| number(name)).max().map_or(OUTPUT_DEFAULT, small);
    // Those that a server makes to choose the best of cost as much.
    let choices = small(number("n").max(number("best_of")).unwrap_or(1).max(1));
    let prompts = match envelope.body.get("prompt") {
        Some(Value::Array(prompts)) if !prompts.iter().all(Value::is_number) => prompts.len() as u64,
        _ => 1,
    };
    wanted.saturating_mul(choices).saturating_mul(small(prompts))
}

/// Asks for no more output than was set aside where the client does not bound it.
pub(crate) fn bound_output(endpoint: Endpoint, body: &mut Map<String, Value>) {
    // llama.cpp's own word, which it takes before the others.
    body.remove("n_predict");
    let is_bound =
        bounds(endpoint).iter().any(|name| body.get(*name) == Some(&json!(0)) || number(body, name).is_some());
    if is_bound || !endpoint.generates() {
        return;
    }
    for name in OUTPUT_BOUNDS {
        body.remove(name);
    }
    let [chat, other] = OUTPUT_BOUNDS;
    let name = if endpoint == Endpoint::Completions { other } else { chat };
    body.insert(name.to_owned(), OUTPUT_DEFAULT.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(body: &Value) -> Envelope {
        Envelope::parse(body.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn the_estimate_covers_what_may_be_used() {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 10, "n": 2});
        let with_tools = envelope(&json!({"model": "m", "prompt": "", "tools": [{"type": "function"}]}));
        assert_eq!(prompt_estimate(&with_tools), 8);
        let envelope = envelope(&body);
        assert_eq!(prompt_estimate(&envelope), 12);
        assert_eq!(output_estimate(Endpoint::Chat, &envelope), 20);
    }

    #[test]
    fn the_estimate_covers_every_prompt_and_what_is_chosen_from() {
        let output = |body: Value| output_estimate(Endpoint::Completions, &envelope(&body));
        assert_eq!(output(json!({"model": "m", "prompt": ["a", "b"], "max_tokens": 10, "n": 2, "best_of": 3})), 60);
        assert_eq!(output(json!({"model": "m", "prompt": [[1, 2], [3]], "max_tokens": 10})), 20);
        assert_eq!(output(json!({"model": "m", "prompt": [1, 2, 3], "max_tokens": 10})), 10);
        assert_eq!(output(json!({"model": "m", "prompt": "a", "n": 0})), OUTPUT_DEFAULT);
        // What a server may read in more than one way counts for the most.
        let loose = json!({"model": "m", "prompt": "a", "n": "8", "best_of": 2.0, "max_completion_tokens": 1});
        assert_eq!(output(loose), 8 * OUTPUT_DEFAULT);
        let chat = envelope(&json!({"model": "m", "max_completion_tokens": 1, "max_tokens": 1000}));
        assert_eq!(output_estimate(Endpoint::Chat, &chat), 1000);
        assert_eq!(prompt_estimate(&envelope(&json!({"model": "m", "prompt": [1, 1, 1]}))), 4);
    }

    #[test]
    fn output_is_bound_where_the_client_does_not() {
        let bound = |endpoint, body: Value| {
            let mut envelope = envelope(&body);
            bound_output(endpoint, &mut envelope.body);
            Value::Object(envelope.body)
        };
        let chat = bound(Endpoint::Chat, json!({"model": "m", "max_tokens": null}));
        assert_eq!(chat, json!({"model": "m", "max_completion_tokens": OUTPUT_DEFAULT}));
        let completion = bound(Endpoint::Completions, json!({"model": "m"}));
        assert_eq!(completion, json!({"model": "m", "max_tokens": OUTPUT_DEFAULT}));
        let endless = bound(Endpoint::Chat, json!({"model": "m", "max_tokens": -1, "n_predict": 9}));
        assert_eq!(endless, json!({"model": "m", "max_completion_tokens": OUTPUT_DEFAULT}));
        for body in [json!({"model": "m", "max_tokens": 7}), json!({"model": "m", "max_completion_tokens": 7})] {
            assert_eq!(bound(Endpoint::Chat, body.clone()), body);
        }
        assert_eq!(bound(Endpoint::Embeddings, json!({"model": "m"})), json!({"model": "m"}));
    }
}
