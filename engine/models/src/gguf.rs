//! The header of a GGUF file: what a model says of itself, read without loading it.
//!
//! The format is that of ggml's `docs/gguf.md`: magic, version, the numbers of tensors and of values, then the values. A
//! file comes from the internet, so every length in it is compared with what is left before anything is read by it.

mod weights;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

pub use weights::{Tensor, Weights};

/// Values of one header. Real files have less than a hundred.
const VALUES_MAX: u64 = 10_000;
/// The longest name of a value, in bytes, as the format has it.
const NAME_BYTES_MAX: u64 = 65_535;
/// The longest text that is kept, in bytes: chat templates have some ten thousand.
const TEXT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The longest list of numbers that is kept: one for each layer, and no vocabulary.
const NUMBERS_MAX: u64 = 1024;
/// What is read of a file at most, in bytes. The largest vocabularies take some ten million.
const HEADER_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The values of a header.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Header {
    values: BTreeMap<String, Value>,
    weights: Weights,
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A whole number, not negative.
    Unsigned(u64),
    /// A whole number.
    Signed(i64),
    /// A number of 32 bits.
    Float(f64),
    /// A number of 64 bits.
    Double(f64),
    /// Yes or no.
    Bool(bool),
    /// A text.
    Text(String),
    /// A short list of whole numbers.
    Numbers(Vec<u64>),
    /// Any other list, by its length.
    List(u64),
}

/// A file whose header cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The file cannot be read.
    #[error("the model file cannot be read: {0}")]
    File(#[from] io::Error),
    /// It is something else.
    #[error("it is no GGUF file")]
    NotGguf,
    /// It is of a version that nobody here knows.
    #[error("it is a GGUF file of version {0}; versions 2 and 3 are known")]
    Version(u32),
    /// It is damaged, or made to do harm.
    #[error("its header is damaged: {0}")]
    Damaged(&'static str),
}

/// What decides how much memory a model takes besides its weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shape {
    /// Numbers in the keys of one token, over all layers.
    pub keys: u64,
    /// Numbers in the values of one token, over all layers.
    pub values: u64,
    /// Heads of one layer.
    pub heads: u64,
    /// Numbers in the vector of a token.
    pub embedding: u64,
    /// Numbers inside of a layer's feed-forward part, at its widest.
    pub feed_forward: u64,
    /// Tokens in the vocabulary.
    pub vocabulary: u64,
    /// The context it was trained for, in tokens.
    pub context: u64,
}

impl Header {
    /// Reads the header of a file.
    ///
    /// # Errors
    /// [`GgufError`] saying what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, GgufError> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Self::parse(BufReader::with_capacity(1 << 16, file), length)
    }

    /// Reads the header of a file of so many bytes.
    ///
    /// # Errors
    /// [`GgufError`] saying what is wrong with it.
    pub fn parse(reader: impl BufRead, length: u64) -> Result<Self, GgufError> {
        let mut source = Source { reader, left: length.min(HEADER_BYTES_MAX), length };
        if source.left < 4 || source.bytes::<4>()? != *b"GGUF" {
            return Err(GgufError::NotGguf);
        }
        let version = source.u32()?;
        if !(2..=3).contains(&version) {
            return Err(GgufError::Version(version));
        }
        let tensors = source.u64()?;
        if tensors > weights::TENSORS_MAX {
            return Err(GgufError::Damaged("it has too many tensors"));
        }
        let count = source.u64()?;
        if count > VALUES_MAX {
            return Err(GgufError::Damaged("it has too many values"));
        }
        let mut values = BTreeMap::new();
        for _ in 0..count {
            let name = source.text(NAME_BYTES_MAX)?;
            let kind = source.u32()?;
            let value = source.value(kind)?;
            if values.insert(name, value).is_some() {
                return Err(GgufError::Damaged("a value is there twice"));
            }
        }
        let weights = Weights::read(&mut source, tensors)?;
        Ok(Self { values, weights })
    }

    /// Adds the tensors of another part of the same model.
    pub(crate) fn join(&mut self, part: Self) -> Result<(), GgufError> {
        self.weights.join(part.weights)
    }

    /// Its tensors.
    #[must_use]
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Numbers in all tensors: at least one, also where the file has none.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.weights.parameters.max(1)
    }

    /// All values, in the order of their names.
    pub fn values(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// A value, where it is there.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// A text, where the value is there and is one.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.values.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A whole number, where the value is there and is one that is not negative.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.values.get(name)? {
            Value::Unsigned(number) => Some(*number),
            Value::Signed(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// What models of its kind are called, `llama` say.
    #[must_use]
    pub fn architecture(&self) -> &str {
        self.text("general.architecture").unwrap_or_default()
    }

    /// A number of this architecture, by the rest of its name.
    #[must_use]
    pub fn own(&self, name: &str) -> Option<u64> {
        self.number(&format!("{}.{name}", self.architecture()))
    }

    /// What decides how much memory it takes; `None` where the header does not say.
    #[must_use]
    pub fn shape(&self) -> Option<Shape> {
        let layers = self.own("block_count")?;
        let embedding = self.own("embedding_length")?;
        let heads = self.each("attention.head_count", layers).map(|all| all.most)?;
        let with_kv = self.each("attention.head_count_kv", layers).unwrap_or(Each::same(heads, layers));
        let head = embedding / heads.max(1);
        let length = |name: &str| self.own(name).unwrap_or(head);
        let vocabulary = match self.values.get("tokenizer.ggml.tokens") {
            Some(Value::List(length)) => Some(*length),
            _ => self.own("vocab_size"),
        };
        Some(Shape {
            keys: with_kv.sum.saturating_mul(length("attention.key_length")),
            values: with_kv.sum.saturating_mul(length("attention.value_length")),
            heads,
            embedding,
            feed_forward: self.each("feed_forward_length", layers).map_or(0, |all| all.most),
            vocabulary: vocabulary.unwrap_or(0),
            context: self.own("context_length").unwrap_or(u64::MAX),
        })
    }

    /// A number that is the same in all layers, or one for each.
    fn each(&self, name: &str, layers: u64) -> Option<Each> {
        match self.values.get(&format!("{}.{name}", self.architecture())) {
            Some(Value::Numbers(numbers)) => Some(Each {
                most: numbers.iter().copied().max().unwrap_or(0),
                sum: numbers.iter().fold(0, |sum, number| sum.saturating_add(*number)),
            }),
            _ => self.own(name).map(|number| Each::same(number, layers)),
        }
    }
}

/// A number of each layer.
struct Each {
    most: u64,
    sum: u64,
}

impl Each {
    fn same(number: u64, layers: u64) -> Self {
        Self { most: number, sum: number.saturating_mul(layers) }
    }
}

/// What is read, and how much of it there can be.
struct Source<R> {
    reader: R,
    left: u64,
    /// The whole file.
    length: u64,
}

impl<R: BufRead> Source<R> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        self.spend(N as u64)?;
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Counts bytes that are about to be read.
    fn spend(&mut self, bytes: u64) -> Result<(), GgufError> {
        self.left = self.left.checked_sub(bytes).ok_or(GgufError::Damaged("it ends too early"))?;
        Ok(())
    }

    fn skip(&mut self, bytes: u64) -> Result<(), GgufError> {
        self.spend(bytes)?;
        let skipped = io::copy(&mut self.reader.by_ref().take(bytes), &mut io::sink())?;
        if skipped == bytes { Ok(()) } else { Err(GgufError::Damaged("it ends too early")) }
    }

    fn u32(&mut self) -> Result<u32, GgufError> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, GgufError> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn text(&mut self, bytes_max: u64) -> Result<String, GgufError> {
        let length = self.u64()?;
        if length > bytes_max {
            return Err(GgufError::Damaged("a text is too long"));
        }
        self.spend(length)?;
        let mut bytes = Vec::new();
        self.reader.by_ref().take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != length {
            return Err(GgufError::Damaged("it ends too early"));
        }
        String::from_utf8(bytes).map_err(|_| GgufError::Damaged("a text is no UTF-8"))
    }

    fn value(&mut self, kind: u32) -> Result<Value, GgufError> {
        Ok(match kind {
            8 => Value::Text(self.text(TEXT_BYTES_MAX)?),
            9 => self.list()?,
            kind => self.scalar(kind)?,
        })
    }

    fn scalar(&mut self, kind: u32) -> Result<Value, GgufError> {
        Ok(match kind {
            0 => Value::Unsigned(u8::from_le_bytes(self.bytes()?).into()),
            1 => Value::Signed(i8::from_le_bytes(self.bytes()?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.bytes()?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.bytes()?).into()),
            4 => Value::Unsigned(self.u32()?.into()),
            5 => Value::Signed(i32::from_le_bytes(self.bytes()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.bytes()?).into()),
            7 => Value::Bool(self.bytes::<1>()? != [0]),
            10 => Value::Unsigned(self.u64()?),
            11 => Value::Signed(i64::from_le_bytes(self.bytes()?)),
            12 => Value::Double(f64::from_le_bytes(self.bytes()?)),
            _ => return Err(GgufError::Damaged("a value is of an unknown kind")),
        })
    }

    /// A list: kept where it is short and of whole numbers, else passed over.
    fn list(&mut self) -> Result<Value, GgufError> {
        let (kind, length) = (self.u32()?, self.u64()?);
        let bytes = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            _ => return Err(GgufError::Damaged("a list is of an unknown kind")),
        };
        // A text has at least its length.
        if length.checked_mul(bytes).is_none_or(|bytes| bytes > self.left) {
            return Err(GgufError::Damaged("a list is longer than the file"));
        }
        if kind == 8 {
            for _ in 0..length {
                let bytes = self.u64()?;
                self.skip(bytes)?;
            }
            return Ok(Value::List(length));
        }
        if length > NUMBERS_MAX {
            self.skip(length * bytes)?;
            return Ok(Value::List(length));
        }
        let all = (0..length).map(|_| self.scalar(kind)).collect::<Result<Vec<Value>, GgufError>>()?;
        let whole = all.iter().map(|value| match value {
            Value::Unsigned(number) => Some(*number),
            Value::Signed(number) => u64::try_from(*number).ok(),
            _ => None,
        });
        Ok(whole.collect::<Option<Vec<u64>>>().map_or(Value::List(length), Value::Numbers))
    }
}

#[cfg(test)]
mod tests;
