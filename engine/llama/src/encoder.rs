//! [`Encoder`] over llama.cpp: GGUF files of models that turn texts into vectors, or pairs of texts into scores.

use std::num::NonZeroU32;

use allerac_engine_core::encode::{EncodeError, Encoder, Sequence, logistic, scale_to_one};
use allerac_engine_core::{FlashAttention, TokenId};
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{LlamaContextParams, LlamaPoolingType};
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::token::LlamaToken;

use crate::context::{flash_policy, signed};
use crate::model::{LoadError, Model, ids};

/// Texts that are computed together. More gain nothing: a step is full of tokens before.
const TOGETHER_MAX: usize = 64;
/// The widest vectors: those of a whole request fit one frame to the router.
const DIMENSIONS_MAX: u32 = 4096;

/// Sizes of an [`Embedder`].
#[derive(Debug, Clone, Copy)]
pub struct EmbedderParams {
    /// Longest single text, in tokens.
    pub context: u32,
    /// Tokens in one step, but for a single text that is longer.
    pub batch: u32,
    /// Threads that compute.
    pub threads: u32,
    /// When to use flash attention.
    pub flash: FlashAttention,
}

/// What comes of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Produced {
    /// A vector of so many numbers, of length 1.
    Vectors(u32),
    /// One number, 0 to 1, how well a text answers a query.
    Scores(Scale),
}

/// What a reranker's number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Any number; the logistic function makes it 0 to 1, as it is trained.
    Logit,
    /// A probability already.
    Probability,
}

/// A model that encodes, and its context.
pub struct Embedder {
    inner: LlamaContext<'static>,
    batch: LlamaBatch<'static>,
    context: u32,
    /// Tokens that fit one step.
    room: usize,
    produced: Produced,
}

impl Embedder {
    /// Makes a context that encodes.
    ///
    /// # Errors
    /// [`LoadError::NotAnEncoder`] when the file does not say how tokens become a vector, [`LoadError::Context`] when there is
    /// not enough memory.
    pub fn new(model: &'static Model, params: EmbedderParams) -> Result<Self, LoadError> {
        let produced = model.produced()?;
        let context = params.context.min(model.trained_context()).max(1);
        // A text attends to all of itself and is pooled in one piece, so a step has room for the longest.
        let room = context.max(params.batch);
        let threads = i32::try_from(params.threads).unwrap_or(i32::MAX);
        let settings = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(room))
            .with_n_seq_max(u32::try_from(TOGETHER_MAX).expect("it is small"))
            .with_n_batch(room)
            .with_n_ubatch(room)
            .with_n_threads(threads)
            .with_n_threads_batch(threads)
            .with_kv_unified(true)
            .with_embeddings(true)
            .with_pooling_type(LlamaPoolingType::Unspecified)
            .with_flash_attention_policy(flash_policy(params.flash))
            .with_no_perf(true);
        let inner = model.inner.new_context(model.backend, settings).map_err(|_| LoadError::Context { cells: room })?;
        let room = room as usize;
        let batch = LlamaBatch::new(room, 1);
        Ok(Self { inner, batch, context, room, produced })
    }

    /// What it answers with.
    #[must_use]
    pub fn produced(&self) -> Produced {
        self.produced
    }

    /// Computes texts that fit one step.
    fn step(&mut self, sequences: &[&Sequence]) -> Result<Vec<Vec<f32>>, EncodeError> {
        self.batch.clear();
        // Models that look ahead only keep what they computed; nobody asks for it again.
        self.inner.clear_kv_cache();
        for (number, sequence) in (0i32..).zip(sequences) {
            for (position, token) in (0i32..).zip(&sequence.tokens) {
                let token = LlamaToken(signed(token.0));
                self.batch.add(token, position, &[number], true).expect("a step has room for its texts");
            }
        }
        self.inner.decode(&mut self.batch).map_err(|error| EncodeError(error.to_string()))?;
        (0..).zip(sequences).map(|(number, _)| self.result(number)).collect()
    }

    fn result(&self, number: i32) -> Result<Vec<f32>, EncodeError> {
        let numbers = self.inner.embeddings_seq_ith(number).map_err(|error| EncodeError(error.to_string()))?;
        let mut result = match self.produced {
            Produced::Vectors(_) => numbers.to_vec(),
            Produced::Scores(_) => numbers[..1].to_vec(),
        };
        if !result.iter().all(|number| number.is_finite()) {
            return Err(EncodeError("the model's numbers are not finite".into()));
        }
        match self.produced {
            Produced::Vectors(_) => scale_to_one(&mut result),
            Produced::Scores(Scale::Logit) => result[0] = logistic(result[0]),
            Produced::Scores(Scale::Probability) => {}
        }
        Ok(result)
    }
}

impl Encoder for Embedder {
    fn context(&self) -> u32 {
        self.context
    }

    fn encode(&mut self, sequences: &[&Sequence]) -> Result<Vec<Vec<f32>>, EncodeError> {
        let mut vectors = Vec::with_capacity(sequences.len());
        let mut rest = sequences;
        while !rest.is_empty() {
            let together = rest.len().min(TOGETHER_MAX);
            let fit = rest[..together].iter().scan(0, |sum, sequence| {
                *sum += sequence.tokens.len();
                (*sum <= self.room).then_some(())
            });
            let (now, later) = rest.split_at(fit.count().max(1));
            vectors.extend(self.step(now)?);
            rest = later;
        }
        Ok(vectors)
    }
}

impl Model {
    /// What it makes of a text, by what its file says.
    fn produced(&self) -> Result<Produced, LoadError> {
        let refused = |why: &str| Err(LoadError::NotAnEncoder(why.to_owned()));
        let architecture = self.inner.meta_val_str("general.architecture").unwrap_or_default();
        let pooling = self.inner.meta_val_str(&format!("{architecture}.pooling_type"));
        // The numbers of llama.h's `llama_pooling_type`.
        match pooling.as_deref() {
            Ok("1" | "2" | "3") => match u32::try_from(self.inner.n_embd_out()) {
                Ok(dimensions @ 1..=DIMENSIONS_MAX) => Ok(Produced::Vectors(dimensions)),
                _ => refused("its vectors are too wide"),
            },
            // A Qwen3 reranker answers with the probabilities of yes and no, in this order.
            Ok("4") if architecture.starts_with("qwen3") => Ok(Produced::Scores(Scale::Probability)),
            Ok("4") if self.inner.n_cls_out() == 1 => Ok(Produced::Scores(Scale::Logit)),
            Ok("4") => refused("it is a classifier of several labels; a reranker has 1"),
            _ => refused("it does not say how the vectors of tokens become one of the text"),
        }
    }

    /// Tokenises a text to encode, between the tokens that the model expects around it.
    #[must_use]
    pub fn tokenise_text(&self, text: &str) -> Vec<TokenId> {
        ids(self.inner.vocab().tokenize(text.as_bytes(), true, false))
    }

    /// Tokenises a query and a text that may answer it: by the model's own prompt, else with what stands between two
    /// texts, as llama.cpp's server does.
    #[must_use]
    pub fn tokenise_pair(&self, query: &str, text: &str) -> Vec<TokenId> {
        let template = self.inner.chat_template(Some("rerank")).ok().and_then(|template| template.to_string().ok());
        match template {
            Some(template) => self.tokenise_prompt(&template, query, text),
            None => self.tokenise_joined(query, text),
        }
    }

    /// Only the template's own text may name control tokens.
    fn tokenise_prompt(&self, template: &str, query: &str, text: &str) -> Vec<TokenId> {
        let vocabulary = self.inner.vocab();
        let mut tokens = Vec::new();
        let mut rest = template;
        while !rest.is_empty() {
            let place = |name: &str, value| rest.find(name).map(|at| (at, name.len(), value));
            let next = [place("{query}", query), place("{document}", text)].into_iter().flatten().min();
            let (at, length, value) = next.unwrap_or((rest.len(), 0, ""));
            tokens.extend(vocabulary.tokenize(&rest.as_bytes()[..at], false, true));
            tokens.extend(vocabulary.tokenize(value.as_bytes(), false, false));
            rest = &rest[at + length..];
        }
        ids(tokens)
    }

    fn tokenise_joined(&self, query: &str, text: &str) -> Vec<TokenId> {
        let vocabulary = self.inner.vocab();
        let plain = |text: &str| vocabulary.tokenize(text.as_bytes(), false, false);
        let is_there = |token: &LlamaToken| token.0 >= 0;
        let end = Some(vocabulary.eos()).filter(is_there).unwrap_or_else(|| vocabulary.sep());
        let optional = |wanted: bool, token: LlamaToken| Some(token).filter(|token| wanted && is_there(token));
        let begin = optional(vocabulary.should_add_bos(), vocabulary.bos());
        let ended = optional(vocabulary.should_add_eos(), end);
        let between = optional(vocabulary.should_add_sep(), vocabulary.sep());
        // What ends in separators rather than ends has one after the second text too.
        let last = ended.or(between);
        let tokens = begin.into_iter().chain(plain(query)).chain(ended).chain(between).chain(plain(text)).chain(last);
        ids(tokens)
    }
}
