//! Passes a request on to another server and accounts for it.
//!
//! The body goes through as it came, but for the model's name there, the wish for usage at the end of
//! a stream, and a bound of the output where money is limited and the client gave none. What is reserved is an estimate: the prompt's bytes by [`BYTES_A_TOKEN_MIN`] and the output
//! asked for. What is settled is the usage that the server reports; where it reports none, the events
//! with output that came through, or the answer's bytes by [`BYTES_A_TOKEN`].

use std::sync::Arc;
use std::time::Instant;

use allerac_engine_core::Class;
use allerac_ledger::{Outcome, Principal, Reserve, Settlement};
use allerac_metrics::{Outcome as Ended, RequestLabels, RequestMeter, Tokens};
use allerac_router_core::sse::Parser;
use allerac_router_core::{Endpoint, Upstream, UpstreamBody, UpstreamError, UpstreamReply};
use allerac_wire::{ChatRequest, Envelope};
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::auth::Admitted;
use crate::error::ApiError;
use crate::handlers::served_by;
use crate::payment::{Payment, Till};
use crate::progress::Progress;
use crate::sse;
use crate::state::AppState;
use crate::translate::Decoder;

/// Few texts have fewer bytes a token: an estimate that is rarely too small.
const BYTES_A_TOKEN_MIN: usize = 3;
/// English text has about this many.
const BYTES_A_TOKEN: usize = 4;
/// Output set aside when the client does not bound it, in tokens.
const OUTPUT_DEFAULT: u32 = 4096;
/// What bounds the output of a choice: of chats, and of everything before that was there.
const OUTPUT_BOUNDS: [&str; 2] = ["max_completion_tokens", "max_tokens"];
/// Events that may wait for the client; then the upstream is not read.
const EVENTS_WAITING_MAX: usize = 64;

/// A request for another server.
pub(crate) struct Request {
    pub(crate) endpoint: Endpoint,
    pub(crate) envelope: Envelope,
    /// The server's own name for the model.
    pub(crate) name: String,
}

/// What the relay tells the handler. All but `Event` are the last.
enum Relayed {
    Event(String),
    Whole(Vec<u8>),
    /// The stream ended, having cost so many prompt and completion tokens as far as is known.
    Done((u32, u32)),
    Failed(ApiError),
}

/// Sends a request on and answers with what comes back, as it comes. The answer names the server, also when it is an
/// error: the prompt may have left the box.
pub(crate) async fn relay(
    state: &AppState,
    principal: &Principal,
    upstream: &Arc<Upstream>,
    mut request: Request,
    admitted: Admitted,
) -> Response {
    // What has no tokens of output is never streamed.
    request.envelope.stream &= request.endpoint.generates();
    let stream = request.envelope.stream;
    let hide_usage = stream && !asks_for_usage(&request.envelope);
    let lane = start(state, principal, upstream, request, admitted, hide_usage);
    let answered = if stream { sse::answer(lane, Passed).await } else { whole(lane).await };
    served_by(answered.unwrap_or_else(IntoResponse::into_response), &format!("upstream:{}", upstream.name()))
}

/// Sends a conversation on; what comes of it arrives in the returned lane, as if it were computed here.
pub(crate) fn converse(
    state: &AppState,
    principal: &Principal,
    upstream: &Arc<Upstream>,
    conversation: &Conversation<'_>,
    admitted: Admitted,
) -> mpsc::Receiver<Progress> {
    let &Conversation { request, endpoint, name } = conversation;
    let mut decoder = Decoder::new(admitted.request_id, request.options.stop.clone());
    let body = request.for_upstream(name);
    let envelope = Envelope { model: request.model.clone(), stream: true, body };
    let outgoing = Request { endpoint, envelope, name: name.to_owned() };
    let mut lane = start(state, principal, upstream, outgoing, admitted, false);
    let (sender, receiver) = mpsc::channel(EVENTS_WAITING_MAX);
    tokio::spawn(async move {
        loop {
            let relayed = tokio::select! {
                relayed = lane.recv() => relayed,
                // Dropping the lane ends the request.
                () = sender.closed() => return,
            };
            let Some(relayed) = relayed else { return };
            for progress in decoder.read(relayed) {
                if !sse::deliver(&sender, progress).await {
                    return;
                }
            }
        }
    });
    receiver
}

/// A conversation for another server.
pub(crate) struct Conversation<'a> {
    pub(crate) request: &'a ChatRequest,
    /// The endpoint that the client asked.
    pub(crate) endpoint: Endpoint,
    /// The server's own name for the model.
    pub(crate) name: &'a str,
}

/// Runs a request in a task of its own.
fn start(
    state: &AppState,
    principal: &Principal,
    upstream: &Arc<Upstream>,
    request: Request,
    admitted: Admitted,
    hide_usage: bool,
) -> mpsc::Receiver<Relayed> {
    let (sender, lane) = mpsc::channel(EVENTS_WAITING_MAX);
    let labels = RequestLabels {
        endpoint: request.endpoint.name(),
        model: request.name.clone(),
        class: class(&request.envelope),
        served_by: format!("upstream:{}", upstream.name()),
    };
    let run = Run {
        measure: state.metrics.request(labels, admitted.accepted),
        upstream: Arc::clone(upstream),
        till: Till::of(state),
        principal: principal.clone(),
        sender: sender.clone(),
        meter: Meter::default(),
        hide_usage,
        admitted,
    };
    tokio::spawn(async move {
        let last = run.run(request).await;
        sse::deliver(&sender, last).await;
    });
    lane
}

async fn whole(mut lane: mpsc::Receiver<Relayed>) -> Result<Response, ApiError> {
    match lane.recv().await {
        Some(Relayed::Whole(body)) => Ok(json_response(body)),
        Some(Relayed::Failed(error)) => Err(error),
        Some(Relayed::Event(_) | Relayed::Done(_)) | None => Err(allerac_engine_link::EngineError::Stopped.into()),
    }
}

fn json_response(body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

impl sse::Lane for Relayed {
    fn failed(self) -> Result<Self, ApiError> {
        match self {
            Self::Failed(error) => Err(error),
            other => Ok(other),
        }
    }
}

/// Events pass as they came.
struct Passed;

impl sse::Format<Relayed> for Passed {
    fn format(&mut self, relayed: Relayed) -> (String, bool) {
        match relayed {
            Relayed::Event(data) => {
                (data.lines().map(|line| format!("data: {line}\n")).collect::<String>() + "\n", false)
            }
            Relayed::Done(_) => (sse::DONE.to_owned(), true),
            Relayed::Failed(error) => (sse::error_event(&error), true),
            Relayed::Whole(_) => (String::new(), true),
        }
    }
}

impl Decoder {
    /// What a step of the relay says.
    fn read(&mut self, relayed: Relayed) -> Vec<Progress> {
        match relayed {
            Relayed::Event(data) => self.decode(&data),
            Relayed::Done(counted) => vec![Progress::Done(self.usage(counted))],
            Relayed::Failed(error) => vec![Progress::Failed(error)],
            Relayed::Whole(_) => Vec::new(),
        }
    }
}

/// A request on its way.
struct Run {
    upstream: Arc<Upstream>,
    till: Till,
    principal: Principal,
    sender: mpsc::Sender<Relayed>,
    meter: Meter,
    measure: RequestMeter,
    /// The client did not ask for the usage that we asked for.
    hide_usage: bool,
    admitted: Admitted,
}

impl Run {
    async fn run(mut self, mut request: Request) -> Relayed {
        let reserve = Reserve {
            request_id: self.admitted.request_id,
            model: request.name.clone(),
            endpoint: request.endpoint.name(),
            served_by: format!("upstream:{}", self.upstream.name()),
            prompt_tokens: prompt_estimate(&request.envelope),
            max_output_tokens: if request.endpoint.generates() {
                output_estimate(request.endpoint, &request.envelope)
            } else {
                0
            },
        };
        self.meter.prompt_estimate = reserve.prompt_tokens;
        let mut payment = match self.till.set_aside(&self.principal, &self.admitted.accounts, reserve).await {
            Ok(payment) => payment,
            Err(error) => return Relayed::Failed(error),
        };
        if payment.bounds_output() {
            bound_output(&mut request);
        }
        let (endpoint, stream) = (request.endpoint, request.envelope.stream);
        let upstream = Arc::clone(&self.upstream);
        let sender = self.sender.clone();
        let sent = tokio::select! {
            reply = upstream.send(endpoint, outgoing(request)) => reply.map_err(ApiError::from),
            () = sender.closed() => Err(client_left()),
        };
        // The server may have begun: its prompt is charged although nothing came back.
        self.meter.begun = sender.is_closed();
        let last = match sent {
            Ok(UpstreamReply::Success(body)) => {
                self.meter.begun = true;
                if stream {
                    self.stream(&upstream, body, &mut payment).await
                } else {
                    self.whole(&upstream, body).await
                }
            }
            Ok(UpstreamReply::Refused { status, message }) => Err(ApiError::upstream_refused(status, message)),
            Err(error) => Err(error),
        };
        self.settle(payment, last).await
    }

    async fn whole(&mut self, upstream: &Upstream, body: UpstreamBody) -> Result<Relayed, ApiError> {
        let body = tokio::select! {
            body = upstream.body(body) => body?,
            () = self.sender.closed() => return Err(client_left()),
        };
        let value: Value = serde_json::from_slice(&body)
            .map_err(|_| ApiError::from(UpstreamError::Failed { name: upstream.name().to_owned(), status: 200 }))?;
        self.meter.note(&value);
        Ok(Relayed::Whole(body))
    }

    async fn stream(
        &mut self,
        upstream: &Upstream,
        mut body: UpstreamBody,
        payment: &mut Payment,
    ) -> Result<Relayed, ApiError> {
        let mut parser = Parser::default();
        let sender = self.sender.clone();
        loop {
            let piece = tokio::select! {
                piece = upstream.next_piece(&mut body) => piece?,
                () = sender.closed() => return Err(client_left()),
            };
            let Some(piece) = piece else {
                let cut = UpstreamError::Cut { name: upstream.name().to_owned() };
                return Err(cut.into());
            };
            let too_long = |_| ApiError::from(UpstreamError::TooLong { name: upstream.name().to_owned() });
            for data in parser.push(&piece).map_err(too_long)? {
                if data == "[DONE]" {
                    return Ok(Relayed::Done(self.meter.tokens()));
                }
                let value: Value = serde_json::from_str(&data).unwrap_or_default();
                if self.meter.note(&value) {
                    self.measure.piece(0, Instant::now());
                }
                let (prompt, completion) = self.meter.tokens();
                payment.count(prompt, self.meter.cached, completion)?;
                if self.hide_usage && is_usage_only(&value) {
                    continue;
                }
                if !sse::deliver(&sender, Relayed::Event(data)).await {
                    return Err(client_left());
                }
            }
        }
    }

    /// Settles, before the end is told.
    async fn settle(mut self, mut payment: Payment, last: Result<Relayed, ApiError>) -> Relayed {
        let (prompt_tokens, completion_tokens) = self.meter.tokens();
        let (outcome, ended) = match &last {
            Ok(_) => (Outcome::Completed, Ended::Completed),
            Err(_) if self.sender.is_closed() => (Outcome::Cancelled, Ended::Cancelled),
            Err(_) => (Outcome::Failed, if self.meter.begun { Ended::Failed } else { Ended::Refused }),
        };
        let cost = Tokens { prompt: prompt_tokens, cached: self.meter.cached, completion: completion_tokens };
        self.measure.end(ended, if self.meter.begun { cost } else { Tokens::default() }, Instant::now());
        if self.meter.begun {
            let cached_tokens = self.meter.cached;
            if let Err(error) = payment.count(prompt_tokens, cached_tokens, completion_tokens) {
                return Relayed::Failed(error.into());
            }
            payment.settle(Settlement { prompt_tokens, cached_tokens, completion_tokens, outcome }).await;
        } else {
            payment.release();
        }
        last.unwrap_or_else(Relayed::Failed)
    }
}

fn client_left() -> ApiError {
    allerac_engine_link::EngineError::ClientStalled.into()
}

/// What is known of the cost.
#[derive(Debug, Default)]
struct Meter {
    begun: bool,
    prompt_estimate: u32,
    /// As the server says: prompt and completion tokens.
    reported: Option<(u32, u32)>,
    cached: u32,
    /// Events with output: most servers send one a token.
    events: u32,
    output_bytes: usize,
}

impl Meter {
    /// Looks at one event, or at a whole answer; whether there is output in it.
    fn note(&mut self, value: &Value) -> bool {
        let number = |value: &Value| value.as_u64().map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        let usage = &value["usage"];
        // Encoders say nothing of output, and rerankers often but a total.
        let total = || number(&usage["total_tokens"]).filter(|_| value["choices"].is_null());
        let prompt = number(&usage["prompt_tokens"]).or_else(total);
        let completion = number(&usage["completion_tokens"]).or_else(|| total().map(|_| 0));
        if let (Some(prompt), Some(completion)) = (prompt, completion) {
            self.reported = Some((prompt, completion));
            self.cached = number(&usage["prompt_tokens_details"]["cached_tokens"]).unwrap_or(0).min(prompt);
        }
        let choices = value["choices"].as_array().map_or(&[][..], Vec::as_slice);
        let bytes: usize = choices.iter().map(output_bytes).sum();
        self.events += u32::from(bytes > 0);
        self.output_bytes += bytes;
        bytes > 0
    }

    /// Prompt and completion tokens, reported or estimated.
    fn tokens(&self) -> (u32, u32) {
        let by_bytes = u32::try_from(self.output_bytes.div_ceil(BYTES_A_TOKEN)).unwrap_or(u32::MAX);
        self.reported.unwrap_or((self.prompt_estimate, self.events.max(by_bytes)))
    }
}

/// Bytes of output in one choice: text, reasoning, and arguments of tools.
fn output_bytes(choice: &Value) -> usize {
    let message = if choice["delta"].is_object() { &choice["delta"] } else { &choice["message"] };
    let text = |value: &Value| value.as_str().map_or(0, str::len);
    let tools = message["tool_calls"].as_array().map_or(&[][..], Vec::as_slice);
    let arguments: usize = tools.iter().map(|call| text(&call["function"]["arguments"])).sum();
    text(&choice["text"]) + text(&message["content"]) + text(&message["reasoning_content"]) + arguments
}

fn is_usage_only(value: &Value) -> bool {
    value["usage"].is_object() && value["choices"].as_array().is_some_and(Vec::is_empty)
}

fn asks_for_usage(envelope: &Envelope) -> bool {
    envelope.body.get("stream_options").is_some_and(|options| options["include_usage"] == true)
}

/// How urgent the client calls it; what the server makes of that is its own affair.
fn class(envelope: &Envelope) -> Class {
    match envelope.body.get("service_tier").and_then(Value::as_str) {
        Some("flex") => Class::Batch,
        Some("priority") => Class::Voice,
        _ => Class::Chat,
    }
}

/// The body as the server gets it.
fn outgoing(request: Request) -> Vec<u8> {
    let mut body = request.envelope.body;
    body.insert("model".into(), Value::String(request.name));
    if request.envelope.stream {
        let options = body.entry("stream_options").or_insert_with(|| json!({}));
        if let Some(options) = options.as_object_mut() {
            options.insert("include_usage".into(), Value::Bool(true));
        } else {
            *options = json!({"include_usage": true});
        }
    }
    serde_json::to_vec(&body).expect("it was JSON before")
}

fn prompt_estimate(envelope: &Envelope) -> u32 {
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
fn output_estimate(endpoint: Endpoint, envelope: &Envelope) -> u32 {
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
fn bound_output(request: &mut Request) {
    let body = &mut request.envelope.body;
    // llama.cpp's own word, which it takes before the others.
    body.remove("n_predict");
    let is_bound =
        bounds(request.endpoint).iter().any(|name| body.get(*name) == Some(&json!(0)) || number(body, name).is_some());
    if is_bound || !request.endpoint.generates() {
        return;
    }
    for name in OUTPUT_BOUNDS {
        body.remove(name);
    }
    let [chat, other] = OUTPUT_BOUNDS;
    let name = if request.endpoint == Endpoint::Completions { other } else { chat };
    body.insert(name.to_owned(), OUTPUT_DEFAULT.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(body: &Value) -> Envelope {
        Envelope::parse(body.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn the_body_passes_but_for_the_model_and_the_wish_for_usage() {
        let body = json!({"model": "fast", "stream": true, "tools": [{"x": 1}], "unknown": null});
        let request = Request { endpoint: Endpoint::Chat, envelope: envelope(&body), name: "big".into() };
        let sent: Value = serde_json::from_slice(&outgoing(request)).unwrap();
        let wanted = json!({"model": "big", "stream": true, "tools": [{"x": 1}], "unknown": null,
            "stream_options": {"include_usage": true}});
        assert_eq!(sent, wanted);
    }

    #[test]
    fn reported_usage_wins_over_counting() {
        let mut meter = Meter { prompt_estimate: 9, ..Meter::default() };
        meter.note(&json!({"choices": [{"delta": {"content": "twelve bytes"}}]}));
        meter.note(&json!({"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "{}"}}]}}]}));
        assert_eq!(meter.tokens(), (9, 4));
        meter.note(&json!({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2,
            "prompt_tokens_details": {"cached_tokens": 3}}}));
        assert_eq!((meter.tokens(), meter.cached), ((5, 2), 3));
    }

    #[test]
    fn usage_without_output_is_usage() {
        let mut meter = Meter { prompt_estimate: 9, ..Meter::default() };
        meter.note(&json!({"object": "list", "data": [], "usage": {"prompt_tokens": 5, "total_tokens": 5}}));
        assert_eq!(meter.tokens(), (5, 0));
        meter.note(&json!({"results": [], "usage": {"total_tokens": 7}}));
        assert_eq!(meter.tokens(), (7, 0));
        let envelope = envelope(&json!({"model": "m", "query": "four", "documents": ["words"]}));
        assert_eq!(prompt_estimate(&envelope), 5);
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
            let mut request = Request { endpoint, envelope: envelope(&body), name: "m".into() };
            bound_output(&mut request);
            Value::Object(request.envelope.body)
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
