//! What this machine is, and which profile of `hw-profiles/` fits it.

mod cpus;
mod probe;
mod profile;
mod topology;

pub use cpus::{CpuSet, InvalidCpuSet};
pub use probe::{Probe, probe};
pub use profile::{EngineProfile, Profile, ProfileError};
pub use topology::{CoreKind, Cpu, Topology};
