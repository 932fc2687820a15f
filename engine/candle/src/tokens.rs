//! From texts to tokens, by the model's own `tokenizer.json`.

use allerac_engine_core::encode::Sequence;
use allerac_engine_core::request::TokenId;
use tokenizers::{EncodeInput, Encoding, Tokenizer};

use crate::error::LoadError;

pub(crate) const TOKENIZER: &str = "tokenizer.json";

/// What is tokenised: a text, or a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextInput {
    /// One text.
    One(String),
    /// Two that are looked at together.
    Pair(String, String),
}

/// A model's tokeniser. It adds the special tokens that the model expects, and cuts nothing.
#[derive(Debug)]
pub struct Tokens(Tokenizer);

impl Tokens {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, LoadError> {
        let invalid = |error: tokenizers::Error| LoadError::invalid(TOKENIZER, &error);
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(invalid)?;
        tokenizer.with_truncation(None).map_err(invalid)?.with_padding(None);
        Ok(Self(tokenizer))
    }

    /// The tokens of texts, in their order.
    ///
    /// # Errors
    /// What the tokeniser says of a text that it cannot read; few do.
    pub fn encode(&self, inputs: Vec<TextInput>) -> Result<Vec<Sequence>, String> {
        let inputs: Vec<EncodeInput> = inputs
            .into_iter()
            .map(|input| match input {
                TextInput::One(text) => text.into(),
                TextInput::Pair(first, second) => (first, second).into(),
            })
            .collect();
        let encodings = self.0.encode_batch_fast(inputs, true).map_err(|error| error.to_string())?;
        Ok(encodings.iter().map(sequence).collect())
    }
}

fn sequence(encoding: &Encoding) -> Sequence {
    let tokens: Vec<TokenId> = encoding.get_ids().iter().copied().map(TokenId).collect();
    let types = encoding.get_type_ids();
    let second = types.iter().position(|kind| *kind > 0).unwrap_or(types.len());
    Sequence { tokens, second: u32::try_from(second).unwrap_or(u32::MAX) }
}
