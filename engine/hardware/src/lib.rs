//! What this machine is, which profile of `hw-profiles/` fits it, and what measuring it says.

mod bandwidth;
mod compute;
mod cpus;
mod energy;
pub mod machine;
mod memory;
mod passes;
mod probe;
mod profile;
#[cfg(test)]
mod recorded;
pub mod smbios;
mod topology;
mod tree;
pub mod tuning;

pub use bandwidth::{BANDWIDTH_BYTES, Bandwidth, bandwidth};
pub use compute::compute;
pub use cpus::{CpuSet, InvalidCpuSet};
pub use energy::Energy;
pub use machine::Machine;
pub use memory::{Memory, memory};
pub use probe::{Probe, probe};
pub use profile::{EngineProfile, Profile, ProfileError};
pub use topology::{CoreKind, Cpu, Topology};
pub use tree::Tree;
