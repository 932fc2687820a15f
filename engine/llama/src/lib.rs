//! [`Backend`](allerac_engine_core::Backend) and [`Encoder`](allerac_engine_core::encode::Encoder) over llama.cpp.
//!
//! The only crate that may contain unsafe code; it knows nothing of requests or policy.

#![allow(unsafe_code, reason = "see the crate documentation")]

mod adapter;
mod context;
mod draft;
mod encoder;
mod gpu;
mod kernels;
mod model;
mod special;
mod threads;

pub use adapter::Adapters;
pub use context::{Context, ContextParams};
pub use draft::DraftModel;
pub use encoder::{Embedder, EmbedderParams, Produced};
pub use gpu::{Gpu, GpuError, Offload, load_gpus, open_gpu};
pub use kernels::{NoKernels, load_kernels, loaded_kernels};
pub use model::{LoadError, Model};
