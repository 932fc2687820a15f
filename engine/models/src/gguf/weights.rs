//! What a file says of its tensors: how many numbers they have, of what kinds, and how long they are.

use std::collections::BTreeMap;
use std::io::BufRead;

use super::{GgufError, Source};

/// Tensors of one file. The largest mixtures of experts have some thousands.
pub(super) const TENSORS_MAX: u64 = 65_536;
/// The longest name of a tensor, in bytes; ggml has 64.
const NAME_BYTES_MAX: u64 = 512;
/// ggml's `GGML_MAX_DIMS`.
const DIMENSIONS_MAX: usize = 4;
/// Begins the names of the table that tokens are looked up in.
const TOKEN_TABLE: &str = "token_embd.";

/// The kinds of numbers that ggml has (`ggml.h`, `enum ggml_type`): how many share a block, and its bytes.
const KINDS: [(u32, u64, u64); 31] = [
    (0, 1, 4),
    (1, 1, 2),
    (2, 32, 18),
    (3, 32, 20),
    (6, 32, 22),
    (7, 32, 24),
    (8, 32, 34),
    (9, 32, 36),
    (10, 256, 84),
    (11, 256, 110),
    (12, 256, 144),
    (13, 256, 176),
    (14, 256, 210),
    (15, 256, 292),
    (16, 256, 66),
    (17, 256, 74),
    (18, 256, 98),
    (19, 256, 50),
    (20, 32, 18),
    (21, 256, 110),
    (22, 256, 82),
    (23, 256, 136),
    (24, 1, 1),
    (25, 1, 2),
    (26, 1, 4),
    (27, 1, 8),
    (28, 1, 8),
    (29, 256, 56),
    (30, 1, 2),
    (34, 256, 54),
    (39, 32, 17),
];

/// The tensors of a file, added up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Weights {
    /// Numbers in all.
    pub parameters: u64,
    /// Of these, those of experts, of which a token needs a few.
    pub expert_parameters: u64,
    /// Bytes in all.
    pub bytes: u64,
    /// Of these, those of experts.
    pub expert_bytes: u64,
    /// Of these, those of the table that tokens are looked up in.
    pub table_bytes: u64,
    /// There is a matrix of its own that scores tokens; else the table does that too.
    pub has_output: bool,
    /// Bytes of that matrix.
    pub output_bytes: u64,
    /// Bytes of matrices by ggml's number of their kind: what kernels may lay out anew.
    pub matrices: BTreeMap<u32, u64>,
    /// Each of them, by its name.
    pub tensors: BTreeMap<String, Tensor>,
}

/// One tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tensor {
    /// Numbers in each dimension, that of the rows' length first; 1 beyond the last.
    pub lengths: [u64; DIMENSIONS_MAX],
    /// ggml's number of the kind of its numbers.
    pub kind: u32,
}

impl Weights {
    /// Reads what stands between the values and the tensors themselves. `left` is what the file has from there on.
    pub(super) fn read<R: BufRead>(source: &mut Source<R>, count: u64) -> Result<Self, GgufError> {
        let mut weights = Self::default();
        for _ in 0..count {
            weights.add(source)?;
        }
        Ok(weights)
    }

    /// Adds those of another file of the same model.
    pub(super) fn join(&mut self, part: Self) -> Result<(), GgufError> {
        let sum = |all: u64, part: u64| all.checked_add(part).ok_or(GgufError::Damaged("its tensors are too large"));
        self.parameters = sum(self.parameters, part.parameters)?;
        self.expert_parameters = sum(self.expert_parameters, part.expert_parameters)?;
        self.bytes = sum(self.bytes, part.bytes)?;
        self.expert_bytes = sum(self.expert_bytes, part.expert_bytes)?;
        self.table_bytes = self.table_bytes.max(part.table_bytes);
        self.has_output |= part.has_output;
        for (kind, bytes) in part.matrices {
            let all = self.matrices.entry(kind).or_default();
            *all = sum(*all, bytes)?;
        }
        for (name, tensor) in part.tensors {
            if self.tensors.insert(name, tensor).is_some() {
                return Err(GgufError::Damaged("two of its parts have the same tensor"));
            }
        }
        Ok(())
    }

    fn add<R: BufRead>(&mut self, source: &mut Source<R>) -> Result<(), GgufError> {
        let name = source.text(NAME_BYTES_MAX)?;
        let dimensions = source.u32()? as usize;
        if dimensions > DIMENSIONS_MAX {
            return Err(GgufError::Damaged("a tensor has too many dimensions"));
        }
        let mut numbers = 1u64;
        let mut rows = 1u64;
        let mut lengths = [1; DIMENSIONS_MAX];
        for (dimension, place) in lengths.iter_mut().enumerate().take(dimensions) {
            let length = source.u64()?;
            *place = length;
            numbers = numbers.checked_mul(length).ok_or(GgufError::Damaged("a tensor is too large"))?;
            rows = if dimension == 0 { rows } else { rows * length };
        }
        let kind = source.u32()?;
        let _offset = source.u64()?;
        let found = KINDS.iter().find(|(known, ..)| *known == kind);
        let (_, block, block_bytes) =
            found.ok_or(GgufError::Damaged("a tensor is of an unknown kind; update allerac"))?;
        if !numbers.is_multiple_of(*block) {
            return Err(GgufError::Damaged("a tensor is no whole number of blocks"));
        }
        let bytes = (numbers / block).checked_mul(*block_bytes).filter(|bytes| *bytes <= source.length);
        let bytes = bytes.ok_or(GgufError::Damaged("a tensor is longer than the file"))?;
        let too_long = || GgufError::Damaged("its tensors are longer than the file");
        self.bytes = self.bytes.checked_add(bytes).filter(|all| *all <= source.length).ok_or_else(too_long)?;
        self.parameters = self.parameters.checked_add(numbers).ok_or_else(too_long)?;
        if name.contains("_exps.") {
            self.expert_bytes += bytes;
            self.expert_parameters += numbers;
        }
        if name.starts_with(TOKEN_TABLE) {
            self.table_bytes = bytes;
        } else if rows > 1 {
            *self.matrices.entry(kind).or_default() += bytes;
        }
        if name == "output.weight" {
            self.has_output = true;
            self.output_bytes = bytes;
        }
        if self.tensors.insert(name, Tensor { lengths, kind }).is_some() {
            return Err(GgufError::Damaged("a tensor is there twice"));
        }
        Ok(())
    }
}
