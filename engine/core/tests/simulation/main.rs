//! Runs the engine over a fake backend: single rules first, then a seeded storm of arrivals, cancels and
//! failures, with the invariants checked after every step.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod adapters;
mod archive;
mod classes;
mod constrained;
mod drafting;
mod fairness;
mod fake;
mod guesses;
mod pace;
mod requests;
mod sampling;
mod sharing;
mod stats;
mod storm;
