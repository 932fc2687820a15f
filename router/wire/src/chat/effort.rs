//! How much a model is to think: OpenAI's word, and the other names that clients of many servers have for it.

use crate::conversation::Effort;
use crate::fields::{Fields, WireError};

impl Effort {
    /// Takes a word of OpenAI's for effort.
    pub(crate) fn take(fields: &mut Fields, name: &str) -> Result<Option<Self>, WireError> {
        let Some(word) = fields.string(name)? else { return Ok(None) };
        let effort = Self::ALL.iter().find(|(known, _)| *known == word).map(|(_, effort)| *effort);
        effort.map(Some).ok_or_else(|| fields.out_of_range(name, "none, minimal, low, medium, high, xhigh or max"))
    }
}

/// Takes all that a request says of it. OpenAI's own word comes first, then the more exact.
pub(super) fn take(fields: &mut Fields) -> Result<Option<Effort>, WireError> {
    let own = Effort::take(fields, "reasoning_effort")?;
    let others = [reasoning(fields)?, thinking(fields)?, switch(fields, "enable_thinking")?];
    Ok(own.or_else(|| others.into_iter().flatten().next()))
}

/// OpenRouter's `reasoning`.
fn reasoning(fields: &mut Fields) -> Result<Option<Effort>, WireError> {
    let Some(value) = fields.take("reasoning") else { return Ok(None) };
    let mut inner = Fields::of("reasoning", value)?;
    let effort = Effort::take(&mut inner, "effort")?;
    let enabled = switch(&mut inner, "enabled")?;
    let budget = inner.count("max_tokens", 0..=u32::MAX)?.map(Effort::of_budget);
    // Thoughts are told apart from the answer; a client that does not want them need not read them.
    inner.only("exclude", |value| value == false)?;
    inner.finish(&[])?;
    Ok(effort.or(budget).or(enabled))
}

/// DeepSeek's and GLM's `thinking`, which is Anthropic's with less in it.
fn thinking(fields: &mut Fields) -> Result<Option<Effort>, WireError> {
    let Some(value) = fields.take("thinking") else { return Ok(None) };
    let mut inner = Fields::of("thinking", value)?;
    let kind = inner.required_string("type")?;
    let budget = inner.count("budget_tokens", 0..=u32::MAX)?;
    inner.finish(&[])?;
    match kind.as_str() {
        "disabled" => Ok(Some(Effort::None)),
        "enabled" => Ok(Some(budget.map_or(Effort::Medium, Effort::of_budget))),
        "adaptive" => Ok(None),
        _ => Err(WireError::out_of_range("thinking.type", "enabled, disabled or adaptive")),
    }
}

/// A boolean for whether to think at all, such as Qwen's servers have.
fn switch(fields: &mut Fields, name: &str) -> Result<Option<Effort>, WireError> {
    Ok(fields.boolean(name)?.map(|thinks| if thinks { Effort::Medium } else { Effort::None }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn effort(body: Value) -> Result<Option<Effort>, WireError> {
        let mut fields = Fields::of("", body)?;
        let effort = take(&mut fields)?;
        fields.finish(&[])?;
        Ok(effort)
    }

    #[test]
    fn every_name_for_it_is_read() {
        for (body, expected) in [
            (json!({}), None),
            (json!({"reasoning_effort": "max"}), Some(Effort::Max)),
            (json!({"reasoning_effort": "low", "enable_thinking": true}), Some(Effort::Low)),
            (json!({"reasoning": {"effort": "high", "enabled": true, "exclude": false}}), Some(Effort::High)),
            (json!({"reasoning": {"max_tokens": 2000}}), Some(Effort::Low)),
            (json!({"reasoning": {"enabled": false}}), Some(Effort::None)),
            (json!({"thinking": {"type": "disabled"}}), Some(Effort::None)),
            (json!({"thinking": {"type": "enabled"}}), Some(Effort::Medium)),
            (json!({"thinking": {"type": "enabled", "budget_tokens": 32_000}}), Some(Effort::High)),
            (json!({"thinking": {"type": "adaptive"}}), None),
            (json!({"enable_thinking": false}), Some(Effort::None)),
        ] {
            assert_eq!(effort(body.clone()).unwrap(), expected, "{body}");
        }
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for (body, param) in [
            (json!({"reasoning": {"exclude": true}}), "reasoning.exclude"),
            (json!({"reasoning": {"effort": "much"}}), "reasoning.effort"),
            (json!({"reasoning": "low"}), "reasoning"),
            (json!({"thinking": {"type": "sometimes"}}), "thinking.type"),
            (json!({"enable_thinking": "yes"}), "enable_thinking"),
        ] {
            assert_eq!(effort(body.clone()).unwrap_err().param.as_deref(), Some(param), "{body}");
        }
    }
}
