//! Passes a request on to another server and accounts for it.
//!
//! The body goes through as it came, but for the model's name there, the wish for usage at the end of
//! a stream, and a bound of the output where money is limited and the client gave none. What is reserved is
//! an estimate ([`crate::estimate`]). What is settled is the usage that the server reports; where it reports none, the
//! events with output that came through, or the answer's bytes by [`BYTES_A_TOKEN`].

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
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::auth::Admitted;
use crate::error::ApiError;
use crate::estimate::{BYTES_A_TOKEN, bound_output, output_estimate, prompt_estimate};
use crate::handlers::served_by;
use crate::payment::{Payment, Till};
use crate::progress::Progress;
use crate::sse;
use crate::state::AppState;
use crate::translate::Decoder;

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
            bound_output(request.endpoint, &mut request.envelope.body);
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
}
