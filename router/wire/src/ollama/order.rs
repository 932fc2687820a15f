//! What is ordered about models: to fetch one, to give one another name.

use serde_json::Value;

use crate::fields::{Fields, WireError};

/// `POST /api/pull`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullOrder {
    /// The model wanted.
    pub name: String,
    /// Whether the client hears how far it is.
    pub stream: bool,
    /// Whether its licence is accepted, where that asks for it. Ollama's clients have no such field.
    pub accept_licence: bool,
}

/// `POST /api/copy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOrder {
    /// A model that is here.
    pub source: String,
    /// The name that it gets as well.
    pub destination: String,
}

impl PullOrder {
    /// Reads an order.
    ///
    /// # Errors
    /// [`WireError`] naming the field that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut fields = fields(bytes)?;
        let name = name(&mut fields)?;
        let stream = fields.boolean("stream")?.unwrap_or(true);
        // Where the box fetches from, and with whose account, is for the box.
        fields.boolean("insecure")?;
        fields.string("username")?;
        fields.string("password")?;
        let accept_licence = fields.boolean("accept_licence")?.unwrap_or(false);
        fields.finish(&[])?;
        Ok(Self { name, stream, accept_licence })
    }
}

impl CopyOrder {
    /// Reads an order.
    ///
    /// # Errors
    /// [`WireError`] naming the field that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut fields = fields(bytes)?;
        let order =
            Self { source: fields.required_string("source")?, destination: fields.required_string("destination")? };
        fields.finish(&[])?;
        Ok(order)
    }
}

/// The fields of a body.
pub(super) fn fields(bytes: &[u8]) -> Result<Fields, WireError> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| WireError {
        message: format!("the body is no valid JSON: {error}"),
        param: None,
        code: Some("invalid_json"),
    })?;
    Ok(Fields::of("body", value)?.at_top())
}

/// The name of the model; older clients call it `name`.
pub(super) fn name(fields: &mut Fields) -> Result<String, WireError> {
    let (model, name) = (fields.string("model")?, fields.string("name")?);
    // Clients that know both names send the other one empty.
    let named = |name: Option<String>| name.filter(|name| !name.is_empty());
    named(model).or_else(|| named(name)).ok_or_else(|| WireError::missing("model"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_and_what_is_wrong_is_named() {
        let pull = |body: &str| PullOrder::parse(body.as_bytes());
        let order = PullOrder { name: "m".into(), stream: true, accept_licence: false };
        assert_eq!(pull(r#"{"name": "m", "insecure": true}"#), Ok(order.clone()));
        assert_eq!(pull(r#"{"model": "m", "stream": false}"#), Ok(PullOrder { stream: false, ..order }));
        assert_eq!(pull(r#"{"model": "m", "stream": 1}"#).unwrap_err().param.as_deref(), Some("stream"));
        assert_eq!(pull("{}").unwrap_err().param.as_deref(), Some("model"));
        let copy = |body: &str| CopyOrder::parse(body.as_bytes());
        let order = CopyOrder { source: "a".into(), destination: "b".into() };
        assert_eq!(copy(r#"{"source": "a", "destination": "b"}"#), Ok(order));
        assert_eq!(copy(r#"{"source": "a"}"#).unwrap_err().param.as_deref(), Some("destination"));
        assert_eq!(copy(r#"{"source": "a", "destination": "b", "x": 1}"#).unwrap_err().param.as_deref(), Some("x"));
        assert_eq!(copy("[").unwrap_err().code, Some("invalid_json"));
    }
}
