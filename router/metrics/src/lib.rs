//! What is measured, and how it is told: counters and histograms of requests as clients see them, the reports of
//! engines, and both as OpenMetrics text. `docs/metrics.md` lists every metric.
//!
//! Labels come from short lists: installed models, configured upstreams, classes, routes. Nothing of a person, a key
//! or a prompt ever becomes a label or a value.

mod engines;
mod request;
mod router;
#[cfg(test)]
mod tests;

pub use engines::ModelReport;
pub use request::{Outcome, RequestLabels, RequestMeter, Tokens};
pub use router::Metrics;

/// The media type of [`Metrics::render`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Begins every name.
const PREFIX: &str = "allerac";
