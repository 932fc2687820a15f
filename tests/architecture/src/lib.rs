//! Holds the rules of ARCHITECTURE.md; see `dependencies.rs`.
