//! Takes a JSON object apart, field by field, with errors that name the field.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

/// A request that cannot be honoured: always a 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct WireError {
    /// For the client's developer.
    pub message: String,
    /// The field, as a path.
    pub param: Option<String>,
    /// OpenAI's word for what is wrong.
    pub code: Option<&'static str>,
}

impl WireError {
    pub(crate) fn new(param: &str, code: &'static str, message: impl Into<String>) -> Self {
        Self { message: message.into(), param: Some(param.to_owned()), code: Some(code) }
    }

    pub(crate) fn wrong_type(param: &str, wanted: &str, found: &Value) -> Self {
        Self::new(param, "invalid_type", format!("`{param}` must be {wanted}, not {}", kind(found)))
    }

    pub(crate) fn out_of_range(param: &str, wanted: &str) -> Self {
        Self::new(param, "invalid_value", format!("`{param}` must be {wanted}"))
    }

    pub(crate) fn unsupported(param: &str, why: &str) -> Self {
        Self::new(param, "unsupported_parameter", format!("`{param}` is not supported yet{why}"))
    }

    pub(crate) fn missing(param: &str) -> Self {
        Self::new(param, "missing_required_parameter", format!("`{param}` is required"))
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A whole number, also where it is written as `1.0`: JSON has one kind of numbers.
pub(crate) fn whole(value: &Value) -> Option<i64> {
    /// Beyond this not every whole number has a place among floats.
    const FLOAT_MAX: f64 = 9_007_199_254_740_992.0;
    value.as_i64().or_else(|| {
        let number = value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() <= FLOAT_MAX)?;
        #[allow(clippy::cast_possible_truncation, reason = "it is whole, and far within an i64")]
        Some(number as i64)
    })
}

/// A body as a JSON object.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, WireError> {
    let plain = |message: String| WireError { message, param: None, code: Some("invalid_json") };
    let value: Value =
        serde_json::from_slice(bytes).map_err(|error| plain(format!("the body is no valid JSON: {error}")))?;
    match value {
        Value::Object(body) => Ok(body),
        other => Err(plain(format!("the body must be a JSON object, not {}", kind(&other)))),
    }
}

/// A request body of which only the model is known; enough to decide where it goes.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// The model asked for.
    pub model: String,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// The whole body.
    pub body: Map<String, Value>,
}

impl Envelope {
    /// Reads a body as far as any server must understand it.
    ///
    /// # Errors
    /// [`WireError`] when it is no JSON object or names no model.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        Self::of(object(bytes)?)
    }

    /// The same of a body that is an object already.
    ///
    /// # Errors
    /// [`WireError`] when it names no model.
    pub fn of(body: Map<String, Value>) -> Result<Self, WireError> {
        let model = match body.get("model") {
            Some(Value::String(model)) => model.clone(),
            Some(Value::Null) | None => return Err(WireError::missing("model")),
            Some(other) => return Err(WireError::wrong_type("model", "a string", other)),
        };
        let stream = match body.get("stream") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(stream)) => *stream,
            Some(other) => return Err(WireError::wrong_type("stream", "a boolean", other)),
        };
        Ok(Self { model, stream, body })
    }
}

/// The fields of a request, or of an object in it, that were not looked at yet. `null` is the same as absent.
pub(crate) struct Fields {
    map: Map<String, Value>,
    /// Where in the request; empty at its top.
    path: String,
}

impl Fields {
    /// The fields of a whole request.
    pub(crate) fn new(map: Map<String, Value>) -> Self {
        Self { map, path: String::new() }
    }

    /// The fields of an object within a request.
    pub(crate) fn of(path: &str, value: Value) -> Result<Self, WireError> {
        match value {
            Value::Object(map) => Ok(Self { map, path: path.to_owned() }),
            other => Err(WireError::wrong_type(path, "an object", &other)),
        }
    }

    /// The same, as those of a whole request.
    pub(crate) fn at_top(self) -> Self {
        Self { path: String::new(), ..self }
    }

    /// What was not looked at yet, as fields of their own.
    pub(crate) fn rest(&mut self) -> Self {
        Self { map: std::mem::take(&mut self.map), path: self.path.clone() }
    }

    /// The path of a field.
    pub(crate) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    pub(crate) fn error(&self, name: &str, code: &'static str, message: impl Into<String>) -> WireError {
        WireError::new(&self.path_of(name), code, message)
    }

    pub(crate) fn missing(&self, name: &str) -> WireError {
        WireError::missing(&self.path_of(name))
    }

    pub(crate) fn wrong_type(&self, name: &str, wanted: &str, found: &Value) -> WireError {
        WireError::wrong_type(&self.path_of(name), wanted, found)
    }

    pub(crate) fn out_of_range(&self, name: &str, wanted: &str) -> WireError {
        WireError::out_of_range(&self.path_of(name), wanted)
    }

    pub(crate) fn unsupported(&self, name: &str, why: &str) -> WireError {
        WireError::unsupported(&self.path_of(name), why)
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        #[cfg(test)]
        asked::note(&self.path_of(name));
        self.map.shift_remove(name).filter(|value| !value.is_null())
    }

    /// Puts a field back, or in.
    pub(crate) fn put(&mut self, name: &str, value: Value) {
        self.map.insert(name.to_owned(), value);
    }

    /// Looks at a field that is yet to be taken.
    pub(crate) fn peek(&self, name: &str) -> Option<&Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn required(&mut self, name: &str) -> Result<Value, WireError> {
        self.take(name).ok_or_else(|| self.missing(name))
    }

    pub(crate) fn number(&mut self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, WireError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.as_f64().filter(|_| value.is_number());
        let number = number.ok_or_else(|| self.wrong_type(name, "a number", &value))?;
        if range.contains(&number) {
            Ok(Some(number))
        } else {
            let wanted = format!("between {} and {}", range.start(), range.end());
            Err(self.out_of_range(name, &wanted))
        }
    }

    pub(crate) fn integer(&mut self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, WireError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        if !value.is_number() {
            return Err(self.wrong_type(name, "an integer", &value));
        }
        let wanted = format!("an integer between {} and {}", range.start(), range.end());
        let number = whole(&value).filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| self.out_of_range(name, &wanted))
    }

    /// An integer that fits 32 bits without a sign.
    pub(crate) fn count(&mut self, name: &str, range: RangeInclusive<u32>) -> Result<Option<u32>, WireError> {
        let number = self.integer(name, i64::from(*range.start())..=i64::from(*range.end()))?;
        Ok(number.map(|number| u32::try_from(number).expect("it is in a range of 32-bit numbers")))
    }

    pub(crate) fn boolean(&mut self, name: &str) -> Result<Option<bool>, WireError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(self.wrong_type(name, "a boolean", &other)),
        }
    }

    pub(crate) fn string(&mut self, name: &str) -> Result<Option<String>, WireError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(value)) => Ok(Some(value)),
            Some(other) => Err(self.wrong_type(name, "a string", &other)),
        }
    }

    pub(crate) fn required_string(&mut self, name: &str) -> Result<String, WireError> {
        self.string(name)?.ok_or_else(|| self.missing(name))
    }

    /// Accepts a field that is not honoured, when its value asks for nothing.
    pub(crate) fn only(&mut self, name: &str, asks_for_nothing: impl Fn(&Value) -> bool) -> Result<(), WireError> {
        match self.take(name) {
            Some(value) if !asks_for_nothing(&value) => Err(self.unsupported(name, "")),
            _ => Ok(()),
        }
    }

    /// Refuses what nobody asked for.
    pub(crate) fn finish(self, known_unsupported: &[&str]) -> Result<(), WireError> {
        let Some((name, _)) = self.map.iter().find(|(_, value)| !value.is_null()) else { return Ok(()) };
        Err(if known_unsupported.contains(&name.as_str()) {
            self.unsupported(name, "")
        } else {
            let path = self.path_of(name);
            WireError::new(&path, "unknown_parameter", format!("there is no parameter `{path}`"))
        })
    }
}

/// What parsers looked for, for a test that holds it beside the API's description.
#[cfg(test)]
pub(crate) mod asked {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    thread_local!(static NAMES: RefCell<BTreeSet<String>> = RefCell::default());

    pub(super) fn note(path: &str) {
        let mut name = String::new();
        for part in path.split_inclusive(']') {
            name += part.split_once('[').map_or(part, |(before, _)| before);
            name += if part.ends_with(']') { "[]" } else { "" };
        }
        NAMES.with_borrow_mut(|names| names.insert(name));
    }

    /// All names since the last call, with `[]` for any place of a list.
    pub(crate) fn take() -> BTreeSet<String> {
        NAMES.take()
    }
}
