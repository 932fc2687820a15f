//! `thinking` and `output_config.effort`.

use crate::conversation::Effort;
use crate::fields::{Fields, WireError};

/// The least that a model may be given to think with, in tokens.
pub(crate) const BUDGET_MIN: u32 = 1024;
/// Whether an answer tells what the model thought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thoughts {
    /// It does.
    Shown,
    /// It tells that there was a thought.
    Omitted,
    /// Nobody asked for any.
    Hidden,
}

/// What a request says of thinking.
pub(super) struct Thinking {
    pub(super) thoughts: Thoughts,
    effort: Option<Effort>,
    budget: Option<u32>,
}

impl Thinking {
    pub(super) fn take(fields: &mut Fields) -> Result<Self, WireError> {
        let hidden = Self { thoughts: Thoughts::Hidden, effort: None, budget: None };
        let Some(value) = fields.take("thinking") else { return Ok(hidden) };
        let mut inner = Fields::of("thinking", value)?;
        let kind = inner.required_string("type")?;
        let thoughts = display(&mut inner)?;
        let thinking = match kind.as_str() {
            "disabled" => Self { effort: Some(Effort::None), ..hidden },
            "adaptive" => Self { thoughts, ..hidden },
            "enabled" => {
                let budget = inner.count("budget_tokens", BUDGET_MIN..=u32::MAX)?;
                let budget = budget.ok_or_else(|| inner.missing("budget_tokens"))?;
                Self { thoughts, effort: Some(Effort::of_budget(budget)), budget: Some(budget) }
            }
            "between_tools" => return Err(inner.unsupported("type", " for `between_tools`")),
            _ => return Err(inner.out_of_range("type", "enabled, disabled or adaptive")),
        };
        inner.finish(&[])?;
        Ok(thinking)
    }

    /// The answer has room for more than the thought.
    pub(super) fn check_budget(&self, max_tokens: u32) -> Result<(), WireError> {
        match self.budget {
            Some(budget) if budget >= max_tokens => {
                Err(WireError::out_of_range("thinking.budget_tokens", "less than `max_tokens`"))
            }
            _ => Ok(()),
        }
    }

    /// How much to think, where `output_config` may say it too.
    pub(super) fn effort_with(&self, wanted: Option<Effort>) -> Option<Effort> {
        if self.effort == Some(Effort::None) { self.effort } else { wanted.or(self.effort) }
    }
}

fn display(fields: &mut Fields) -> Result<Thoughts, WireError> {
    match fields.string("display")?.as_deref() {
        None | Some("summarized") => Ok(Thoughts::Shown),
        Some("omitted") => Ok(Thoughts::Omitted),
        Some(_) => Err(fields.out_of_range("display", "summarized or omitted")),
    }
}

/// How much to think, in Anthropic's words.
pub(super) fn effort(fields: &mut Fields) -> Result<Option<Effort>, WireError> {
    let effort = match fields.string("effort")?.as_deref() {
        None => return Ok(None),
        Some("low") => Effort::Low,
        Some("medium") => Effort::Medium,
        Some("high") => Effort::High,
        Some("xhigh") => Effort::Xhigh,
        Some("max") => Effort::Max,
        Some(_) => return Err(fields.out_of_range("effort", "low, medium, high, xhigh or max")),
    };
    Ok(Some(effort))
}
