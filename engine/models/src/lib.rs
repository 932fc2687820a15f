//! Which models there are, and which are here: the catalogue `models.toml`, and a store that fetches,
//! verifies and keeps their files.

mod catalogue;
mod digest;
mod download;
mod error;
mod gguf;
mod names;
mod order;
mod pypi;
mod record;
mod store;

pub use catalogue::{Catalogue, Entry, FileSpec, ModelKind, SamplingDefaults, Source};
pub use error::ModelsError;
pub use gguf::{GgufError, Header, Shape, Value as HeaderValue};
pub use names::named;
pub use store::{Installed, Part, Progress, Store};
