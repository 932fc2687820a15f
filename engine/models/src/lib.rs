//! Which models there are, and which are here: the catalogue `models.toml`, and a store that fetches,
//! verifies and keeps their files.

pub mod adapter;
mod blocks;
mod catalogue;
mod digest;
mod download;
mod downloads;
mod error;
pub mod fit;
mod gguf;
mod hub;
mod import;
mod licences;
mod names;
mod order;
mod orders;
mod pace;
mod pull;
mod pypi;
mod record;
mod scrub;
mod split;
mod store;
mod transfer;

pub use catalogue::{Ability, Catalogue, Entry, FileSpec, Layers, ModelKind, Quant, SamplingDefaults, Source};
pub use downloads::{CONNECTIONS, Downloads, Progress};
pub use error::ModelsError;
pub use gguf::{GgufError, Header, Shape, Tensor, Value as HeaderValue, Weights};
pub use hub::reference::{InvalidReference, Reference};
pub use hub::{HUB, Hub};
pub use import::Import;
pub use licences::Accepted;
pub use names::named;
pub use order::Swept;
pub use orders::Order;
pub use pace::{Hours, InvalidHours, Pace};
pub use record::Origin;
pub use scrub::{Mended, Scrubbed};
pub use split::all_parts;
pub use store::{Installed, Part, Store};
