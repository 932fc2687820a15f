//! Reads another server's stream of a chat completion, so that it can be told in the words of any API.

use std::collections::HashMap;

use allerac_engine_core::{TokenId, TokenLogprob};
use allerac_parse::Piece;
use allerac_wire::CompletionUsage;
use serde_json::Value;
use uuid::Uuid;

use crate::progress::{Finish, Progress, call_id};

/// A token of another server's vocabulary.
const UNKNOWN: TokenId = TokenId(u32::MAX);
/// What stands for a token that cannot come, as OpenAI's API documents it.
const LOGPROB_MIN: f32 = -9999.0;

/// Reads one stream.
#[derive(Debug)]
pub(crate) struct Decoder {
    request_id: Uuid,
    /// Where an answer ends; which of them came is for us to guess, where only one may have.
    stops: Vec<String>,
    usage: Option<CompletionUsage>,
    /// The calls of each choice that were begun, by the server's numbers for them.
    calls: HashMap<(u32, u64), u32>,
}

impl Decoder {
    pub(crate) fn new(request_id: Uuid, stops: Vec<String>) -> Self {
        Self { request_id, stops, usage: None, calls: HashMap::new() }
    }

    /// What one event says.
    pub(crate) fn decode(&mut self, data: &str) -> Vec<Progress> {
        let value: Value = serde_json::from_str(data).unwrap_or_default();
        if value["usage"].is_object() {
            self.usage = Some(usage(&value["usage"]));
        }
        let choices = value["choices"].as_array().map_or(&[][..], Vec::as_slice);
        choices.iter().flat_map(|choice| self.choice(choice)).collect()
    }

    /// What it cost, as the server said at the end, or as it was counted.
    pub(crate) fn usage(&self, counted: (u32, u32)) -> CompletionUsage {
        self.usage.unwrap_or_else(|| CompletionUsage::new(counted.0, 0, counted.1))
    }

    fn choice(&mut self, choice: &Value) -> Vec<Progress> {
        let index = number(&choice["index"]);
        let delta = &choice["delta"];
        let mut pieces = Vec::new();
        let said = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        pieces.extend(said(&delta["reasoning_content"]).or_else(|| said(&delta["reasoning"])).map(Piece::Reasoning));
        pieces.extend(said(&delta["content"]).or_else(|| said(&delta["refusal"])).map(Piece::Text));
        for call in delta["tool_calls"].as_array().map_or(&[][..], Vec::as_slice) {
            self.call(index, call, &mut pieces);
        }
        let mut progress = Vec::new();
        let logprobs = logprobs(&choice["logprobs"]["content"]);
        if !pieces.is_empty() || !logprobs.is_empty() {
            progress.push(Progress::Chunk { index, pieces, logprobs });
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            progress.push(Progress::Finished { index, reason: self.finish(choice, reason) });
        }
        progress
    }

    fn call(&mut self, choice: u32, call: &Value, pieces: &mut Vec<Piece>) {
        let function = &call["function"];
        let key = (choice, call["index"].as_u64().unwrap_or(0));
        let begun = self.calls.keys().filter(|(of, _)| *of == choice).count();
        let next = u32::try_from(begun).unwrap_or(u32::MAX);
        let is_new = !self.calls.contains_key(&key);
        let index = *self.calls.entry(key).or_insert(next);
        if is_new {
            let id = call["id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned);
            let id = id.unwrap_or_else(|| call_id(self.request_id, choice, index));
            let name = function["name"].as_str().unwrap_or_default().to_owned();
            pieces.push(Piece::Call { index, id: Some(id), name });
        }
        if let Some(json) = function["arguments"].as_str().filter(|json| !json.is_empty()) {
            pieces.push(Piece::Arguments { index, json: json.to_owned() });
        }
    }

    fn finish(&self, choice: &Value, reason: &str) -> Finish {
        match reason {
            "length" => Finish::Length,
            "tool_calls" | "function_call" => Finish::Calls,
            "content_filter" => Finish::Filtered,
            // vLLM's word for the string that came.
            _ => match (choice["stop_reason"].as_str(), self.stops.as_slice()) {
                (Some(stop), stops) if stops.iter().any(|known| known == stop) => Finish::StopString(stop.to_owned()),
                _ => Finish::Stop,
            },
        }
    }
}

/// Log probabilities of tokens, whose ids only the other server knows.
fn logprobs(entries: &Value) -> Vec<TokenLogprob> {
    let entries = entries.as_array().map_or(&[][..], Vec::as_slice);
    let entry = |entry: &Value| {
        let top = entry["top_logprobs"].as_array().map_or(&[][..], Vec::as_slice);
        let top = top.iter().map(|entry| (UNKNOWN, bytes(entry), logprob(entry))).collect();
        TokenLogprob { token: UNKNOWN, bytes: bytes(entry), logprob: logprob(entry), top }
    };
    entries.iter().map(entry).collect()
}

/// The bytes of a token, as far as the server tells them.
fn bytes(entry: &Value) -> Vec<u8> {
    let byte = |value: &Value| value.as_u64().and_then(|number| u8::try_from(number).ok());
    let told = entry["bytes"].as_array().and_then(|bytes| bytes.iter().map(byte).collect());
    told.unwrap_or_else(|| entry["token"].as_str().unwrap_or_default().as_bytes().to_vec())
}

#[allow(clippy::cast_possible_truncation, reason = "a logarithm of a probability fits an f32 well")]
fn logprob(entry: &Value) -> f32 {
    entry["logprob"].as_f64().map_or(LOGPROB_MIN, |logprob| (logprob as f32).max(LOGPROB_MIN))
}

fn number(value: &Value) -> u32 {
    value.as_u64().map_or(0, |number| u32::try_from(number).unwrap_or(u32::MAX))
}

fn usage(value: &Value) -> CompletionUsage {
    let prompt = number(&value["prompt_tokens"]);
    let cached = number(&value["prompt_tokens_details"]["cached_tokens"]).min(prompt);
    let reasoning = number(&value["completion_tokens_details"]["reasoning_tokens"]);
    CompletionUsage::new(prompt, cached, number(&value["completion_tokens"])).thinking(reasoning)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pieces(progress: Vec<Progress>) -> Vec<Piece> {
        let pieces = progress.into_iter().filter_map(|progress| match progress {
            Progress::Chunk { pieces, .. } => Some(pieces),
            _ => None,
        });
        pieces.flatten().collect()
    }

    fn event(delta: &Value) -> String {
        json!({"choices": [{"index": 0, "delta": delta}]}).to_string()
    }

    #[test]
    fn thoughts_text_and_calls_are_told_apart() {
        let mut decoder = Decoder::new(Uuid::nil(), Vec::new());
        let thought = decoder.decode(&event(&json!({"role": "assistant", "reasoning_content": "hm", "content": ""})));
        assert_eq!(pieces(thought), [Piece::Reasoning("hm".into())]);
        assert_eq!(pieces(decoder.decode(&event(&json!({"content": "hi"})))), [Piece::Text("hi".into())]);
        let call = json!({"tool_calls": [{"index": 1, "id": "c", "function": {"name": "f", "arguments": "{"}}]});
        let begun = Piece::Call { index: 0, id: Some("c".into()), name: "f".into() };
        assert_eq!(pieces(decoder.decode(&event(&call))), [begun, Piece::Arguments { index: 0, json: "{".into() }]);
        let more = json!({"tool_calls": [{"index": 1, "function": {"arguments": "}"}}]});
        assert_eq!(pieces(decoder.decode(&event(&more))), [Piece::Arguments { index: 0, json: "}".into() }]);
    }

    #[test]
    fn the_end_and_its_usage_are_read() {
        let mut decoder = Decoder::new(Uuid::nil(), vec!["END".into()]);
        let end = |reason: &str, stop: &Value| {
            json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason, "stop_reason": stop}]}).to_string()
        };
        let mut finish = |reason: &str, stop: Value| match decoder.decode(&end(reason, &stop)).pop() {
            Some(Progress::Finished { index: 0, reason }) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(finish("length", Value::Null), Finish::Length);
        assert_eq!(finish("tool_calls", Value::Null), Finish::Calls);
        assert_eq!(finish("stop", json!("END")), Finish::StopString("END".into()));
        assert_eq!(finish("stop", json!(151_645)), Finish::Stop);
        assert_eq!(decoder.usage((3, 4)).total_tokens, 7);
        decoder.decode(r#"{"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}"#);
        assert_eq!(decoder.usage((3, 4)).total_tokens, 7);
        assert_eq!(decoder.usage((0, 0)).prompt_tokens, 5);
    }

    #[test]
    fn log_probabilities_are_read() {
        let mut decoder = Decoder::new(Uuid::nil(), Vec::new());
        let entry = json!({"token": "é", "logprob": -0.5, "bytes": [195, 169], "top_logprobs": [
            {"token": "é", "logprob": -0.5, "bytes": null}, {"token": "x"}]});
        let event = json!({"choices": [{"index": 1, "delta": {"content": "é"}, "logprobs": {"content": [entry]}}]});
        let Progress::Chunk { index: 1, logprobs, .. } = &decoder.decode(&event.to_string())[0] else { panic!() };
        let top = vec![(UNKNOWN, "é".as_bytes().to_vec(), -0.5), (UNKNOWN, b"x".to_vec(), LOGPROB_MIN)];
        let expected = TokenLogprob { token: UNKNOWN, bytes: "é".as_bytes().to_vec(), logprob: -0.5, top };
        assert_eq!(logprobs, &[expected]);
    }

    #[test]
    fn nonsense_says_nothing() {
        let mut decoder = Decoder::new(Uuid::nil(), Vec::new());
        for data in ["", "[]", "{\"choices\": 5}", "{\"choices\": [null, 3, {\"delta\": {\"tool_calls\": [7]}}]}"] {
            for progress in decoder.decode(data) {
                assert!(matches!(progress, Progress::Chunk { .. }), "{data}");
            }
        }
    }
}
