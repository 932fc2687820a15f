//! From the text of a grammar to a [`Constraint`](allerac_engine_core::Constraint) over a model's vocabulary.
//!
//! JSON schemas, regular expressions and Lark are compiled by llguidance; llama.cpp's notation is translated to
//! Lark first. All of it is pure computation on text that strangers write, under limits on time and memory.

mod compiler;
mod error;
mod gbnf;
mod matcher;
mod source;
mod vocabulary;

pub use compiler::Compiler;
pub use error::GrammarError;
pub use vocabulary::Vocabulary;
