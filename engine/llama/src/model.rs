//! A loaded model file and its vocabulary.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use allerac_engine_core::attention::KV_BLOCK;
use allerac_engine_core::{AdapterId, Attention, AttentionError, KvType, TokenId};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::LlamaVocab;
use llama_cpp_2::{LogOptions, send_logs_to_tracing};

use crate::adapter::Adapters;
use crate::gpu::{GpuError, Offload, divide};
use crate::kernels::loaded_kernels;
use crate::special::Specials;

/// A model in memory. It lives as long as the process: an engine process has one, and perhaps one that guesses for it.
pub struct Model {
    pub(crate) backend: &'static LlamaBackend,
    pub(crate) inner: LlamaModel,
    /// What each token stands for; empty for control tokens.
    pieces: Vec<Vec<u8>>,
    /// The names of tokens that stand for no bytes.
    names: HashMap<TokenId, Vec<u8>>,
    /// Whether each token ends a turn.
    ends: Vec<bool>,
    specials: Specials,
}

/// A model file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the model file {path}: {source}; fetch it again with `allerac models pull`")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("{0} is not a GGUF model file; remove it and fetch it again with `allerac models pull`")]
    NotGguf(PathBuf),
    /// llama.cpp refused it.
    #[error(
        "llama.cpp cannot load {0}: the file is damaged, of an unknown architecture, or too large for the \
         memory; the log says more"
    )]
    Refused(PathBuf),
    /// The library did not start.
    #[error("llama.cpp did not start: {0}")]
    Library(String),
    /// The graphics processor that it is to be loaded onto cannot be used.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// It cannot guess for another model.
    #[error("{path} cannot guess for this model: {why}; a draft model is a smaller one of the same family")]
    Unfit {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// It is no adapter for the model.
    #[error("llama.cpp cannot use the adapter {0}: it is damaged, or for another model; the log says more")]
    Adapter(PathBuf),
    /// It makes no vectors and no scores.
    #[error(
        "this model file cannot encode texts: {0}; install it as a chat model, or choose one that is made for embeddings or reranking"
    )]
    NotAnEncoder(String),
    /// No context of this size.
    #[error(
        "there is not enough memory for a context of {cells} cells; lower `cells` or `sequences` in the configuration file"
    )]
    Context {
        /// Cells asked for.
        cells: u32,
    },
    /// Settings that no model can be run with.
    #[error(transparent)]
    Attention(#[from] AttentionError),
    /// The KV cannot be of this type.
    #[error(
        "keys or values of type {kv_type} do not suit this model: its heads of {head} numbers are no whole blocks of \
         {KV_BLOCK}; set kv_type_k and kv_type_v to f16, or run `allerac tune` with this model"
    )]
    KvType {
        /// The type asked for.
        kv_type: KvType,
        /// Numbers in one head's key or value.
        head: u32,
    },
}

impl Model {
    /// Loads a model for the rest of the process's life, a part of it onto a graphics processor. `progress` is told the
    /// share loaded, 0.0..=1.0.
    ///
    /// # Errors
    /// [`LoadError`] when the file is missing, damaged, unknown or too large.
    pub fn load(path: &Path, progress: impl FnMut(f32) + 'static) -> Result<&'static Self, LoadError> {
        Ok(Self::load_with(path, None, &[], progress)?.0)
    }

    /// The same, a part of it onto a graphics processor, and with adapters. Those that cannot be used are told of, and
    /// missing.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_with(
        path: &Path,
        offload: Option<&Offload>,
        adapters: &[(AdapterId, PathBuf)],
        progress: impl FnMut(f32) + 'static,
    ) -> Result<(&'static Self, Adapters), LoadError> {
        check_magic(path)?;
        let backend = library()?;
        let mut progress = progress;
        let params = LlamaModelParams::default().with_progress_callback(move |share| {
            progress(share);
            true
        });
        let kept = offload.and_then(Offload::kept);
        let params = divide(params, offload, kept.as_ref());
        let mut inner =
            LlamaModel::load_from_file(backend, path, &params).map_err(|_| LoadError::Refused(path.to_owned()))?;
        let adapters = Adapters::load(&mut inner, adapters);
        let vocabulary = inner.vocab();
        let pieces: Vec<Vec<u8>> =
            vocabulary.tokens().map(|token| vocabulary.token_to_piece(token, false, None)).collect();
        let names = names(&vocabulary, &pieces);
        let ends = vocabulary.tokens().map(|token| vocabulary.is_eog(token)).collect();
        let specials = Specials::new(&vocabulary);
        // A context borrows its model. Both live until the process ends, so the borrow may be 'static.
        let this = Box::leak(Box::new(Self { backend, inner, pieces, names, ends, specials }));
        Ok((this, adapters))
    }

    /// Tokenises text. `special` parses control tokens in it, as a rendered chat template needs; text of
    /// a user must not be parsed so. A BOS token is added where the model wants one and the text has none.
    #[must_use]
    pub fn tokenise(&self, text: &str, special: bool) -> Vec<TokenId> {
        let vocabulary = self.inner.vocab();
        let has_bos = special && self.bos_text().is_some_and(|bos| !bos.is_empty() && text.starts_with(&bos));
        let parts = self.specials.parts(text, special).into_iter().enumerate();
        let tokens =
            parts.flat_map(|(index, part)| vocabulary.tokenize(part.as_bytes(), index == 0 && !has_bos, special));
        ids(tokens)
    }

    /// The tokens of text before and after a gap, so that the gap's text follows (Bavarian et al., "Efficient Training
    /// of Language Models to Fill in the Middle", 2022: prefix, suffix, middle); `None` for a model without the tokens.
    #[must_use]
    pub fn infill(&self, prefix: &str, suffix: &str) -> Option<Vec<TokenId>> {
        let vocabulary = self.inner.vocab();
        let special = |token: LlamaToken| (token.0 >= 0).then_some(token);
        let before = special(vocabulary.fim_pre())?;
        let (after, gap) = (special(vocabulary.fim_suf())?, special(vocabulary.fim_mid())?);
        let begin = vocabulary.should_add_bos().then(|| special(vocabulary.bos())).flatten();
        let mut tokens = ids(begin.into_iter().chain([before]));
        tokens.extend(self.tokenise_part(prefix));
        tokens.extend(ids([after]));
        tokens.extend(self.tokenise_part(suffix));
        tokens.extend(ids([gap]));
        Some(tokens)
    }

    /// The model's chat template (Jinja), where it has one.
    #[must_use]
    pub fn chat_template(&self) -> Option<String> {
        self.inner.chat_template(None).ok()?.to_string().ok()
    }

    /// The text of the token that begins a sequence.
    #[must_use]
    pub fn bos_text(&self) -> Option<String> {
        self.text(self.inner.vocab().bos())
    }

    /// The text of the token that ends a sequence.
    #[must_use]
    pub fn eos_text(&self) -> Option<String> {
        self.text(self.inner.vocab().eos())
    }

    /// The text of a special token; a model without it has the id -1, which llama.cpp does not accept.
    fn text(&self, token: LlamaToken) -> Option<String> {
        (token.0 >= 0).then(|| self.inner.vocab().text(token)?.to_str().ok().map(str::to_owned))?
    }

    /// Tokens in the vocabulary.
    #[must_use]
    pub fn vocabulary(&self) -> u32 {
        u32::try_from(self.pieces.len()).expect("llama.cpp counts tokens in an i32")
    }

    /// Parameters of the model.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.inner.n_params()
    }

    /// The context it was trained for, in tokens.
    #[must_use]
    pub fn trained_context(&self) -> u32 {
        self.inner.n_ctx_train()
    }

    /// Tokenises text as it stands in the middle of another.
    #[must_use]
    pub fn tokenise_part(&self, text: &str) -> Vec<TokenId> {
        let vocabulary = self.inner.vocab();
        let parts = self.specials.parts(text, false).into_iter();
        ids(parts.flat_map(|part| vocabulary.tokenize(part.as_bytes(), false, false)))
    }

    /// The bytes that each token stands for; empty for control tokens.
    #[must_use]
    pub fn pieces(&self) -> &[Vec<u8>] {
        &self.pieces
    }

    /// The tokens that end a turn.
    pub fn end_tokens(&self) -> impl Iterator<Item = TokenId> {
        (0..).zip(&self.ends).filter(|(_, ends)| **ends).map(|(token, _)| TokenId(token))
    }

    /// Whether the KV cache can be of these types. llama.cpp itself checks this for flash attention only, and
    /// else ends the process.
    pub(crate) fn check_kv_types(&self, attention: Attention) -> Result<(), LoadError> {
        attention.check()?;
        for (kv_type, name) in [(attention.kv_type_k, "key_length"), (attention.kv_type_v, "value_length")] {
            let head = self.head(name);
            if kv_type.is_quantised() && !head.is_multiple_of(KV_BLOCK) {
                return Err(LoadError::KvType { kv_type, head });
            }
        }
        Ok(())
    }

    /// Numbers in one head's key or value: as the file says, else as GGUF's specification has it.
    fn head(&self, name: &str) -> u32 {
        let architecture = self.inner.meta_val_str("general.architecture").unwrap_or_default();
        let said = self.inner.meta_val_str(&format!("{architecture}.attention.{name}")).ok();
        let embedding = u32::try_from(self.inner.n_embd()).unwrap_or(0);
        said.and_then(|text| text.parse().ok()).unwrap_or(embedding / self.inner.n_head().max(1))
    }

    /// The bytes that a token stands for; empty for control tokens.
    #[must_use]
    pub fn piece(&self, token: TokenId) -> &[u8] {
        self.pieces.get(token.0 as usize).map_or(&[], Vec::as_slice)
    }

    /// The bytes that a token stands for, or the name of one that stands for none.
    pub(crate) fn text_of(&self, token: TokenId) -> &[u8] {
        self.names.get(&token).map_or_else(|| self.piece(token), Vec::as_slice)
    }

    /// The names of tokens that stand for no bytes.
    #[must_use]
    pub fn names(&self) -> &HashMap<TokenId, Vec<u8>> {
        &self.names
    }

    pub(crate) fn ends(&self, token: TokenId) -> bool {
        self.ends.get(token.0 as usize).copied().unwrap_or(true)
    }

    /// The CPU features that llama.cpp uses, in its own words; in a portable build also which kernels it chose.
    #[must_use]
    pub fn system_info() -> &'static str {
        static INFO: OnceLock<String> = OnceLock::new();
        INFO.get_or_init(|| {
            // SAFETY: the function takes nothing and returns a NUL-terminated string that stays valid; it
            // is not thread-safe, and the lock calls it once.
            let text = unsafe { std::ffi::CStr::from_ptr(llama_cpp_sys_2::llama_print_system_info()) };
            let features = text.to_string_lossy();
            match loaded_kernels() {
                Some(kernels) => format!("{features} kernels: {kernels}"),
                None => features.into_owned(),
            }
        })
    }
}

pub(crate) fn ids(tokens: impl IntoIterator<Item = LlamaToken>) -> Vec<TokenId> {
    tokens.into_iter().map(|LlamaToken(token)| TokenId(u32::try_from(token).expect("ids are positive"))).collect()
}

/// The names of the tokens whose `pieces` are empty.
fn names(vocabulary: &LlamaVocab<'_>, pieces: &[Vec<u8>]) -> HashMap<TokenId, Vec<u8>> {
    let silent = vocabulary.tokens().zip(0..).zip(pieces).filter(|(_, piece)| piece.is_empty());
    let named = silent.map(|((token, id), _)| (TokenId(id), vocabulary.token_to_piece(token, true, None)));
    named.filter(|(_, name)| !name.is_empty()).collect()
}

/// The library, which starts once a process.
pub(crate) fn library() -> Result<&'static LlamaBackend, LoadError> {
    static LIBRARY: OnceLock<Result<LlamaBackend, String>> = OnceLock::new();
    let started = LIBRARY.get_or_init(|| {
        send_logs_to_tracing(LogOptions::default());
        LlamaBackend::init().map_err(|error| error.to_string())
    });
    started.as_ref().map_err(|error| LoadError::Library(error.clone()))
}

/// llama.cpp's own message for a file that is no GGUF is obscure; a missing file trips an assertion.
fn check_magic(path: &Path) -> Result<(), LoadError> {
    let unreadable = |source| LoadError::Unreadable { path: path.to_owned(), source };
    let mut magic = Vec::new();
    File::open(path).map_err(unreadable)?.take(4).read_to_end(&mut magic).map_err(unreadable)?;
    if magic == b"GGUF" { Ok(()) } else { Err(LoadError::NotGguf(path.to_owned())) }
}
