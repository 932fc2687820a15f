//! Which models are in memory, and for how long.

mod estimate;
mod keeper;
mod lease;
mod policy;
#[cfg(test)]
mod tests;
mod worth;

pub(crate) use estimate::need;
pub(crate) use keeper::{Command, Keeper, View, Wanted};
pub use lease::Lease;
pub(crate) use policy::{Key, Refusal};
