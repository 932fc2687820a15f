//! A whole model: its files, and what it computes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use allerac_engine_core::encode::{EncodeError, Encoder, Sequence};
use candle_core::{Device, Tensor};

use crate::config::{CONFIG, Config, MODULES, POOLING, pooling};
use crate::error::LoadError;
use crate::head::Head;
use crate::layer::Layer;
use crate::ops::{Distances, Norm};
use crate::tokens::{TOKENIZER, Tokens};
use crate::weights::{WEIGHTS, Weights};

/// The longest file beside the weights, in bytes: a tokeniser of many languages has 20 MB.
const PART_BYTES_MAX: u64 = 128 << 20;

/// Where a model's files are.
#[derive(Debug, Clone)]
pub struct Files {
    /// `model.safetensors`.
    pub weights: PathBuf,
    /// The others, by their names in the model: `config.json`, `tokenizer.json`, and where it has them `modules.json`
    /// and `1_Pooling/config.json`.
    pub parts: BTreeMap<String, PathBuf>,
}

/// What comes of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Produces {
    /// A vector of so many numbers.
    Vectors(u32),
    /// One number, 0 to 1.
    Scores,
}

/// A loaded model.
pub struct Model {
    config: Config,
    words: Tensor,
    positions: Tensor,
    /// `None` where tokens do not know which of two texts they are of.
    types: Option<Tensor>,
    /// What each head adds for how far tokens are apart, where it does.
    distances: Option<Arc<Distances>>,
    norm: Norm,
    layers: Vec<Layer>,
    head: Head,
    parameters: u64,
}

impl Files {
    fn part(&self, name: &str) -> Result<Option<Vec<u8>>, LoadError> {
        self.parts.get(name).map(|path| read(name, path, PART_BYTES_MAX)).transpose()
    }

    fn required(&self, name: &'static str) -> Result<Vec<u8>, LoadError> {
        self.part(name)?.ok_or(LoadError::Missing(name))
    }
}

fn read(name: &str, path: &Path, bytes_max: u64) -> Result<Vec<u8>, LoadError> {
    let unreadable = |source| LoadError::Unreadable { name: name.to_owned(), source };
    if path.metadata().map_err(unreadable)?.len() > bytes_max {
        return Err(unreadable(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "it is too long")));
    }
    std::fs::read(path).map_err(unreadable)
}

impl Model {
    /// Loads a model and its tokeniser.
    ///
    /// # Errors
    /// [`LoadError`] naming the file and what is wrong with it.
    pub fn load(files: &Files) -> Result<(Self, Tokens), LoadError> {
        let config = Config::parse(&files.required(CONFIG)?)?;
        let tokens = Tokens::parse(&files.required(TOKENIZER)?)?;
        let weights = Weights::parse(read(WEIGHTS, &files.weights, u64::MAX)?)?;
        let head = if config.is_classifier()? {
            Head::score(&weights, &config)?
        } else {
            let (pooling, normalise) = pooling(files.part(MODULES)?.as_deref(), files.part(POOLING)?.as_deref())?;
            Head::Pool { pooling, normalise }
        };
        Ok((Self::assemble(config, &weights, head)?, tokens))
    }

    fn assemble(config: Config, weights: &Weights, head: Head) -> Result<Self, LoadError> {
        let hidden = config.hidden_size;
        let table = |name: &str, rows| weights.tensor(&format!("embeddings.{name}_embeddings.weight"), &[rows, hidden]);
        let layers = (0..config.num_hidden_layers).map(|index| Layer::load(weights, &config, index));
        let types = config.has_types()?.then(|| table("token_type", config.type_vocab_size)).transpose()?;
        let distances = match config.distance_buckets()? {
            0 => None,
            buckets => {
                let bias =
                    weights.table("encoder.relative_attention_bias.weight", buckets, config.num_attention_heads)?;
                Some(Arc::new(Distances::new(&bias, buckets, hidden / config.num_attention_heads, config.context())))
            }
        };
        Ok(Self {
            words: table("word", config.vocab_size)?,
            positions: table("position", config.max_position_embeddings)?,
            types,
            distances,
            norm: weights.norm("embeddings.LayerNorm", hidden, config.layer_norm_eps)?,
            layers: layers.collect::<Result<_, _>>()?,
            head,
            parameters: weights.parameters(),
            config,
        })
    }

    /// What comes of a sequence.
    #[must_use]
    pub fn produces(&self) -> Produces {
        match self.head {
            Head::Pool { .. } => Produces::Vectors(u32::try_from(self.config.hidden_size).unwrap_or(u32::MAX)),
            Head::Score { .. } => Produces::Scores,
        }
    }

    /// Tokens in the vocabulary.
    #[must_use]
    pub fn vocabulary(&self) -> u32 {
        u32::try_from(self.config.vocab_size).unwrap_or(u32::MAX)
    }

    /// Numbers in the file.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.parameters
    }

    /// The rows of all tokens, one after the other.
    fn forward(&self, sequences: &[&Sequence]) -> candle_core::Result<Vec<f32>> {
        let (mut words, mut positions, mut types, mut ends) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let first = u32::try_from(self.config.first_position()).unwrap_or(u32::MAX);
        // A model without a second type has one for both.
        let second_type = u32::from(self.config.type_vocab_size > 1);
        for sequence in sequences {
            for (place, token) in (0u32..).zip(&sequence.tokens) {
                words.push(token.0);
                positions.push(first + place);
                types.push(if place < sequence.second { 0 } else { second_type });
            }
            ends.push(words.len());
        }
        let ends: Arc<[usize]> = ends.into();
        let rows = |table: &Tensor, ids: Vec<u32>| table.index_select(&Tensor::new(ids, &Device::Cpu)?, 0);
        let placed = rows(&self.positions, positions)?;
        let placed = match &self.types {
            Some(table) => placed.add(&rows(table, types)?)?,
            None => placed,
        };
        let mut rows = rows(&self.words, words)?.apply_op2_no_bwd(&placed, &self.norm)?;
        for layer in &self.layers {
            rows = layer.forward(&rows, &ends, self.distances.as_ref())?;
        }
        rows.flatten_all()?.to_vec1()
    }
}

impl Encoder for Model {
    fn context(&self) -> u32 {
        u32::try_from(self.config.context()).unwrap_or(u32::MAX)
    }

    fn encode(&mut self, sequences: &[&Sequence]) -> Result<Vec<Vec<f32>>, EncodeError> {
        let rows = self.forward(sequences).map_err(|error| EncodeError(error.to_string()))?;
        let (width, mut begin) = (self.config.hidden_size, 0);
        let vector = |sequence: &&Sequence| {
            let end = begin + sequence.tokens.len() * width;
            let vector = self.head.apply(&rows[begin..end], width);
            begin = end;
            vector
        };
        let vectors: Vec<Vec<f32>> = sequences.iter().map(vector).collect();
        if vectors.iter().flatten().all(|number| number.is_finite()) {
            Ok(vectors)
        } else {
            Err(EncodeError("the model's numbers are not finite".into()))
        }
    }
}
