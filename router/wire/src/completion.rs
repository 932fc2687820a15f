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
        let options = Options::take(&mut fields)?;
        let choices = prompts.len().saturating_mul(options.choices as usize);
        if choices > CHOICES_MAX {
            let wanted = format!("small enough: `n` times the prompts is {choices}, and at most {CHOICES_MAX}");
            return Err(WireError::out_of_range("n", &wanted));
        }
        let best_of = fields.count("best_of", 1..=u32::MAX)?;
        if best_of.is_some_and(|best_of| best_of != options.choices) {
            return Err(WireError::unsupported("best_of", " beyond `n`"));
        }
        fields.only("echo", |value| value == false)?;
        fields.only("suffix", |value| value == "")?;
        fields.finish(&[])?;
        let top_logprobs = top.map(|top| u8::try_from(top).expect("it is at most 5"));
        Ok(Self { model: envelope.model, prompts, top_logprobs, options })
    }
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
            [("echo", json!(true)), ("suffix", json!("x")), ("best_of", json!(3)), ("bestof", json!(1))]
        {
            let mut body = json!({"model": "m", "prompt": "a"});
            body[name] = value;
            assert_eq!(parse(&body).unwrap_err().param.as_deref(), Some(name));
        }
        let accepted = json!({"model": "m", "prompt": "a", "echo": false, "best_of": 1, "suffix": null, "logprobs": 2});
        assert_eq!(parse(&accepted).unwrap().top_logprobs, Some(2));
    }
}
