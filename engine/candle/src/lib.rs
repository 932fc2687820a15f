//! Encoders of the BERT family over candle: texts become vectors (embeddings), or pairs of texts scores (reranking).
//!
//! candle holds the tensors; what takes the time is done by operations of our own ([`ops`]): sequences of any length
//! lie one after the other in one matrix, so that nothing is computed for padding, and a sequence's vector does not
//! depend on the others.

mod config;
mod error;
mod head;
mod layer;
mod model;
mod ops;
mod tokens;
mod weights;

pub use error::LoadError;
pub use model::{Files, Model, Produces};
pub use tokens::{TextInput, Tokens};
