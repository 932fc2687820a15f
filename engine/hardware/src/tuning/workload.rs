//! What `allerac bench` measures, in the words of the engine's command line.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The most tokens of a prompt, of an answer and before them: longer than contexts are.
pub const TOKENS_MAX: u32 = 1 << 20;
/// The most depths in one run.
pub const DEPTHS_MAX: usize = 16;
/// The most repeats.
pub const REPEATS_MAX: u32 = 100;

/// Prompts and answers of some length, each after conversations of some lengths, each so many times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Tokens of a prompt; none for no prompts.
    pub prompt: u32,
    /// Tokens of an answer; none for no answers.
    pub answer: u32,
    /// Tokens before, the fewest first.
    pub depths: Vec<u32>,
    /// How often each is computed.
    pub repeats: u32,
}

/// A workload that cannot be measured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadError {
    /// It is not written as it should be.
    #[error("{0}")]
    Invalid(String),
    /// There is nothing to compute.
    #[error("a prompt or an answer must have tokens, at one depth at least, once at least")]
    Nothing,
    /// A number is too large.
    #[error("at most {TOKENS_MAX} tokens, {DEPTHS_MAX} depths and {REPEATS_MAX} repeats can be measured")]
    TooMuch,
    /// Depths are reached one after the other.
    #[error("depths must grow from one to the next")]
    Order,
}

impl Workload {
    /// The same, where it can be measured.
    ///
    /// # Errors
    /// [`WorkloadError`].
    pub fn checked(self) -> Result<Self, WorkloadError> {
        if (self.prompt == 0 && self.answer == 0) || self.depths.is_empty() || self.repeats == 0 {
            return Err(WorkloadError::Nothing);
        }
        let longest = self.depths.iter().chain([&self.prompt, &self.answer]).max();
        if longest > Some(&TOKENS_MAX) || self.depths.len() > DEPTHS_MAX || self.repeats > REPEATS_MAX {
            return Err(WorkloadError::TooMuch);
        }
        if self.depths.is_sorted_by(|a, b| a < b) { Ok(self) } else { Err(WorkloadError::Order) }
    }

    /// Tokens of context that it takes.
    #[must_use]
    pub fn context(&self) -> u32 {
        self.depths.last().copied().unwrap_or(0) + self.prompt.max(self.answer)
    }

    /// As the engine's command line has it.
    ///
    /// # Panics
    /// Never: numbers can be written as JSON.
    #[must_use]
    pub fn to_arg(&self) -> String {
        serde_json::to_string(self).expect("numbers are JSON")
    }
}

impl FromStr for Workload {
    type Err = WorkloadError;

    fn from_str(text: &str) -> Result<Self, WorkloadError> {
        serde_json::from_str::<Self>(text).map_err(|error| WorkloadError::Invalid(error.to_string()))?.checked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_measured_is_refused() {
        let good = Workload { prompt: 512, answer: 128, depths: vec![0, 4096], repeats: 5 };
        assert_eq!((good.to_arg().parse(), good.context()), (Ok(good.clone()), 4608));
        let text = r#"{"prompt":512,"answer":0,"depths":[0],"repeats":1}"#;
        assert!(text.parse::<Workload>().is_ok());
        for (from, to, expected) in [
            ("512", "0", WorkloadError::Nothing),
            ("[0]", "[]", WorkloadError::Nothing),
            (":1}", ":0}", WorkloadError::Nothing),
            (":1}", ":101}", WorkloadError::TooMuch),
            ("[0]", "[1048577]", WorkloadError::TooMuch),
            ("512", "4294967295", WorkloadError::TooMuch),
            ("[0]", "[8,8]", WorkloadError::Order),
        ] {
            assert_eq!(text.replace(from, to).parse::<Workload>(), Err(expected), "{from} -> {to}");
        }
        assert!(matches!("{}".parse::<Workload>(), Err(WorkloadError::Invalid(_))));
    }
}
