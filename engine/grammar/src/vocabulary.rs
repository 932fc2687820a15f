//! A model's vocabulary, as llguidance walks it.

use std::collections::HashMap;
use std::sync::Arc;

use allerac_engine_core::{TokenId, TokenMask};
use llguidance::toktrie::{INVALID_TOKEN, TokRxInfo, TokTrie, TokenizerEnv};

/// Tokenises text in the middle of an answer.
type Tokenise = dyn Fn(&str) -> Vec<TokenId> + Send + Sync;

/// What the tokens of a model stand for.
#[derive(Clone)]
pub struct Vocabulary {
    /// The bytes of each token; empty for one that stands for no text.
    pub(crate) pieces: Arc<[Vec<u8>]>,
    /// The tokens that end a turn.
    pub(crate) ends: Vec<TokenId>,
    /// The tokens that stand for text.
    pub(crate) text: TokenMask,
    /// These and the ones that end a turn.
    pub(crate) text_or_end: TokenMask,
    /// Control tokens by their names.
    names: Arc<HashMap<Vec<u8>, TokenId>>,
    pub(crate) tokenise: Arc<Tokenise>,
}

impl Vocabulary {
    /// A vocabulary of these tokens. Those without bytes (control tokens) are part of an answer only where a grammar
    /// of words asks for one of these `names`, and those that end a turn only end it, whatever their bytes.
    /// `tokenise` may be approximate: it makes guesses.
    pub fn new(
        mut pieces: Vec<Vec<u8>>,
        ends: Vec<TokenId>,
        names: impl IntoIterator<Item = (TokenId, Vec<u8>)>,
        tokenise: impl Fn(&str) -> Vec<TokenId> + Send + Sync + 'static,
    ) -> Self {
        for end in &ends {
            if let Some(piece) = pieces.get_mut(end.0 as usize) {
                piece.clear();
            }
        }
        let all = || (0..).map(TokenId).zip(&pieces);
        let text: TokenMask = all().filter(|(_, piece)| !piece.is_empty()).map(|(token, _)| token).collect();
        let text_or_end = text.iter().chain(ends.iter().copied()).collect();
        let is_control = |token: TokenId| !ends.contains(&token) && !text.contains(token);
        let named = names.into_iter().filter(|(token, _)| is_control(*token) && (token.0 as usize) < pieces.len());
        let names = Arc::new(named.map(|(token, name)| (name, token)).collect());
        Self { pieces: pieces.into(), ends, text, text_or_end, names, tokenise: Arc::new(tokenise) }
    }

    /// The control token of this name.
    pub(crate) fn control(&self, name: &str) -> Option<TokenId> {
        self.names.get(name.as_bytes()).copied()
    }

    pub(crate) fn piece(&self, token: TokenId) -> &[u8] {
        self.pieces.get(token.0 as usize).map_or(&[], Vec::as_slice)
    }
}

/// The prefix tree of a vocabulary.
pub(crate) struct Trie(TokTrie);

impl Trie {
    pub(crate) fn new(vocabulary: &Vocabulary) -> Self {
        let size = u32::try_from(vocabulary.pieces.len()).expect("llama.cpp counts tokens in an i32");
        let ends: Vec<u32> = vocabulary.ends.iter().map(|end| end.0).filter(|end| *end < size).collect();
        let first = ends.first().copied().unwrap_or(INVALID_TOKEN);
        let trie = TokTrie::from(&TokRxInfo::new(size, first), &vocabulary.pieces);
        Self(if ends.is_empty() { trie } else { trie.with_eos_tokens(&ends) })
    }
}

impl TokenizerEnv for Trie {
    fn tok_trie(&self) -> &TokTrie {
        &self.0
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        self.0.greedy_tokenize(bytes)
    }

    /// Which tokens spell a text is left to the model, as without a grammar; only the text is constrained.
    fn tokenize_is_canonical(&self) -> bool {
        false
    }
}
