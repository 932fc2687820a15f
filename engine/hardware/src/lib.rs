//! What this machine is, and which profile of `hw-profiles/` fits it.

mod probe;
mod profile;

pub use probe::{Probe, probe};
pub use profile::{EngineProfile, Profile, ProfileError};
