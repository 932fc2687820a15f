//! From the rows of a sequence's tokens to its vector or its score.

use allerac_engine_core::encode::{logistic, scale_to_one};

use crate::config::{Config, Family, Pooling};
use crate::error::LoadError;
use crate::weights::Weights;

/// What comes after the encoder.
pub(crate) enum Head {
    /// One vector of all rows.
    Pool { pooling: Pooling, normalise: bool },
    /// One number, 0 to 1, of the first row: dense, a function, dense, and the logistic function, as rerankers are trained.
    Score { first: Dense, between: fn(f32) -> f32, last: Dense },
}

/// A small linear map.
pub(crate) struct Dense {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Dense {
    fn load(weights: &Weights, name: &str, size: (usize, usize)) -> Result<Self, LoadError> {
        let (weight, bias) = weights.dense(name, size)?;
        Ok(Self { weight, bias })
    }

    fn apply(&self, input: &[f32]) -> Vec<f32> {
        let rows = self.weight.chunks_exact(input.len()).zip(&self.bias);
        rows.map(|(row, bias)| row.iter().zip(input).map(|(w, x)| w * x).sum::<f32>() + bias).collect()
    }
}

impl Head {
    pub(crate) fn score(weights: &Weights, config: &Config) -> Result<Self, LoadError> {
        let hidden = config.hidden_size;
        let (first, between, last): (_, fn(f32) -> f32, _) = match config.family()? {
            Family::Bert => ("bert.pooler.dense", f32::tanh, "classifier"),
            Family::Roberta | Family::Mpnet => ("classifier.dense", f32::tanh, "classifier.out_proj"),
            Family::DistilBert => ("pre_classifier", |number| number.max(0.0), "classifier"),
        };
        Ok(Self::Score {
            between,
            first: Dense::load(weights, first, (hidden, hidden))?,
            last: Dense::load(weights, last, (hidden, 1))?,
        })
    }

    /// `rows` are those of one sequence, each `width` numbers, at least one.
    pub(crate) fn apply(&self, rows: &[f32], width: usize) -> Vec<f32> {
        match self {
            Self::Pool { pooling, normalise } => {
                let mut vector = pool(*pooling, rows, width);
                if *normalise {
                    scale_to_one(&mut vector);
                }
                vector
            }
            Self::Score { first, between, last } => {
                let mut inner = first.apply(&rows[..width]);
                inner.iter_mut().for_each(|number| *number = between(*number));
                last.apply(&inner).into_iter().map(logistic).collect()
            }
        }
    }
}

fn pool(pooling: Pooling, rows: &[f32], width: usize) -> Vec<f32> {
    let mut vector = rows[..width].to_vec();
    for row in rows.chunks_exact(width).skip(1) {
        match pooling {
            Pooling::First => break,
            Pooling::Max => vector.iter_mut().zip(row).for_each(|(most, number)| *most = most.max(*number)),
            Pooling::Mean | Pooling::MeanSqrt => vector.iter_mut().zip(row).for_each(|(sum, number)| *sum += number),
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a length is small")]
    let length = (rows.len() / width) as f32;
    let divisor = match pooling {
        Pooling::First | Pooling::Max => return vector,
        Pooling::Mean => length,
        Pooling::MeanSqrt => length.sqrt(),
    };
    vector.iter_mut().for_each(|sum| *sum /= divisor);
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pooling_is_what_it_says() {
        let rows = [1.0, 8.0, 3.0, -2.0, 5.0, 0.0, 7.0, 2.0];
        assert_eq!(pool(Pooling::First, &rows, 2), [1.0, 8.0]);
        assert_eq!(pool(Pooling::Mean, &rows, 2), [4.0, 2.0]);
        assert_eq!(pool(Pooling::Max, &rows, 2), [7.0, 8.0]);
        assert_eq!(pool(Pooling::MeanSqrt, &rows, 2), [8.0, 4.0]);
    }
}
