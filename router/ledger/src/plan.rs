//! What a user or a key may use.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::LedgerError;

/// The plan of new users who are given no other.
pub const DEFAULT_PLAN: &str = "personal";
/// The plan of whoever claims the box.
pub const OWNER_PLAN: &str = "unlimited";

/// The longest name of a plan, in characters.
const NAME_CHARS_MAX: usize = 32;
/// Models that a plan names, for whatever reason: a catalogue has some tens.
const MODELS_MAX: usize = 256;
/// The longest name of a model, in bytes.
const MODEL_BYTES_MAX: usize = 256;
/// The largest number of tokens in a limit: sums of limits stay far from what `SQLite` stores.
const TOKENS_MAX: u64 = 1_000_000_000_000_000;
/// The largest weight, in thousandths.
const WEIGHT_MAX: u32 = 1_000_000;

/// A set of limits, under the name by which users and keys refer to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Lower case letters, digits, `-` and `_`.
    pub name: String,
    /// Tokens in a calendar month, as [counted](Self::counts); `None` for no limit.
    pub tokens_a_month: Option<u64>,
    /// Beyond so many, requests wait for everybody else's.
    pub soft_tokens_a_month: Option<u64>,
    /// Which tokens count.
    pub counts: Counts,
    /// What tokens of models count, where [`counts`](Self::counts) is [`Counts::Weighted`]; others count as they are.
    pub weights: Vec<Weight>,
    /// Whether what a month leaves is there in the next one too.
    pub carry_over: bool,
    /// Requests in any minute.
    pub requests_a_minute: Option<u32>,
    /// Tokens in any minute: of prompts, and of output as far as it may go.
    pub tokens_a_minute: Option<u64>,
    /// Requests at once.
    pub concurrency: Option<u32>,
    /// Models with fewer parameters than this. Model names round down: an "8B" has up to 8.99 billion.
    pub parameters_below: Option<u64>,
    /// The models by name, perhaps with `*` at the end; all where there is none.
    pub models: Vec<String>,
    /// How urgent a request may be at most.
    pub class: Urgency,
    /// Whether keys under this plan may be allowed to use other servers.
    pub upstreams: bool,
    /// Bytes that somebody may keep, in files, responses and batches; `None` for no limit.
    pub storage_bytes: Option<u64>,
    /// What may be spent on other servers in a calendar month, in billionths of the currency; `None` for no limit.
    pub upstream_budget_billionths: Option<u64>,
}

/// Which tokens a plan counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Counts {
    /// Those of prompts.
    Input,
    /// Those of answers.
    Output,
    /// All.
    Both,
    /// All, each times the weight of its model.
    Weighted,
}

/// What tokens of a model count, in thousandths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weight {
    /// The model, perhaps with `*` at the end.
    pub model: String,
    /// A token of a prompt.
    pub input_thousandths: u32,
    /// A token of an answer.
    pub output_thousandths: u32,
}

/// How urgent requests may be, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Urgency {
    /// After all others.
    Batch,
    /// As usual.
    Chat,
    /// Before others.
    Voice,
}

/// What a request is charged for each token, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) input: u32,
    pub(crate) output: u32,
}

impl Plan {
    /// A plan without limits, to be narrowed.
    #[must_use]
    pub fn open(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            tokens_a_month: None,
            soft_tokens_a_month: None,
            counts: Counts::Both,
            weights: Vec::new(),
            carry_over: false,
            requests_a_minute: None,
            tokens_a_minute: None,
            concurrency: None,
            parameters_below: None,
            models: Vec::new(),
            class: Urgency::Voice,
            upstreams: true,
            storage_bytes: None,
            upstream_budget_billionths: None,
        }
    }

    /// Whether a model of this name is in the plan.
    #[must_use]
    pub fn allows_model(&self, model: &str) -> bool {
        names_model(&self.models, model)
    }

    /// Whether a model of this name is in the plan that is somebody's own: an adapter, or one that no catalogue has. A plan
    /// that bounds the size of models has those of the catalogue only, unless it names others.
    #[must_use]
    pub fn allows_own_model(&self, model: &str) -> bool {
        let names = !self.models.is_empty();
        self.allows_model(model) && (names || self.parameters_below.is_none())
    }

    /// What tokens of a model cost.
    pub(crate) fn rate(&self, model: &str) -> Rate {
        match self.counts {
            Counts::Input => Rate { input: 1000, output: 0 },
            Counts::Output => Rate { input: 0, output: 1000 },
            Counts::Both => Rate::PLAIN,
            Counts::Weighted => {
                let weight = self.weights.iter().find(|weight| matches(&weight.model, model));
                weight.map_or(Rate::PLAIN, |weight| Rate {
                    input: weight.input_thousandths,
                    output: weight.output_thousandths,
                })
            }
        }
    }

    /// Refuses what cannot be.
    ///
    /// # Errors
    /// [`LedgerError::InvalidPlan`] saying what is wrong.
    pub fn check(&self) -> Result<(), LedgerError> {
        let wrong = |what: String| Err(LedgerError::InvalidPlan(what));
        let visible = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if self.name.is_empty() || self.name.len() > NAME_CHARS_MAX || !self.name.chars().all(visible) {
            return wrong(format!("its name has 1 to {NAME_CHARS_MAX} of a-z, 0-9, - and _"));
        }
        for (what, tokens) in [
            ("tokens a month", self.tokens_a_month),
            ("the soft limit", self.soft_tokens_a_month),
            ("tokens a minute", self.tokens_a_minute),
            ("bytes to keep", self.storage_bytes),
            ("billionths of the currency a month", self.upstream_budget_billionths),
        ] {
            if tokens.is_some_and(|tokens| tokens > TOKENS_MAX) {
                return wrong(format!("{what} can be {TOKENS_MAX} at most; leave the limit away instead"));
            }
        }
        if self.requests_a_minute == Some(0) || self.tokens_a_minute == Some(0) || self.concurrency == Some(0) {
            return wrong("a limit a minute or at once is at least 1; revoke keys to let nothing through".into());
        }
        if self.parameters_below == Some(0) {
            return wrong("models have parameters".into());
        }
        if let (Some(soft), Some(hard)) = (self.soft_tokens_a_month, self.tokens_a_month)
            && soft > hard
        {
            return wrong(format!("the soft limit of {soft} is beyond the {hard} tokens a month"));
        }
        if self.carry_over && self.tokens_a_month.is_none() {
            return wrong("without a limit there is nothing to carry over".into());
        }
        if self.counts != Counts::Weighted && !self.weights.is_empty() {
            return wrong("weights need the counting `weighted`".into());
        }
        let names = self.weights.iter().map(|weight| &weight.model).chain(&self.models);
        if self.weights.len() > MODELS_MAX || self.models.len() > MODELS_MAX {
            return wrong(format!("it names {MODELS_MAX} models at most"));
        }
        if let Some(name) = names.into_iter().find(|name| !is_pattern(name)) {
            return wrong(format!("`{name}` is no name of a model; `*` may stand at its end"));
        }
        if self.weights.iter().any(|weight| weight.input_thousandths.max(weight.output_thousandths) > WEIGHT_MAX) {
            return wrong(format!("a weight is {} at most", WEIGHT_MAX / 1000));
        }
        Ok(())
    }
}

/// Whether a model is among these; all are where none is named.
pub(crate) fn names_model(patterns: &[String], model: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern, model))
}

/// Refuses names that no model can have.
pub(crate) fn check_models(models: &[String]) -> Result<(), LedgerError> {
    let wrong = |reason: String| Err(LedgerError::Invalid { field: "models", reason });
    match models.iter().find(|name| !is_pattern(name)) {
        _ if models.len() > MODELS_MAX => wrong(format!("{MODELS_MAX} models at most can be named")),
        Some(name) => wrong(format!("`{name}` is no name of a model; `*` may stand at its end")),
        None => Ok(()),
    }
}

fn is_pattern(name: &str) -> bool {
    let stem = name.strip_suffix('*').unwrap_or(name);
    let plain = !stem.chars().any(|c| c == '*' || c.is_control());
    plain && !name.is_empty() && name.len() <= MODEL_BYTES_MAX
}

fn matches(pattern: &str, model: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == model, |stem| model.starts_with(stem))
}

impl Rate {
    /// Each token counts as one.
    pub(crate) const PLAIN: Self = Self { input: 1000, output: 1000 };

    /// What so many tokens cost. A part of a token is a token, so that no use is free that is not meant to be.
    pub(crate) fn charge(self, input: u32, output: u32) -> i64 {
        let thousandths = u64::from(input) * u64::from(self.input) + u64::from(output) * u64::from(self.output);
        i64::try_from(thousandths.div_ceil(1000)).expect("two 32-bit counts times a bounded weight fit")
    }
}

/// A word that stands for none of the values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is none of {known}")]
pub struct UnknownWord {
    word: String,
    known: &'static str,
}

impl UnknownWord {
    pub(crate) fn new(word: &str, known: &'static str) -> Self {
        let word = word.chars().filter(|c| !c.is_control()).take(64).collect();
        Self { word, known }
    }
}

impl Counts {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::Both => "both",
            Self::Weighted => "weighted",
        }
    }
}

impl FromStr for Counts {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        let all = [Self::Input, Self::Output, Self::Both, Self::Weighted];
        let found = all.into_iter().find(|counts| counts.as_str() == word);
        found.ok_or_else(|| UnknownWord { word: word.to_owned(), known: "input, output, both and weighted" })
    }
}

impl Urgency {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Chat => "chat",
            Self::Voice => "voice",
        }
    }
}

impl FromStr for Urgency {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        let found = [Self::Batch, Self::Chat, Self::Voice].into_iter().find(|class| class.as_str() == word);
        found.ok_or_else(|| UnknownWord { word: word.to_owned(), known: "batch, chat and voice" })
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Display for Urgency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weighted(weights: &[(&str, u32, u32)]) -> Plan {
        let weight = |&(model, input_thousandths, output_thousandths): &(&str, u32, u32)| Weight {
            model: model.into(),
            input_thousandths,
            output_thousandths,
        };
        let weights = weights.iter().map(weight).collect();
        Plan { counts: Counts::Weighted, weights, ..Plan::open("p") }
    }

    #[test]
    fn tokens_are_charged_by_what_counts() {
        let plain = |counts| Plan { counts, ..Plan::open("p") }.rate("m").charge(7, 5);
        assert_eq!([plain(Counts::Input), plain(Counts::Output), plain(Counts::Both)], [7, 5, 12]);
        let plan = weighted(&[("big", 2000, 4000), ("tiny-*", 100, 250)]);
        assert_eq!(plan.rate("big").charge(7, 5), 34);
        // 0.7 + 1.25, and a part of a token is a token.
        assert_eq!(plan.rate("tiny-1b").charge(7, 5), 2);
        assert_eq!(plan.rate("other").charge(7, 5), 12);
        assert_eq!(Rate { input: WEIGHT_MAX, output: WEIGHT_MAX }.charge(u32::MAX, u32::MAX), 8_589_934_590_000);
    }

    #[test]
    fn models_are_named_whole_or_by_how_they_begin() {
        let plan = Plan { models: vec!["qwen-*".into(), "phi".into()], ..Plan::open("p") };
        assert_eq!(
            ["qwen-7b", "phi", "phi-4", "llama"].map(|model| plan.allows_model(model)),
            [true, true, false, false]
        );
        assert!(Plan::open("p").allows_model("anything"));
    }

    #[test]
    fn own_models_are_in_plans_of_all_sizes_or_named() {
        let bounded = Plan { parameters_below: Some(9_000_000_000), ..Plan::open("p") };
        let names =
            |models: &[&str]| Plan { models: models.iter().map(ToString::to_string).collect(), ..bounded.clone() };
        assert_eq!(
            [Plan::open("p"), bounded.clone(), names(&["phi"]), names(&["phi", "phi:mine"]), names(&["*"])]
                .map(|plan| plan.allows_own_model("phi:mine")),
            [true, false, false, true, true]
        );
        assert!(!Plan { models: vec!["phi".into()], ..Plan::open("p") }.allows_own_model("phi:mine"));
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_reason() {
        let open = || Plan::open("p");
        let wrong = [
            (Plan::open(""), "name"),
            (Plan::open("a b"), "name"),
            (Plan::open(&"x".repeat(33)), "name"),
            (Plan { tokens_a_month: Some(u64::MAX), ..open() }, "tokens a month"),
            (Plan { tokens_a_month: Some(5), soft_tokens_a_month: Some(6), ..open() }, "beyond"),
            (Plan { requests_a_minute: Some(0), ..open() }, "at least 1"),
            (Plan { concurrency: Some(0), ..open() }, "at least 1"),
            (Plan { carry_over: true, ..open() }, "nothing to carry"),
            (Plan { counts: Counts::Both, ..weighted(&[("m", 1, 1)]) }, "weighted"),
            (weighted(&[("m", 1, 1_000_001)]), "1000 at most"),
            (weighted(&[("a*b", 1, 1)]), "no name of a model"),
            (Plan { models: vec![String::new()], ..open() }, "no name of a model"),
            (Plan { models: vec!["m".into(); 257], ..open() }, "256"),
        ];
        for (plan, reason) in wrong {
            let error = plan.check().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        open().check().unwrap();
        weighted(&[("m", 0, 1_000_000)]).check().unwrap();
    }
}
