//! `POST /v1/completions`.

use serde_json::Value;

use crate::fields::{Envelope, Fields, WireError, whole};
use crate::options::Options;

/// Prompts of one request.
pub(crate) const PROMPTS_MAX: usize = 16;
/// Answers of one request, over all prompts: more would hold everybody else up.
const CHOICES_MAX: usize = 16;
/// Alternatives at each token, as OpenAI's API has it.
pub(crate) const LOGPROBS_MAX: u32 = 5;

/// A validated completion request.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletionRequest {
    /// The model asked for.
    pub model: String,
    /// What to continue, at least one.
    pub prompts: Vec<Prompt>,
    /// Log probabilities wanted: how many alternatives at each token.
    pub top_logprobs: Option<u8>,
    /// Whether each answer begins with its prompt.
    pub echo: bool,
    /// What stands after the answer.
    pub suffix: Option<String>,
    /// The rest.
    pub options: Options,
}

/// What to continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// Text.
    Text(String),
    /// Tokens of the model.
    Tokens(Vec<u32>),
}

impl CompletionRequest {
    /// Validates a request.
    ///
    /// # Errors
    /// [`WireError`] naming the field that cannot be honoured.
    pub fn parse(envelope: Envelope) -> Result<Self, WireError> {
        let mut fields = Fields::new(envelope.body);
        fields.take("model");
        let prompts = prompts(fields.required("prompt")?)?;
        let top = fields.count("logprobs", 0..=LOGPROBS_MAX)?;
        let options = Options::take(&mut fields, 0)?;
        let choices = prompts.len().saturating_mul(options.choices as usize);
        if choices > CHOICES_MAX {
            let wanted = format!("small enough: `n` times the prompts is {choices}, and at most {CHOICES_MAX}");
            return Err(WireError::out_of_range("n", &wanted));
        }
        let best_of = fields.count("best_of", 1..=u32::MAX)?;
        if best_of.is_some_and(|best_of| best_of != options.choices) {
            return Err(WireError::unsupported("best_of", " beyond `n`"));
        }
        let echo = fields.boolean("echo")?.unwrap_or(false);
        let suffix = fields.string("suffix")?.filter(|suffix| !suffix.is_empty());
        fields.finish(&[])?;
        if suffix.is_some() {
            check_gap(&prompts, echo && top.is_some())?;
        }
        let top_logprobs = top.map(|top| u8::try_from(top).expect("it is at most 5"));
        Ok(Self { model: envelope.model, prompts, top_logprobs, echo, suffix, options })
    }
}

/// A prompt before a gap is text, and its tokens are not those that are scored.
fn check_gap(prompts: &[Prompt], scores: bool) -> Result<(), WireError> {
    let refused = |message| Err(WireError::new("suffix", "invalid_value", message));
    if prompts.iter().any(|prompt| matches!(prompt, Prompt::Tokens(_))) {
        return refused("`suffix` needs a prompt of text: how tokens stand around a gap is the model's own");
    }
    if scores {
        return refused(
            "`suffix` cannot be sent with both `echo` and `logprobs`: the prompt is not all that is scored",
        );
    }
    Ok(())
}

fn prompts(value: Value) -> Result<Vec<Prompt>, WireError> {
    let values = match value {
        Value::String(text) => return Ok(vec![Prompt::Text(text)]),
        Value::Array(values) if values.first().is_some_and(Value::is_number) => {
            return Ok(vec![Prompt::Tokens(tokens("prompt", &values)?)]);
        }
        Value::Array(values) => values,
        other => return Err(WireError::wrong_type("prompt", "a string or an array", &other)),
    };
    if values.is_empty() || values.len() > PROMPTS_MAX {
        return Err(WireError::out_of_range("prompt", &format!("1 to {PROMPTS_MAX} prompts")));
    }
    let prompt = |(index, value)| match value {
        Value::String(text) => Ok(Prompt::Text(text)),
        Value::Array(values) => Ok(Prompt::Tokens(tokens(&format!("prompt[{index}]"), &values)?)),
        other => Err(WireError::wrong_type(&format!("prompt[{index}]"), "a string or an array of tokens", &other)),
    };
    values.into_iter().enumerate().map(prompt).collect()
}

pub(crate) fn tokens(path: &str, values: &[Value]) -> Result<Vec<u32>, WireError> {
    let token = |(index, value): (usize, &Value)| {
        let number = whole(value).and_then(|number| u32::try_from(number).ok());
        number.ok_or_else(|| WireError::out_of_range(&format!("{path}[{index}]"), "a token id"))
    };
    values.iter().enumerate().map(token).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(body: &Value) -> Result<CompletionRequest, WireError> {
        CompletionRequest::parse(Envelope::parse(body.to_string().as_bytes())?)
    }

    fn prompts_of(prompt: &Value) -> Result<Vec<Prompt>, WireError> {
        parse(&json!({"model": "m", "prompt": prompt})).map(|request| request.prompts)
    }

    #[test]
    fn a_prompt_has_four_forms() {
        assert_eq!(prompts_of(&json!("a")).unwrap(), [Prompt::Text("a".into())]);
        assert_eq!(prompts_of(&json!(["a", "b"])).unwrap(), [Prompt::Text("a".into()), Prompt::Text("b".into())]);
        assert_eq!(prompts_of(&json!([1, 2.0])).unwrap(), [Prompt::Tokens(vec![1, 2])]);
        assert_eq!(prompts_of(&json!([[1], [2]])).unwrap(), [Prompt::Tokens(vec![1]), Prompt::Tokens(vec![2])]);
        assert_eq!(prompts_of(&json!([1, -2])).unwrap_err().param.as_deref(), Some("prompt[1]"));
        assert_eq!(prompts_of(&json!([])).unwrap_err().param.as_deref(), Some("prompt"));
        assert_eq!(prompts_of(&json!({})).unwrap_err().code, Some("invalid_type"));
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for (name, value) in
            [("echo", json!(1)), ("suffix", json!(1)), ("best_of", json!(3)), ("bestof", json!(1)), ("n", json!(0))]
        {
            let mut body = json!({"model": "m", "prompt": "a"});
            body[name] = value;
            assert_eq!(parse(&body).unwrap_err().param.as_deref(), Some(name));
        }
        let accepted = json!({"model": "m", "prompt": "a", "echo": false, "best_of": 1, "suffix": null, "logprobs": 2});
        assert_eq!(parse(&accepted).unwrap().top_logprobs, Some(2));
    }

    #[test]
    fn a_prompt_can_be_echoed_and_scored_without_an_answer() {
        let request =
            parse(&json!({"model": "m", "prompt": [1], "echo": true, "logprobs": 0, "max_tokens": 0})).unwrap();
        assert_eq!((request.echo, request.top_logprobs, request.options.max_tokens), (true, Some(0), Some(0)));
        assert!(!parse(&json!({"model": "m", "prompt": "a", "echo": null})).unwrap().echo);
    }

    #[test]
    fn a_gap_stands_between_texts() {
        let gap = |more: Value| {
            let mut body = json!({"model": "m", "prompt": "a", "suffix": "z"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            parse(&body)
        };
        assert_eq!(gap(json!({"echo": true})).unwrap().suffix.as_deref(), Some("z"));
        assert_eq!(gap(json!({"suffix": ""})).unwrap().suffix, None);
        for wrong in [json!({"prompt": [1]}), json!({"prompt": [[1], [2]]}), json!({"echo": true, "logprobs": 1})] {
            assert_eq!(gap(wrong).unwrap_err().param.as_deref(), Some("suffix"));
        }
    }
}
