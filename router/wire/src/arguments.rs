//! What a tool is given, in APIs that have it as an object.

use serde_json::{Value, json};

/// What a tool is given, as an object; text that is no object is kept in one.
#[must_use]
pub fn arguments_object(text: &str) -> Value {
    if text.trim().is_empty() {
        return json!({});
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => Value::Object(map),
        _ => json!({"arguments": text}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_an_object() {
        assert_eq!(arguments_object(""), json!({}));
        assert_eq!(arguments_object(r#"{"x": 1}"#), json!({"x": 1}));
        assert_eq!(arguments_object("[1"), json!({"arguments": "[1"}));
    }
}
