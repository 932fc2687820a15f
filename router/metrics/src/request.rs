//! Measures one request as its client sees it.

use std::collections::HashMap;
use std::time::Instant;

use allerac_engine_core::Class;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::histogram::Histogram;

use crate::router::Metrics;

/// What tells one kind of request from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLabels {
    /// The endpoint's name in the ledger.
    pub endpoint: &'static str,
    /// An installed model, or a configured one of an upstream: never what a client wrote.
    pub model: String,
    /// How urgent it is.
    pub class: Class,
    /// `local`, or `upstream:NAME`.
    pub served_by: String,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Completed,
    /// Its client left.
    Cancelled,
    /// After work on it had begun.
    Failed,
    /// Before: what it asked for cannot be, its quota is used up, or nobody is free.
    Refused,
}

/// What a request cost, as the ledger has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Of the prompt.
    pub prompt: u32,
    /// Of these, known before.
    pub cached: u32,
    /// Of the answer.
    pub completion: u32,
}

/// Measures one request, and counts it exactly once: when it [ends](Self::end), or as refused when it is dropped
/// before.
#[derive(Debug)]
pub struct RequestMeter {
    metrics: Metrics,
    labels: RequestLabels,
    accepted: Instant,
    between_tokens: Histogram,
    has_begun: bool,
    has_ended: bool,
    choices: HashMap<usize, Choice>,
}

#[derive(Debug, Default)]
struct Choice {
    /// When it was handed to the engine, until work on it begins.
    queued: Option<Instant>,
    last_piece: Option<Instant>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ServedLabels {
    model: String,
    class: &'static str,
    served_by: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct EndLabels {
    endpoint: &'static str,
    model: String,
    class: &'static str,
    served_by: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct TokenLabels {
    model: String,
    class: &'static str,
    served_by: String,
    kind: &'static str,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}

impl RequestLabels {
    fn served(&self) -> ServedLabels {
        let Self { model, class, served_by, .. } = self;
        ServedLabels { model: model.clone(), class: class.name(), served_by: served_by.clone() }
    }
}

impl Metrics {
    /// Begins to measure a request that was accepted at this time.
    #[must_use]
    pub fn request(&self, labels: RequestLabels, accepted: Instant) -> RequestMeter {
        let between_tokens = self.0.between_tokens.get_or_create_owned(&labels.served());
        RequestMeter {
            metrics: self.clone(),
            labels,
            accepted,
            between_tokens,
            has_begun: false,
            has_ended: false,
            choices: HashMap::new(),
        }
    }
}

impl RequestMeter {
    /// A choice was handed to the engine.
    pub fn queued(&mut self, choice: usize, now: Instant) {
        self.choices.entry(choice).or_default().queued = Some(now);
    }

    /// The engine began with a choice. That it began anew after a crash is no wait in the queue.
    pub fn started(&mut self, choice: usize, now: Instant) {
        if let Some(queued) = self.choices.entry(choice).or_default().queued.take() {
            self.metrics.0.queue.get_or_create(&self.labels.served()).observe(seconds(queued, now));
        }
    }

    /// A piece of a choice goes to the client: one token, or several where guesses were right.
    pub fn piece(&mut self, choice: usize, now: Instant) {
        if !std::mem::replace(&mut self.has_begun, true) {
            self.metrics.0.first_token.get_or_create(&self.labels.served()).observe(seconds(self.accepted, now));
        }
        if let Some(last) = self.choices.entry(choice).or_default().last_piece.replace(now) {
            self.between_tokens.observe(seconds(last, now));
        }
    }

    /// It ended, having cost so much. Only the first time counts.
    pub fn end(&mut self, outcome: Outcome, tokens: Tokens, now: Instant) {
        if std::mem::replace(&mut self.has_ended, true) {
            return;
        }
        let RequestLabels { endpoint, .. } = self.labels;
        let ServedLabels { model, class, served_by } = self.labels.served();
        let measured = &self.metrics.0;
        for (kind, count) in [("prompt", tokens.prompt), ("cached", tokens.cached), ("completion", tokens.completion)] {
            let labels = TokenLabels { model: model.clone(), class, served_by: served_by.clone(), kind };
            measured.tokens.get_or_create(&labels).inc_by(count.into());
        }
        if outcome == Outcome::Completed {
            measured.duration.get_or_create(&self.labels.served()).observe(seconds(self.accepted, now));
        }
        let labels = EndLabels { endpoint, model, class, served_by, outcome: outcome.name() };
        measured.requests.get_or_create(&labels).inc();
    }
}

impl Drop for RequestMeter {
    fn drop(&mut self) {
        self.end(Outcome::Refused, Tokens::default(), self.accepted);
    }
}

fn seconds(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64()
}
