//! The HTTP face of the box: the APIs of OpenAI, Anthropic and Ollama, the claim, the health checks, and the page.
//!
//! The life of a request is in [`handlers`](self) order: authenticate, parse, route, admit, prepare,
//! reserve, generate, count, stream, settle; see ARCHITECTURE.md.

mod api;
mod assets;
mod auth;
mod background;
mod batch;
mod chat;
mod choice;
mod claim;
mod constraint;
mod custom;
mod doors;
mod encoding;
mod error;
mod estimate;
mod fitting;
mod generation;
mod handlers;
mod hardware;
mod idempotency;
mod numbering;
mod openapi;
mod operations;
mod origin;
mod pass;
mod payment;
mod peer;
mod person_file;
mod port;
mod prepare;
mod progress;
mod rate;
mod relay;
mod sampling;
mod second_factor;
mod server;
mod session;
mod shared_rates;
mod sse;
mod sso;
mod state;
mod throttle;
mod ticket;
mod translate;
mod usage_file;

pub use background::Background;
pub use batch::Batches;
pub use claim::ClaimGate;
pub use doors::Doors;
pub use handlers::admin::gpu::{DeviceObject, GpuObject, PlacedObject, ShareObject};
pub use handlers::responses::resume as resume_responses;
pub use handlers::streamed::Exports;
pub use hardware::{AdviceObject, Hardware, Look, PowerObject, TemperatureObject};
pub use idempotency::InFlight;
pub use pass::Pass;
pub use person_file::write_person;
pub use port::Port;
pub use server::{AUTHORITY_PATH, app};
pub use shared_rates::limits;
pub use sso::SingleSignOn;
pub use state::AppState;
pub use usage_file::{NotWritten, Output, UsageFormat, write_usage};
