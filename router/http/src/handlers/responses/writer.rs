//! Writes a response: from what a model says to items, and to the events that tell of them as they come.

use std::collections::HashMap;

use allerac_engine_core::TokenLogprob;
use allerac_objects::Seal;
use allerac_parse::Piece;
use allerac_wire::{CompletionUsage, ResponseError, ResponseObject, ResponseStatus, Tools};
use serde_json::{Value, json};

use super::item::{Body, Called, Item};
use crate::background::Event;
use crate::custom::Customs;
use crate::error::ApiError;
use crate::handlers::{logprobs, now_s};
use crate::progress::{Finish, Progress};

/// How a response is told, beyond what it says.
#[derive(Debug, Clone)]
pub(crate) struct Manner {
    /// Thoughts are told as their summary.
    pub(crate) summary: bool,
    /// Thoughts are also told sealed, for this person.
    pub(crate) sealed: Option<(Seal, u64)>,
    pub(crate) logprobs: bool,
    /// Whether events are written at all.
    pub(crate) events: bool,
}

/// How the request ended.
#[derive(Debug)]
pub(crate) enum End {
    Done(CompletionUsage),
    Failed(ApiError),
    Cancelled,
}

/// Writes one response.
pub(crate) struct Writer {
    response: ResponseObject,
    manner: Manner,
    customs: Customs,
    /// What calls are of, by the names that models have for it, where these are others.
    spaces: HashMap<String, Called>,
    /// What its ids are made of.
    name: String,
    items: Vec<Item>,
    /// The item that goes on.
    open: Option<usize>,
    /// The items of calls, by the calls' places.
    calls: Vec<usize>,
    finish: Finish,
    /// Log probabilities of tokens whose text is yet to come.
    held: Vec<TokenLogprob>,
    events: Vec<Event>,
    number: u64,
}

impl Writer {
    /// A response whose ids are made of `name`.
    pub(crate) fn new(response: ResponseObject, name: String, manner: Manner) -> Self {
        Self {
            response,
            manner,
            customs: Customs::default(),
            spaces: HashMap::new(),
            name,
            items: Vec::new(),
            open: None,
            calls: Vec::new(),
            finish: Finish::default(),
            held: Vec::new(),
            events: Vec::new(),
            number: 0,
        }
    }

    /// The same for a request that offers these tools.
    pub(crate) fn with_tools(mut self, tools: &Tools) -> Self {
        self.customs = Customs::of(tools);
        let spaces = tools.list.iter().filter(|tool| tool.namespace.is_some()).map(|tool| {
            let (name, namespace) = (tool.own_name().to_owned(), tool.namespace.clone());
            (tool.name.clone(), Called { name, namespace, is_custom: tool.text.is_some() })
        });
        self.spaces = spaces.collect();
        self
    }

    /// The same with events of other numbers.
    pub(crate) fn counting_from(self, number: u64) -> Self {
        Self { number, ..self }
    }

    pub(crate) fn response(&self) -> &ResponseObject {
        &self.response
    }

    /// The events since the last time.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// It was accepted.
    pub(crate) fn create(&mut self) {
        self.tell_response("response.created");
        if self.response.status == ResponseStatus::Queued {
            self.tell_response("response.queued");
        }
    }

    /// It begins.
    pub(crate) fn begin(&mut self) {
        self.response.status = ResponseStatus::InProgress;
        self.tell_response("response.in_progress");
    }

    /// Goes on; the end where this was the last.
    pub(crate) fn push(&mut self, progress: Progress) -> Option<End> {
        match progress {
            Progress::Waiting { .. } | Progress::Started(_) => None,
            Progress::Chunk { pieces, logprobs, .. } => {
                if self.manner.logprobs {
                    self.held.extend(logprobs);
                }
                for piece in pieces {
                    if let Some(piece) = self.customs.read(0, piece) {
                        self.piece(piece);
                    }
                }
                None
            }
            Progress::Finished { reason, .. } => {
                self.customs.finish(0).into_iter().for_each(|piece| self.piece(piece));
                self.finish = reason;
                None
            }
            Progress::Done(usage) => Some(End::Done(usage)),
            Progress::Failed(error) => Some(End::Failed(error)),
        }
    }

    fn piece(&mut self, piece: Piece) {
        match piece {
            Piece::Text(text) => {
                let place = self.going_on(|body| matches!(body, Body::Message { .. }), Item::message);
                self.text(place, &text);
            }
            Piece::Reasoning(text) => {
                let place = self.going_on(|body| matches!(body, Body::Thought { .. }), Item::thought);
                self.thought(place, &text);
            }
            Piece::Call { id, name, .. } => {
                let call_id = id.unwrap_or_default();
                let called = self.called(name);
                let place = self.add(|id| Item::call(id, call_id, called));
                self.calls.push(place);
            }
            Piece::Arguments { index, json } => {
                let Some(place) = self.calls.get(index as usize).copied() else { return };
                // A call that was ended goes on where another server mixes its calls.
                self.resume(place);
                let Body::Call { called, given, .. } = &mut self.items[place].body else { return };
                given.push_str(&json);
                let kind = if called.is_custom { "custom_tool_call_input" } else { "function_call_arguments" };
                self.tell(&format!("response.{kind}.delta"), place, json!({"delta": json}));
            }
        }
    }

    /// What a call is of, by the name that the model has for it.
    fn called(&self, name: String) -> Called {
        let is_custom = self.customs.has(&name);
        self.spaces.get(&name).cloned().unwrap_or(Called { name, namespace: None, is_custom })
    }

    /// The place of the open item where it is of the wanted kind, else of a new one.
    fn going_on(&mut self, is_wanted: impl Fn(&Body) -> bool, make: impl FnOnce(&str) -> Item) -> usize {
        match self.open {
            Some(place) if is_wanted(&self.items[place].body) => place,
            _ => self.add(make),
        }
    }

    fn add(&mut self, make: impl FnOnce(&str) -> Item) -> usize {
        self.close("completed");
        let place = self.items.len();
        let item = make(&format!("{}{place:02x}", self.name));
        self.items.push(item);
        self.open = Some(place);
        let item = self.items[place].json(&self.manner, true);
        self.tell_item("response.output_item.added", place, &item);
        match &self.items[place].body {
            Body::Thought { .. } if self.manner.summary => {
                let part = json!({"summary_index": 0, "part": {"type": "summary_text", "text": ""}});
                self.tell("response.reasoning_summary_part.added", place, part);
            }
            Body::Thought { .. } => {
                let part = json!({"content_index": 0, "part": {"type": "reasoning_text", "text": ""}});
                self.tell("response.content_part.added", place, part);
            }
            Body::Message { .. } => {
                let part = json!({"type": "output_text", "annotations": [], "logprobs": [], "text": ""});
                self.tell("response.content_part.added", place, json!({"content_index": 0, "part": part}));
            }
            Body::Call { .. } => {}
        }
        place
    }

    fn resume(&mut self, place: usize) {
        if self.open != Some(place) {
            self.close("completed");
            self.items[place].status = "in_progress";
            self.open = Some(place);
        }
    }

    fn text(&mut self, place: usize, text: &str) {
        let held = std::mem::take(&mut self.held);
        let told: Vec<Value> = logprobs::chat(&held).content.iter().map(|entry| json!(entry)).collect();
        let delta = json!({"content_index": 0, "delta": text, "logprobs": told});
        if let Body::Message { text: all, logprobs } = &mut self.items[place].body {
            all.push_str(text);
            logprobs.extend(told);
        }
        self.tell("response.output_text.delta", place, delta);
    }

    fn thought(&mut self, place: usize, text: &str) {
        if let Body::Thought { text: all } = &mut self.items[place].body {
            all.push_str(text);
        }
        if self.manner.summary {
            let delta = json!({"summary_index": 0, "delta": text});
            self.tell("response.reasoning_summary_text.delta", place, delta);
        } else {
            self.tell("response.reasoning_text.delta", place, json!({"content_index": 0, "delta": text}));
        }
    }

    /// Ends the open item.
    fn close(&mut self, status: &'static str) {
        let Some(place) = self.open.take() else { return };
        self.items[place].status = status;
        let item = self.items[place].json(&self.manner, false);
        match &self.items[place].body {
            Body::Thought { .. } if self.manner.summary => {
                let part = &item["summary"][0];
                let text = json!({"summary_index": 0, "text": part["text"]});
                self.tell("response.reasoning_summary_text.done", place, text);
                self.tell("response.reasoning_summary_part.done", place, json!({"summary_index": 0, "part": part}));
            }
            Body::Thought { .. } => {
                let part = &item["content"][0];
                let text = json!({"content_index": 0, "text": part["text"]});
                self.tell("response.reasoning_text.done", place, text);
                self.tell("response.content_part.done", place, json!({"content_index": 0, "part": part}));
            }
            Body::Message { .. } => {
                let part = &item["content"][0];
                let text = json!({"content_index": 0, "text": part["text"], "logprobs": part["logprobs"]});
                self.tell("response.output_text.done", place, text);
                self.tell("response.content_part.done", place, json!({"content_index": 0, "part": part}));
            }
            Body::Call { called, given, .. } if called.is_custom => {
                self.tell("response.custom_tool_call_input.done", place, json!({"input": given}));
            }
            Body::Call { called, given, .. } => {
                let whole = json!({"name": called.name, "arguments": given});
                self.tell("response.function_call_arguments.done", place, whole);
            }
        }
        self.tell_item("response.output_item.done", place, &item);
    }

    /// Ends it: what is open ends, and the response says how it stands. [`tell_end`](Self::tell_end) tells that.
    pub(crate) fn end(&mut self, end: End) {
        let incomplete = match (&end, &self.finish) {
            (End::Done(_), Finish::Length) => Some("max_output_tokens"),
            (End::Done(_), Finish::Filtered) => Some("content_filter"),
            _ => None,
        };
        let whole = matches!(end, End::Done(_)) && incomplete.is_none();
        if matches!(end, End::Done(_)) && self.items.is_empty() {
            self.add(Item::message);
        }
        self.close(if whole { "completed" } else { "incomplete" });
        let response = &mut self.response;
        response.output = self.items.iter().map(|item| item.json(&self.manner, false)).collect();
        response.incomplete = incomplete;
        match end {
            End::Done(usage) => {
                response.usage = Some(usage);
                response.completed_at = whole.then(now_s);
                response.status = if whole { ResponseStatus::Completed } else { ResponseStatus::Incomplete };
            }
            End::Failed(error) => {
                response.status = ResponseStatus::Failed;
                response.error = Some(ResponseError { code: error.response_code(), message: error.message });
            }
            End::Cancelled => response.status = ResponseStatus::Cancelled,
        }
    }

    /// Tells the end.
    pub(crate) fn tell_end(&mut self) {
        self.tell_response(match self.response.status {
            ResponseStatus::Failed => "response.failed",
            ResponseStatus::Completed => "response.completed",
            // There is no event for what was cancelled; the response in this one says it.
            _ => "response.incomplete",
        });
    }

    fn tell_response(&mut self, kind: &str) {
        if self.manner.events {
            let response = self.response.json();
            self.write(kind, json!({"response": response}));
        }
    }

    fn tell_item(&mut self, kind: &str, place: usize, item: &Value) {
        if self.manner.events {
            self.write(kind, json!({"output_index": place, "item": item}));
        }
    }

    /// Tells something of an item.
    fn tell(&mut self, kind: &str, place: usize, mut what: Value) {
        if self.manner.events {
            what["item_id"] = json!(self.items[place].id);
            what["output_index"] = json!(place);
            self.write(kind, what);
        }
    }

    fn write(&mut self, kind: &str, what: Value) {
        let number = self.number;
        self.number += 1;
        let mut event = json!({"type": kind, "sequence_number": number});
        if let (Value::Object(event), Value::Object(what)) = (&mut event, what) {
            event.extend(what);
        }
        let text = format!("event: {kind}\nid: {number}\ndata: {event}\n\n").into();
        self.events.push(Event { number, text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use allerac_wire::{Envelope, ResponsesRequest};

    fn writer(manner: Manner) -> Writer {
        let body = json!({"model": "m", "input": "hi"}).to_string();
        let request = ResponsesRequest::parse(Envelope::parse(body.as_bytes()).unwrap()).unwrap();
        let response = ResponseObject::new("resp_0".into(), 1, &request, (1.0, 1.0));
        Writer::new(response, "0".into(), manner)
    }

    const PLAIN: Manner = Manner { summary: false, sealed: None, logprobs: false, events: true };

    fn kinds(events: &[Event]) -> Vec<String> {
        let kind = |event: &Event| event.text.lines().next().unwrap().replace("event: ", "").replace("response.", "");
        events.iter().map(kind).collect()
    }

    fn chunk(pieces: Vec<Piece>) -> Progress {
        Progress::Chunk { index: 0, pieces, logprobs: Vec::new() }
    }

    fn finish(writer: &mut Writer, reason: Finish) {
        writer.push(Progress::Finished { index: 0, reason });
        let end = writer.push(Progress::Done(CompletionUsage::new(3, 1, 2))).unwrap();
        writer.end(end);
        writer.tell_end();
    }

    #[test]
    fn a_thought_words_and_calls_are_told_in_order() {
        let mut writer = writer(PLAIN);
        writer.create();
        writer.begin();
        writer.push(chunk(vec![Piece::Reasoning("h".into()), Piece::Reasoning("m".into()), Piece::Text("yes".into())]));
        let call = |index: u32| Piece::Call { index, id: Some(format!("c{index}")), name: "f".into() };
        let given = |index| Piece::Arguments { index, json: "{}".into() };
        writer.push(chunk(vec![call(0), given(0), call(1), given(1)]));
        finish(&mut writer, Finish::Calls);
        let events = writer.take_events();
        assert_eq!(
            kinds(&events),
            [
                "created",
                "in_progress",
                "output_item.added",
                "content_part.added",
                "reasoning_text.delta",
                "reasoning_text.delta",
                "reasoning_text.done",
                "content_part.done",
                "output_item.done",
                "output_item.added",
                "content_part.added",
                "output_text.delta",
                "output_text.done",
                "content_part.done",
                "output_item.done",
                "output_item.added",
                "function_call_arguments.delta",
                "function_call_arguments.done",
                "output_item.done",
                "output_item.added",
                "function_call_arguments.delta",
                "function_call_arguments.done",
                "output_item.done",
                "completed",
            ]
        );
        assert!(events.iter().zip(0..).all(|(event, number)| event.number == number));
        let response = writer.response().json();
        let ids: Vec<_> =
            response["output"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["rs_000", "msg_001", "fc_002", "fc_003"]);
        assert_eq!((&response["status"], &response["usage"]["total_tokens"]), (&json!("completed"), &json!(5)));
        assert_eq!(response["output"][0]["content"][0]["text"], "hm");
    }

    #[test]
    fn calls_that_are_mixed_keep_what_they_are_given() {
        let mut writer = writer(PLAIN);
        let call = |index: u32| Piece::Call { index, id: Some(format!("c{index}")), name: "f".into() };
        let given = |index, json: &str| Piece::Arguments { index, json: json.into() };
        writer.push(chunk(vec![call(0), given(0, "{"), call(1), given(1, "{"), given(0, "}"), given(1, "}")]));
        finish(&mut writer, Finish::Calls);
        let response = writer.response().json();
        for place in [0, 1] {
            let call = &response["output"][place];
            assert_eq!((&call["arguments"], &call["status"]), (&json!("{}"), &json!("completed")));
        }
    }

    #[test]
    fn an_answer_that_was_cut_says_so() {
        let mut writer = writer(Manner { summary: true, ..PLAIN });
        writer.push(chunk(vec![Piece::Reasoning("hm".into())]));
        finish(&mut writer, Finish::Length);
        let response = writer.response().json();
        assert_eq!(response["incomplete_details"], json!({"reason": "max_output_tokens"}));
        assert_eq!((&response["status"], &response["completed_at"]), (&json!("incomplete"), &Value::Null));
        let thought = &response["output"][0];
        assert_eq!((&thought["summary"][0]["text"], &thought["status"]), (&json!("hm"), &json!("incomplete")));
        assert_eq!(kinds(&writer.take_events()).pop().unwrap(), "incomplete");
    }

    #[test]
    fn a_failure_keeps_what_was_said() {
        let mut writer = writer(PLAIN);
        writer.push(chunk(vec![Piece::Text("one".into())]));
        writer.end(End::Failed(ApiError::too_many_requests()));
        let response = writer.response().json();
        assert_eq!((&response["status"], &response["error"]["code"]), (&json!("failed"), &json!("server_error")));
        assert_eq!(response["output"][0]["content"][0]["text"], "one");
    }
}
