//! The protocol between the router and an engine process, and a supervised handle to one.
//!
//! The router spawns `allerac-engine` with one end of a Unix socket pair as its standard input. Frames
//! go both ways; when the router dies the socket closes and the engine ends.

mod encoding;
mod error;
pub mod frame;
mod gpu;
mod handle;
mod process;
pub mod protocol;
mod report;
pub mod settings;
mod supervisor;
mod worked;

pub use allerac_engine_core::{AdapterId, Attention, AttentionError, FlashAttention, KvType};
pub use allerac_hardware::CpuSet;
pub use encoding::{EncodeSpec, Encoding};
pub use error::EngineError;
pub use gpu::{GpuDevice, Offload, choose_gpu, device_nodes, gpu_module, list_gpus};
pub use handle::{Engine, EngineConfig, EngineStatus, GenerateSpec, Generation, GenerationEvent, KvFile};
pub use report::Report;
pub use settings::{EngineSettings, GpuMode};
pub use worked::Worked;
