//! llama.cpp's notation for grammars (GBNF, `grammars/README.md` of llama.cpp).

mod analysis;
mod characters;
mod lark;
mod parse;
mod shape;
mod syntax;

use crate::error::GrammarError;

/// The same grammar in llguidance's variant of Lark.
pub(crate) fn to_lark(text: &str) -> Result<String, GrammarError> {
    lark::write(&parse::parse(text)?)
}

#[cfg(test)]
mod tests;
