//! Reads tensors by name, each of the shape that the model's configuration asks for.

use candle_core::safetensors::BufferedSafetensors;
use candle_core::{DType, Device, Tensor};

use crate::config::Activation;
use crate::error::LoadError;
use crate::ops::{Linear, Norm};

pub(crate) const WEIGHTS: &str = "model.safetensors";

/// The tensors of one file.
pub(crate) struct Weights {
    file: BufferedSafetensors,
    /// What names begin with: nothing, or the name of the encoder within a model with a head.
    prefix: &'static str,
}

impl Weights {
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, LoadError> {
        let file = BufferedSafetensors::new(bytes).map_err(|error| LoadError::invalid(WEIGHTS, &error))?;
        let has = |prefix: &&str| file.get(&format!("{prefix}embeddings.word_embeddings.weight")).is_ok();
        let prefix = ["", "bert.", "roberta.", "distilbert.", "mpnet."].into_iter().find(has);
        let prefix =
            prefix.ok_or_else(|| LoadError::invalid(WEIGHTS, &"it has no embeddings.word_embeddings.weight"))?;
        Ok(Self { file, prefix })
    }

    /// Numbers that were learnt.
    pub(crate) fn parameters(&self) -> u64 {
        let tensors = self.file.tensors();
        let learnt = tensors.iter().filter(|(name, _)| !name.ends_with("position_ids"));
        learnt.map(|(_, tensor)| tensor.shape().iter().map(|size| *size as u64).product::<u64>()).sum()
    }

    /// A tensor of the encoder.
    pub(crate) fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, LoadError> {
        self.named(&format!("{}{name}", self.prefix), shape)
    }

    /// A tensor by its whole name.
    fn named(&self, name: &str, shape: &[usize]) -> Result<Tensor, LoadError> {
        let invalid = |reason: String| LoadError::invalid(WEIGHTS, &format!("{name}: {reason}"));
        let view = self.file.get(name).map_err(|_| invalid("it is missing".into()))?;
        if view.shape() != shape {
            return Err(invalid(format!("it is {:?} and should be {shape:?}", view.shape())));
        }
        let loaded = self.file.load(name, &Device::Cpu).and_then(|tensor| tensor.to_dtype(DType::F32));
        loaded.map_err(|error| invalid(error.to_string()))
    }

    fn numbers(tensor: &Tensor) -> Result<Vec<f32>, LoadError> {
        let flat = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>());
        let flat = flat.map_err(|error| LoadError::invalid(WEIGHTS, &error))?;
        if flat.iter().all(|number| number.is_finite()) {
            Ok(flat)
        } else {
            Err(LoadError::invalid(WEIGHTS, &"some numbers are not finite"))
        }
    }

    /// Several linear maps of the same input as one.
    pub(crate) fn linear(
        &self,
        names: &[&str],
        (inputs, outputs): (usize, usize),
        activation: Option<Activation>,
    ) -> Result<Linear, LoadError> {
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        for name in names {
            weight.extend(Self::numbers(&self.tensor(&format!("{name}.weight"), &[outputs, inputs])?)?);
            bias.extend(Self::numbers(&self.tensor(&format!("{name}.bias"), &[outputs])?)?);
        }
        Ok(Linear::new(&weight, &bias, inputs, activation))
    }

    /// A table of the encoder, row by row.
    pub(crate) fn table(&self, name: &str, rows: usize, columns: usize) -> Result<Vec<f32>, LoadError> {
        Self::numbers(&self.tensor(name, &[rows, columns])?)
    }

    /// A linear map of a head: weights and bias, row by row.
    pub(crate) fn dense(
        &self,
        name: &str,
        (inputs, outputs): (usize, usize),
    ) -> Result<(Vec<f32>, Vec<f32>), LoadError> {
        let weight = Self::numbers(&self.named(&format!("{name}.weight"), &[outputs, inputs])?)?;
        let bias = Self::numbers(&self.named(&format!("{name}.bias"), &[outputs])?)?;
        Ok((weight, bias))
    }

    pub(crate) fn norm(&self, name: &str, size: usize, epsilon: f32) -> Result<Norm, LoadError> {
        let scale = Self::numbers(&self.tensor(&format!("{name}.weight"), &[size])?)?;
        let shift = Self::numbers(&self.tensor(&format!("{name}.bias"), &[size])?)?;
        Ok(Norm::new(scale, shift, epsilon))
    }
}
