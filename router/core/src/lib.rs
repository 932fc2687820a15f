//! Where a request is computed, and how many may be at once: local models, other servers, limits, and the
//! policy that chooses among them. Knows neither HTTP handlers nor SQL nor how an engine computes.

mod alias;
mod engines;
mod gpu;
mod kv;
mod limits;
mod model;
mod outlook;
mod pulls;
mod rate;
mod registry;
mod residency;
mod route;
pub mod sse;
mod upstream;
mod window;

pub use alias::Aliases;
pub use allerac_models::fit::Split;
pub use allerac_models::{
    Catalogue, Entry, Header, HeaderValue, ModelKind, ModelsError, Progress as PullProgress, Reference, named,
};
pub use engines::{Memory, ModelState, NoEngine};
pub use gpu::{GpuStanding, GpuView};
pub use kv::KvFolder;
pub use limits::{Away, Count, Limits, NotAdmitted, Permit, SharedRates, TakenTokens};
pub use model::{LocalModel, default_model};
pub use outlook::{Measured, Outcome, Outlook, Prospect};
pub use pulls::{Pull, Pulling, Pulls, TooManyPulls};
pub use rate::{Gauge, Gauges, Limited, Measure, RateLimits, Rates, Refused};
pub use registry::{Models, Registry, RegistryConfig, Warmth};
pub use residency::{Lease, plan};
pub use route::{Access, NoRoute, Route, route};
pub use upstream::{Endpoint, Secret, Upstream, UpstreamBody, UpstreamConfig, UpstreamError, UpstreamReply, Upstreams};
