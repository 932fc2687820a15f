//! The registry: what the router measures itself, and the text.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::engines::{ModelReport, Reports};
use crate::{PREFIX, request};

/// Seconds until the first token: from a known prompt on a fast box to a long one on a slow box.
const FIRST_TOKEN_BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];
/// Seconds between two pieces of an answer. People read at about 0.1, and notice a stop of 0.5.
const BETWEEN_TOKENS_BUCKETS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];
/// Seconds in the queue of an engine.
const QUEUE_BUCKETS: [f64; 12] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0];
/// Seconds of a whole request.
const DURATION_BUCKETS: [f64; 13] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// A histogram for each combination of labels.
pub(crate) type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Everything that is measured. Clones share it.
#[derive(Debug, Clone)]
pub struct Metrics(pub(crate) Arc<Measured>);

#[derive(Debug)]
pub(crate) struct Measured {
    registry: Registry,
    http: Family<HttpLabels, Counter>,
    pub(crate) requests: Family<request::EndLabels, Counter>,
    pub(crate) tokens: Family<request::TokenLabels, Counter>,
    pub(crate) first_token: Histograms<request::ServedLabels>,
    pub(crate) between_tokens: Histograms<request::ServedLabels>,
    pub(crate) queue: Histograms<request::ServedLabels>,
    pub(crate) duration: Histograms<request::ServedLabels>,
    energy: Family<EnergyLabels, Counter<f64, AtomicU64>>,
    cpu: Family<ModelLabels, Counter<f64, AtomicU64>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HttpLabels {
    route: String,
    method: &'static str,
    status: u16,
}

/// What energy was for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EnergyLabels {
    /// `requests`, or `box` while there were none.
    used_by: &'static str,
    /// The model of the requests.
    model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabels {
    model: String,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let measured = Measured {
            http: Family::default(),
            requests: Family::default(),
            tokens: Family::default(),
            first_token: Family::new_with_constructor(|| Histogram::new(FIRST_TOKEN_BUCKETS)),
            between_tokens: Family::new_with_constructor(|| Histogram::new(BETWEEN_TOKENS_BUCKETS)),
            queue: Family::new_with_constructor(|| Histogram::new(QUEUE_BUCKETS)),
            duration: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            energy: Family::default(),
            cpu: Family::default(),
            registry: Registry::default(),
        };
        registry.register("http_requests", "Answers by route, method and status", measured.http.clone());
        registry.register("requests", "Generations that ended, by how", measured.requests.clone());
        registry.register("tokens", "Tokens that were accounted for", measured.tokens.clone());
        let help = "Measured energy of the box, by what it was for";
        registry.register_with_unit("energy", help, Unit::Joules, measured.energy.clone());
        let help = "Time of processors that requests took";
        registry.register_with_unit("request_cpu", help, Unit::Seconds, measured.cpu.clone());
        let histograms = [
            ("time_to_first_token", "From the request to its first token", &measured.first_token),
            ("inter_token_latency", "Between two pieces of an answer", &measured.between_tokens),
            ("queue_time", "From the engine's queue to the begin of work", &measured.queue),
            ("request_duration", "From the request to the end of its answer", &measured.duration),
        ];
        for (name, help, histogram) in histograms {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        }
        Self(Arc::new(Measured { registry, ..measured }))
    }
}

impl Metrics {
    /// Counts an answer. `route` is one of the server's own, as it is written there.
    pub fn count_http(&self, route: &str, method: &str, status: u16) {
        let method = ["GET", "POST"].into_iter().find(|known| *known == method).unwrap_or("other");
        let labels = HttpLabels { route: route.to_owned(), method, status };
        self.0.http.get_or_create(&labels).inc();
    }

    /// Counts what a request for a model took, in millionths of a joule and of a second.
    pub fn count_taken(&self, model: &str, energy_uj: u64, cpu_us: u64) {
        let labels = EnergyLabels { used_by: "requests", model: model.to_owned() };
        if energy_uj > 0 {
            self.0.energy.get_or_create(&labels).inc_by(millionths(energy_uj));
        }
        self.0.cpu.get_or_create(&ModelLabels { model: labels.model }).inc_by(millionths(cpu_us));
    }

    /// Counts what the box took while there was no request, in millionths of a joule.
    pub fn count_own_energy(&self, energy_uj: u64) {
        if energy_uj > 0 {
            let labels = EnergyLabels { used_by: "box", model: String::new() };
            self.0.energy.get_or_create(&labels).inc_by(millionths(energy_uj));
        }
    }

    /// All of it as OpenMetrics text, with what engines report and how many requests are in flight.
    ///
    /// # Panics
    /// Never: writing to a string does not fail.
    #[must_use]
    pub fn render(&self, models: Vec<ModelReport>, in_flight: usize, version: &str) -> String {
        let mut moment = Registry::with_prefix(PREFIX);
        moment.register_collector(Box::new(Reports { models, in_flight, version: version.to_owned() }));
        let mut text = String::new();
        let written = encode_registry(&mut text, &self.0.registry)
            .and_then(|()| encode_registry(&mut text, &moment))
            .and_then(|()| encode_eof(&mut text));
        written.expect("a string takes everything");
        text
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to nine thousand million joules")]
fn millionths(number: u64) -> f64 {
    number as f64 / 1e6
}
