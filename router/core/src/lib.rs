//! Where a request is computed, and how many may be at once: local models, other servers, limits, and the
//! policy that chooses among them. Knows neither HTTP handlers nor SQL nor how an engine computes.

mod alias;
mod kv;
mod limits;
mod rate;
mod registry;
mod route;
pub mod sse;
mod upstream;

pub use alias::Aliases;
pub use allerac_models::ModelKind;
pub use kv::KvFolder;
pub use limits::{Limits, NotAdmitted, Permit, TakenTokens};
pub use rate::{Gauge, Gauges, Limited, Measure, RateLimits, Refused};
pub use registry::{LocalModel, Registry, RegistryConfig};
pub use route::{Access, NoRoute, Route, route};
pub use upstream::{Endpoint, Secret, Upstream, UpstreamBody, UpstreamConfig, UpstreamError, UpstreamReply, Upstreams};
