//! `POST /v1/batches`, and the lines of a batch's input.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::chat::metadata;
use crate::fields::{Envelope, Fields, WireError, object};

/// The longest time that a batch may take.
const WINDOW_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long what a batch gave may be kept, in seconds, as OpenAI's API has it: an hour to 30 days.
pub(crate) const KEPT_S: std::ops::RangeInclusive<i64> = 3600..=2_592_000;
/// Characters of a line's own name.
const CUSTOM_ID_CHARS_MAX: usize = 512;
/// Characters of an id, as a client sends it.
pub(crate) const ID_CHARS_MAX: usize = 128;

/// What the lines of a batch ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchEndpoint {
    /// Chat completions.
    Chat,
    /// Completions.
    Completions,
    /// Responses.
    Responses,
}

impl BatchEndpoint {
    /// All of them, by their paths.
    pub const ALL: [(&'static str, Self); 3] = [
        ("/v1/chat/completions", Self::Chat),
        ("/v1/completions", Self::Completions),
        ("/v1/responses", Self::Responses),
    ];

    /// The one of a path.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == path).map(|(_, endpoint)| *endpoint)
    }

    /// Its path.
    #[must_use]
    pub fn path(self) -> &'static str {
        Self::ALL.iter().find(|(_, endpoint)| *endpoint == self).map_or("", |(path, _)| path)
    }
}

/// A validated request for a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchRequest {
    /// The file with its lines.
    pub input_file_id: String,
    /// What they ask.
    pub endpoint: BatchEndpoint,
    /// How long it may take, in the client's words: `24h`.
    pub completion_window: String,
    /// The same as a time.
    pub window: Duration,
    /// How long what it gives is kept, in seconds.
    pub kept_s: Option<i64>,
    /// The client's own words about it.
    pub metadata: Map<String, Value>,
}

impl BatchRequest {
    /// Validates a request.
    ///
    /// # Errors
    /// [`WireError`] naming the field that cannot be honoured.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::new(object(bytes)?);
        let input_file_id = fields.required_string("input_file_id")?;
        if input_file_id.is_empty() || input_file_id.chars().count() > ID_CHARS_MAX {
            return Err(fields.out_of_range("input_file_id", &format!("1 to {ID_CHARS_MAX} characters long")));
        }
        let endpoint = BatchEndpoint::of_path(&fields.required_string("endpoint")?);
        let paths = BatchEndpoint::ALL.map(|(path, _)| path).join(" or ");
        let endpoint = endpoint.ok_or_else(|| fields.out_of_range("endpoint", &paths))?;
        let completion_window = fields.required_string("completion_window")?;
        let window = duration(&completion_window).filter(|window| *window <= WINDOW_MAX);
        let window =
            window.ok_or_else(|| fields.out_of_range("completion_window", "24h, or less, as in 90m or 30s"))?;
        let kept_s = match fields.take("output_expires_after") {
            None => None,
            Some(value) => Some(expires_after(Fields::of("output_expires_after", value)?)?),
        };
        let metadata = metadata(&mut fields)?;
        fields.finish(&[])?;
        Ok(Self { input_file_id, endpoint, completion_window, window, kept_s, metadata })
    }
}

fn duration(text: &str) -> Option<Duration> {
    let (number, unit_s) = [("h", 3600), ("m", 60), ("s", 1)]
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))?;
    // A number as people write it: no sign, and no zero before it.
    let number: u64 = number.parse::<u32>().ok().filter(|read| *read > 0 && read.to_string() == number)?.into();
    Some(Duration::from_secs(number * unit_s))
}

fn expires_after(mut fields: Fields) -> Result<i64, WireError> {
    if fields.required_string("anchor")? != "created_at" {
        return Err(fields.out_of_range("anchor", "created_at"));
    }
    let seconds = fields.integer("seconds", KEPT_S)?.ok_or_else(|| fields.missing("seconds"))?;
    fields.finish(&[])?;
    Ok(seconds)
}

/// Checks how long a file is to be kept, as the fields of a form say it.
///
/// # Errors
/// [`WireError`] naming the field that cannot be honoured.
pub fn file_expiry(anchor: Option<&str>, seconds: Option<&str>) -> Result<Option<i64>, WireError> {
    if anchor.is_none() && seconds.is_none() {
        return Ok(None);
    }
    let mut map = Map::new();
    map.insert("anchor".into(), anchor.map_or(Value::Null, Value::from));
    let number = seconds.map(|seconds| seconds.parse::<i64>().map_or_else(|_| Value::from(seconds), Value::from));
    map.insert("seconds".into(), number.unwrap_or_default());
    expires_after(Fields::of("expires_after", Value::Object(map))?).map(Some)
}

/// A line of a batch's input.
#[derive(Debug, Clone)]
pub struct BatchLine {
    /// The client's name for it.
    pub custom_id: String,
    /// What it asks, read no further.
    pub body: Map<String, Value>,
}

impl BatchLine {
    /// Validates a line, but for what it asks.
    ///
    /// # Errors
    /// [`WireError`] naming the field that cannot be honoured.
    pub fn parse(bytes: &[u8], endpoint: BatchEndpoint) -> Result<Self, WireError> {
        let mut fields = Fields::new(object(bytes)?);
        let custom_id = fields.required_string("custom_id")?;
        if custom_id.is_empty() || custom_id.chars().count() > CUSTOM_ID_CHARS_MAX {
            return Err(fields.out_of_range("custom_id", &format!("1 to {CUSTOM_ID_CHARS_MAX} characters long")));
        }
        if fields.required_string("method")? != "POST" {
            return Err(fields.out_of_range("method", "POST"));
        }
        if fields.required_string("url")? != endpoint.path() {
            return Err(fields.out_of_range("url", &format!("that of the batch, {}", endpoint.path())));
        }
        let body = match fields.required("body")? {
            Value::Object(body) => body,
            other => return Err(fields.wrong_type("body", "an object", &other)),
        };
        fields.finish(&[])?;
        Ok(Self { custom_id, body })
    }

    /// What it asks, read as far as its model.
    ///
    /// # Errors
    /// [`WireError`] where it names none, or asks for what a batch cannot give.
    pub fn envelope(self) -> Result<Envelope, WireError> {
        for name in ["stream", "background"] {
            if self.body.get(name).is_some_and(|value| *value == true) {
                return Err(WireError::new(name, "invalid_value", format!("`{name}` must be false in a batch")));
            }
        }
        Envelope::of(self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_is_read() {
        let mut body = json!({"input_file_id": "f", "endpoint": "/v1/responses", "completion_window": "24h",
            "metadata": {"a": "b"}, "output_expires_after": {"anchor": "created_at", "seconds": 3600}});
        let request = BatchRequest::parse(body.to_string().as_bytes()).unwrap();
        assert_eq!(
            (request.endpoint, request.window, request.kept_s),
            (BatchEndpoint::Responses, WINDOW_MAX, Some(3600))
        );
        for (name, value) in [
            ("endpoint", json!("/v1/moderations")),
            ("completion_window", json!("25h")),
            ("completion_window", json!("0s")),
            ("completion_window", json!("soon")),
            ("completion_window", json!("+5m")),
            ("completion_window", json!("05m")),
            ("input_file_id", json!("")),
            ("speed", json!(1)),
        ] {
            let before = body.clone();
            body[name] = value;
            let error = BatchRequest::parse(body.to_string().as_bytes()).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(name));
            body = before;
        }
    }

    #[test]
    fn a_line_is_read_as_far_as_its_body() {
        let line = |line: Value| BatchLine::parse(line.to_string().as_bytes(), BatchEndpoint::Chat);
        let good = json!({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m"}});
        assert_eq!(line(good.clone()).unwrap().envelope().unwrap().model, "m");
        for (name, value) in [
            ("custom_id", json!("")),
            ("custom_id", json!(5)),
            ("method", json!("GET")),
            ("url", json!("/v1/responses")),
            ("body", json!([])),
            ("more", json!(1)),
        ] {
            let mut bad = good.clone();
            bad[name] = value;
            assert_eq!(line(bad).unwrap_err().param.as_deref(), Some(name));
        }
        let mut streamed = good;
        streamed["body"]["stream"] = json!(true);
        assert_eq!(line(streamed).unwrap().envelope().unwrap_err().param.as_deref(), Some("stream"));
    }
}
