//! Which models are in memory, and for how long.

mod estimate;
mod graphics;
mod keeper;
mod lease;
mod policy;
mod terms;
#[cfg(test)]
mod tests;
mod watch;
mod worth;

pub(crate) use estimate::need;
pub use estimate::plan;
pub(crate) use keeper::{Command, Keeper, View, Wanted};
pub use lease::Lease;
pub(crate) use terms::{Key, Refusal};
