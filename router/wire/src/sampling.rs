//! How tokens are chosen: the names of OpenAI's API, and beyond it those of llama.cpp's server.

use std::ops::RangeInclusive;

use serde_json::Value;

use crate::fields::{Fields, WireError};

/// Tokens whose likelihood one request may change.
pub(crate) const BIASES_MAX: usize = 1024;
/// Sequence breakers of one request. Each is looked for in every token.
pub(crate) const BREAKERS_MAX: usize = 32;
/// Bytes of a sequence breaker, as llama.cpp has it; there longer ones are cut.
pub(crate) const BREAKER_BYTES_MAX: usize = 40;
/// The largest number of tokens that llama.cpp's server accepts.
pub(crate) const TOKENS_MAX: u32 = i32::MAX as u32;

/// How tokens are chosen. What the client leaves open is for the model, or off.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0..=2; 0 is greedy.
    pub temperature: Option<f32>,
    /// 0..=1.
    pub top_p: Option<f32>,
    /// 0 keeps all.
    pub top_k: Option<u32>,
    /// 0..=1.
    pub min_p: Option<f32>,
    /// 0..=1; 1 keeps all.
    pub typical_p: f32,
    /// -2..=2.
    pub presence_penalty: f32,
    /// -2..=2.
    pub frequency_penalty: f32,
    /// 0.01..=100; 1 changes nothing.
    pub repeat_penalty: f32,
    /// Tokens that the repetition penalty looks back at.
    pub repeat_last_n: LastTokens,
    /// Against repeated sequences.
    pub dry: DryOptions,
    /// 0..=1; 0 never happens.
    pub xtc_probability: f32,
    /// 0..=1; above 0.5 nothing happens.
    pub xtc_threshold: f32,
    /// Version 2 of mirostat, where it is on.
    pub mirostat: Option<MirostatOptions>,
    /// Token ids and what is added to their logits, -100..=100.
    pub logit_bias: Vec<(u32, f32)>,
    /// The same seed gives the same answer.
    pub seed: Option<i64>,
    /// Whether log probabilities are those that tokens were drawn with, not the model's own.
    pub post_sampling_probs: bool,
    /// Tokens before which the model may not end its answer; `u32::MAX` where it never may.
    pub min_tokens: u32,
}

/// How far to look back over prompt and answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastTokens {
    /// Over all of it.
    All,
    /// Over so many tokens.
    Last(u32),
}

/// The parameters of DRY.
#[derive(Debug, Clone, PartialEq)]
pub struct DryOptions {
    /// 0..=100; 0 changes nothing.
    pub multiplier: f32,
    /// 1..=100.
    pub base: f32,
    /// The longest repetition that costs nothing, in tokens.
    pub allowed_length: u32,
    /// Tokens looked back at.
    pub last_tokens: LastTokens,
    /// What no repetition reaches across; each non-empty.
    pub sequence_breakers: Vec<String>,
}

/// The parameters of mirostat 2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MirostatOptions {
    /// Bits of surprise aimed at, 0..=100.
    pub tau: f32,
    /// How fast it learns, 0..=1.
    pub eta: f32,
}

impl Sampling {
    pub(crate) fn take(fields: &mut Fields) -> Result<Self, WireError> {
        Ok(Self {
            temperature: number(fields, "temperature", 0.0..=2.0)?,
            top_p: number(fields, "top_p", 0.0..=1.0)?,
            top_k: fields.count("top_k", 0..=1_000_000)?,
            min_p: number(fields, "min_p", 0.0..=1.0)?,
            typical_p: number(fields, "typical_p", 0.0..=1.0)?.unwrap_or(1.0),
            presence_penalty: number(fields, "presence_penalty", -2.0..=2.0)?.unwrap_or(0.0),
            frequency_penalty: number(fields, "frequency_penalty", -2.0..=2.0)?.unwrap_or(0.0),
            repeat_penalty: repeat_penalty(fields)?,
            repeat_last_n: last_tokens(fields, "repeat_last_n")?,
            dry: DryOptions::take(fields)?,
            xtc_probability: number(fields, "xtc_probability", 0.0..=1.0)?.unwrap_or(0.0),
            xtc_threshold: number(fields, "xtc_threshold", 0.0..=1.0)?.unwrap_or(0.1),
            mirostat: MirostatOptions::take(fields)?,
            logit_bias: logit_bias(fields)?,
            seed: fields.integer("seed", i64::MIN..=i64::MAX)?,
            post_sampling_probs: fields.boolean("post_sampling_probs")?.unwrap_or(false),
            min_tokens: min_tokens(fields)?,
        })
    }
}

impl DryOptions {
    fn take(fields: &mut Fields) -> Result<Self, WireError> {
        Ok(Self {
            multiplier: number(fields, "dry_multiplier", 0.0..=100.0)?.unwrap_or(0.0),
            base: number(fields, "dry_base", 1.0..=100.0)?.unwrap_or(1.75),
            allowed_length: fields.count("dry_allowed_length", 0..=TOKENS_MAX)?.unwrap_or(2),
            last_tokens: last_tokens(fields, "dry_penalty_last_n")?,
            sequence_breakers: sequence_breakers(fields)?,
        })
    }
}

impl MirostatOptions {
    fn take(fields: &mut Fields) -> Result<Option<Self>, WireError> {
        let version = fields.count("mirostat", 0..=2)?.unwrap_or(0);
        let tau = number(fields, "mirostat_tau", 0.0..=100.0)?.unwrap_or(5.0);
        let eta = number(fields, "mirostat_eta", 0.0..=1.0)?.unwrap_or(0.1);
        match version {
            0 => Ok(None),
            1 => Err(WireError::unsupported("mirostat", " in version 1; send 2, its successor")),
            _ => Ok(Some(Self { tau, eta })),
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the ranges are far within an f32")]
fn number(fields: &mut Fields, name: &str, range: RangeInclusive<f64>) -> Result<Option<f32>, WireError> {
    Ok(fields.number(name, range)?.map(|number| number as f32))
}

/// Under llama.cpp's name or under vLLM's.
fn repeat_penalty(fields: &mut Fields) -> Result<f32, WireError> {
    let penalty = number(fields, "repeat_penalty", 0.01..=100.0)?;
    let same = number(fields, "repetition_penalty", 0.01..=100.0)?;
    match (penalty, same) {
        (Some(penalty), Some(same)) if penalty.to_bits() != same.to_bits() => Err(WireError::new(
            "repetition_penalty",
            "invalid_value",
            "`repetition_penalty` and `repeat_penalty` say different things; send one of them",
        )),
        (penalty, same) => Ok(penalty.or(same).unwrap_or(1.0)),
    }
}

/// -1 is the whole context, as older versions of llama.cpp's server have it.
fn last_tokens(fields: &mut Fields, name: &str) -> Result<LastTokens, WireError> {
    let count = fields.integer(name, -1..=i64::from(TOKENS_MAX))?.unwrap_or(64);
    Ok(u32::try_from(count).map_or(LastTokens::All, LastTokens::Last))
}

fn sequence_breakers(fields: &mut Fields) -> Result<Vec<String>, WireError> {
    const NAME: &str = "dry_sequence_breakers";
    let values = match fields.take(NAME) {
        None => return Ok(["\n", ":", "\"", "*"].map(str::to_owned).to_vec()),
        Some(Value::Array(values)) => values,
        Some(other) => return Err(WireError::wrong_type(NAME, "an array of strings", &other)),
    };
    if values.len() > BREAKERS_MAX {
        return Err(WireError::out_of_range(NAME, &format!("at most {BREAKERS_MAX} strings")));
    }
    let breaker = |(index, value)| {
        let path = format!("{NAME}[{index}]");
        match value {
            Value::String(breaker) if (1..=BREAKER_BYTES_MAX).contains(&breaker.len()) => Ok(breaker),
            Value::String(_) => {
                Err(WireError::out_of_range(&path, &format!("1 to {BREAKER_BYTES_MAX} bytes long in UTF-8")))
            }
            other => Err(WireError::wrong_type(&path, "a string", &other)),
        }
    };
    values.into_iter().enumerate().map(breaker).collect()
}

/// vLLM's `min_tokens`, and `ignore_eos` of vLLM and llama.cpp, which stands for more than any answer has.
fn min_tokens(fields: &mut Fields) -> Result<u32, WireError> {
    let least = fields.count("min_tokens", 0..=TOKENS_MAX)?.unwrap_or(0);
    let never_ends = fields.boolean("ignore_eos")?.unwrap_or(false);
    Ok(if never_ends { u32::MAX } else { least })
}

#[allow(clippy::cast_possible_truncation, reason = "-100..=100 is far within an f32")]
fn logit_bias(fields: &mut Fields) -> Result<Vec<(u32, f32)>, WireError> {
    let map = match fields.take("logit_bias") {
        None => return Ok(Vec::new()),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(WireError::wrong_type("logit_bias", "an object", &other)),
    };
    if map.len() > BIASES_MAX {
        return Err(WireError::out_of_range("logit_bias", &format!("an object of at most {BIASES_MAX} tokens")));
    }
    map.into_iter()
        .map(|(token, bias)| {
            let path = format!("logit_bias.{token}");
            let id = token.parse().map_err(|_| WireError::out_of_range(&path, "keyed by a token id"))?;
            let bias = bias.as_f64().ok_or_else(|| WireError::wrong_type(&path, "a number", &bias))?;
            let within = (-100.0..=100.0).contains(&bias);
            if within { Ok((id, bias as f32)) } else { Err(WireError::out_of_range(&path, "between -100 and 100")) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(body: Value) -> Result<Sampling, WireError> {
        let Value::Object(map) = body else { panic!("{body}") };
        let mut fields = Fields::new(map);
        let sampling = Sampling::take(&mut fields)?;
        fields.finish(&[])?;
        Ok(sampling)
    }

    #[test]
    fn what_is_left_open_is_off_with_the_defaults_of_llama_cpp() {
        let expected = Sampling {
            temperature: None,
            top_p: None,
            top_k: None,
            min_p: None,
            typical_p: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repeat_penalty: 1.0,
            repeat_last_n: LastTokens::Last(64),
            dry: DryOptions {
                multiplier: 0.0,
                base: 1.75,
                allowed_length: 2,
                last_tokens: LastTokens::Last(64),
                sequence_breakers: vec!["\n".into(), ":".into(), "\"".into(), "*".into()],
            },
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            mirostat: None,
            logit_bias: Vec::new(),
            seed: None,
            post_sampling_probs: false,
            min_tokens: 0,
        };
        assert_eq!(parse(json!({})).unwrap(), expected);
        // Parameters of what is off change nothing.
        assert_eq!(parse(json!({"mirostat": 0, "mirostat_tau": 3, "mirostat_eta": 0.2})).unwrap(), expected);
    }

    #[test]
    fn every_field_is_read() {
        let sampling = parse(json!({
            "typical_p": 0.5, "repeat_penalty": 1.25, "repeat_last_n": -1, "dry_multiplier": 0.5, "dry_base": 2,
            "dry_allowed_length": 0, "dry_penalty_last_n": -1, "dry_sequence_breakers": ["\n", "é"],
            "xtc_probability": 0.25, "xtc_threshold": 0.125, "mirostat": 2, "mirostat_tau": 3, "mirostat_eta": 0.25,
            "post_sampling_probs": true, "min_tokens": 7,
        }))
        .unwrap();
        assert_eq!((sampling.typical_p, sampling.repeat_penalty), (0.5, 1.25));
        assert_eq!(sampling.repeat_last_n, LastTokens::All);
        let dry = DryOptions {
            multiplier: 0.5,
            base: 2.0,
            allowed_length: 0,
            last_tokens: LastTokens::All,
            sequence_breakers: vec!["\n".into(), "é".into()],
        };
        assert_eq!(sampling.dry, dry);
        assert_eq!((sampling.xtc_probability, sampling.xtc_threshold), (0.25, 0.125));
        assert_eq!(sampling.mirostat, Some(MirostatOptions { tau: 3.0, eta: 0.25 }));
        assert!(sampling.post_sampling_probs);
        assert_eq!(sampling.min_tokens, 7);
        assert_eq!(parse(json!({"min_tokens": 7, "ignore_eos": true})).unwrap().min_tokens, u32::MAX);
        let none = parse(json!({"repeat_last_n": 0, "dry_penalty_last_n": 7, "dry_sequence_breakers": []})).unwrap();
        assert_eq!((none.repeat_last_n, none.dry.last_tokens), (LastTokens::Last(0), LastTokens::Last(7)));
        assert!(none.dry.sequence_breakers.is_empty());
    }

    #[test]
    fn the_repetition_penalty_has_two_names() {
        assert!((parse(json!({"repetition_penalty": 1.5})).unwrap().repeat_penalty - 1.5).abs() < f32::EPSILON);
        let both = |other| parse(json!({"repetition_penalty": 1.5, "repeat_penalty": other}));
        assert!((both(1.5).unwrap().repeat_penalty - 1.5).abs() < f32::EPSILON);
        assert_eq!(both(1.0).unwrap_err().param.as_deref(), Some("repetition_penalty"));
    }

    /// A field, a value for it, and the `code` and a part of the message of the refusal.
    fn refused(name: &str, value: &Value, code: &str, said: &str) {
        let error = parse(json!({name: value})).unwrap_err();
        assert_eq!((error.param.as_deref(), error.code), (Some(name), Some(code)), "{error}");
        assert!(error.message.contains(&format!("`{name}`")) && error.message.contains(said), "{error}");
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name_with_its_range() {
        for (name, least, most) in [
            ("typical_p", "0", "1"),
            ("repeat_penalty", "0.01", "100"),
            ("repetition_penalty", "0.01", "100"),
            ("dry_multiplier", "0", "100"),
            ("dry_base", "1", "100"),
            ("xtc_probability", "0", "1"),
            ("xtc_threshold", "0", "1"),
            ("mirostat_tau", "0", "100"),
            ("mirostat_eta", "0", "1"),
        ] {
            let range = format!("between {least} and {most}");
            refused(name, &json!(-0.001), "invalid_value", &range);
            refused(name, &json!(100.001), "invalid_value", &range);
            refused(name, &json!("1"), "invalid_type", "a number");
        }
        refused("repeat_penalty", &json!(0), "invalid_value", "between 0.01 and 100");
        for name in ["repeat_last_n", "dry_penalty_last_n"] {
            refused(name, &json!(-2), "invalid_value", "between -1 and 2147483647");
            refused(name, &json!(2_147_483_648u32), "invalid_value", "between -1 and 2147483647");
            refused(name, &json!(1.5), "invalid_value", "an integer");
            refused(name, &json!([]), "invalid_type", "an integer");
        }
        refused("dry_allowed_length", &json!(-1), "invalid_value", "between 0 and 2147483647");
        refused("mirostat", &json!(1), "unsupported_parameter", "version 1");
        refused("mirostat", &json!(3), "invalid_value", "between 0 and 2");
        refused("mirostat", &json!(true), "invalid_type", "an integer");
        refused("post_sampling_probs", &json!(1), "invalid_type", "a boolean");
        refused("dry_sequence_breakers", &json!("\n"), "invalid_type", "an array of strings");
        refused("dry_sequence_breakers", &json!(["a"].repeat(33)), "invalid_value", "at most 32");
        let breaker = |value: Value| parse(json!({"dry_sequence_breakers": ["a", value]})).unwrap_err();
        for (value, code) in
            [(json!(""), "invalid_value"), (json!("é".repeat(21)), "invalid_value"), (json!(5), "invalid_type")]
        {
            let error = breaker(value);
            assert_eq!((error.param.as_deref(), error.code), (Some("dry_sequence_breakers[1]"), Some(code)));
        }
    }
}
