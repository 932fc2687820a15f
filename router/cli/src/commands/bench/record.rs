//! What was measured, as a file keeps it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use allerac_engine_link::EngineSettings;
use allerac_hardware::Probe;
use allerac_models::Installed;
use serde::{Deserialize, Serialize};

use crate::failure::{Exit, Failure};
use crate::tuned::ENGINE_VERSION;

/// The version of the format.
const VERSION: u32 = 1;
/// The longest file that is read, in bytes: some hundred for each row.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    pub(super) measured_at: String,
    pub(super) engine_version: String,
    pub(super) cpu_model: String,
    pub(super) model: String,
    pub(super) model_sha256: String,
    /// Flash attention and the numbers of KV.
    pub(super) attention: String,
    pub(super) rows: Vec<Row>,
}

/// A line of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    /// `pp512`, `tg128`.
    pub(super) test: String,
    /// Tokens before.
    pub(super) depth: u32,
    pub(super) threads: u32,
    pub(super) batch: u32,
    /// The mean.
    pub(super) tokens_per_second: f64,
    /// The standard deviation.
    pub(super) deviation: f64,
    pub(super) samples: Vec<f64>,
    /// What others used of the processors meanwhile.
    #[serde(default)]
    pub(super) others_percent: u32,
}

impl Record {
    pub(super) fn new(probe: &Probe, model: &Installed, settings: &EngineSettings) -> Self {
        Self {
            version: VERSION,
            measured_at: String::new(),
            engine_version: ENGINE_VERSION.to_owned(),
            cpu_model: probe.cpu_model.clone(),
            model: model.id.clone(),
            model_sha256: model.sha256.clone(),
            attention: super::attention(settings),
            rows: Vec::new(),
        }
    }

    /// Reads what `--json` printed.
    pub(super) fn load(path: &Path) -> Result<Self, Failure> {
        let mut text = String::new();
        let opened = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
        opened.map_err(|error| Failure::from_io("read", path, &error))?;
        let unusable = |why: String| {
            Failure::new(Exit::Usage, format!("{} cannot be compared with: {why}", path.display()))
                .hint("make such a file with `allerac bench --json > FILE`")
        };
        let record: Self = serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))?;
        if record.version != VERSION {
            return Err(unusable(format!("it is of version {}, and this is version {VERSION}", record.version)));
        }
        if record.rows.iter().any(|row| row.samples.is_empty() || row.samples.iter().any(|speed| *speed <= 0.0)) {
            return Err(unusable("a row has no speeds".to_owned()));
        }
        Ok(record)
    }
}

impl Row {
    /// With mean and deviation of the samples.
    pub(super) fn new(
        test: String,
        depth: u32,
        (threads, batch): (u32, u32),
        samples: Vec<f64>,
    ) -> Result<Self, String> {
        if samples.is_empty() || samples.iter().any(|speed| !speed.is_finite() || *speed <= 0.0) {
            return Err(format!("it said nonsense: {samples:?}"));
        }
        let (tokens_per_second, deviation) = mean(&samples);
        Ok(Self { test, depth, threads, batch, tokens_per_second, deviation, samples, others_percent: 0 })
    }

    /// As llama-bench names it.
    pub(super) fn name(&self) -> String {
        if self.depth == 0 { self.test.clone() } else { format!("{} @ d{}", self.test, self.depth) }
    }
}

/// The mean, and the standard deviation of a sample.
fn mean(samples: &[f64]) -> (f64, f64) {
    let count = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / count;
    let squares: f64 = samples.iter().map(|sample| (sample - mean).powi(2)).sum();
    (mean, if samples.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_mean_of_its_samples() {
        let row = Row::new("tg128".into(), 4096, (2, 512), vec![9.0, 10.0, 11.0]).unwrap();
        assert_eq!((row.tokens_per_second, row.deviation, row.name()), (10.0, 1.0, "tg128 @ d4096".into()));
        assert_eq!(Row::new("pp1".into(), 0, (1, 1), vec![7.0]).unwrap().deviation, 0.0);
        assert!(Row::new("pp1".into(), 0, (1, 1), vec![]).is_err());
        assert!(Row::new("pp1".into(), 0, (1, 1), vec![f64::INFINITY]).is_err());
    }
}
