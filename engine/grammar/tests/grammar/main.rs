//! Compiles grammars over a small vocabulary and lets a model without any sense write in them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod forms;
mod hostile;
mod recursion;
mod schemas;
mod words;
mod writer;
