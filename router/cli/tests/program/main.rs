//! The program as scripts and people meet it: exit codes, what is printed where, JSON shapes, signals.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod books;
mod commands;
mod config;
mod plans;
mod serving;
mod support;
mod trouble;
mod tuning;
