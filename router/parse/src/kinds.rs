//! What kinds of values a schema takes, for dialects that write some values as text and others as JSON.

use serde_json::Value;

/// References that are followed one after the other; more are a circle.
const REFERENCES_MAX: usize = 8;

/// Kinds of JSON values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kinds(u8);

impl Kinds {
    const NONE: Self = Self(0);
    const ANY: Self = Self(0b11_1111);
    const STRING: Self = Self(1);

    /// What a schema takes; `root` is what its references are in.
    pub(crate) fn of(schema: &Value, root: &Value) -> Self {
        Self::within(schema, root, REFERENCES_MAX)
    }

    fn within(schema: &Value, root: &Value, references: usize) -> Self {
        let Value::Object(map) = schema else { return Self::ANY };
        if let Some(target) = map.get("$ref").and_then(Value::as_str) {
            let found = target.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
            return match found {
                Some(found) if references > 0 => Self::within(found, root, references - 1),
                _ => Self::ANY,
            };
        }
        if let Some(value) = map.get("const") {
            return Self::of_value(value);
        }
        if let Some(Value::Array(values)) = map.get("enum") {
            return values.iter().map(Self::of_value).fold(Self::NONE, Self::or);
        }
        match map.get("type") {
            Some(Value::String(word)) => return Self::of_word(word),
            Some(Value::Array(words)) => {
                return words.iter().filter_map(Value::as_str).map(Self::of_word).fold(Self::NONE, Self::or);
            }
            _ => {}
        }
        let parts = ["anyOf", "oneOf", "allOf"].iter().find_map(|key| map.get(*key).and_then(Value::as_array));
        parts.map_or(Self::ANY, |parts| {
            parts.iter().map(|part| Self::within(part, root, references)).fold(Self::NONE, Self::or)
        })
    }

    fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn of_word(word: &str) -> Self {
        match word {
            "string" => Self::STRING,
            "number" | "integer" => Self(2),
            "boolean" => Self(4),
            "null" => Self(8),
            "object" => Self(16),
            "array" => Self(32),
            _ => Self::ANY,
        }
    }

    /// The kind of a value.
    pub(crate) fn of_value(value: &Value) -> Self {
        Self::of_word(match value {
            Value::String(_) => "string",
            Value::Number(_) => "number",
            Value::Bool(_) => "boolean",
            Value::Null => "null",
            Value::Object(_) => "object",
            Value::Array(_) => "array",
        })
    }

    /// Whether all of another's values are among these.
    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether strings are all there is.
    pub(crate) fn is_string(self) -> bool {
        self == Self::STRING
    }

    /// Whether there are strings.
    pub(crate) fn has_string(self) -> bool {
        self.has(Self::STRING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_schema_tells_what_it_takes() {
        let root = json!({"$defs": {"name": {"type": "string"}, "loop": {"$ref": "#/$defs/loop"}}});
        let of = |schema: Value| Kinds::of(&schema, &root);
        assert!(of(json!({"type": "string", "minLength": 1})).is_string());
        assert!(of(json!({"enum": ["a", "b"]})).is_string());
        assert!(of(json!({"$ref": "#/$defs/name"})).is_string());
        assert!(of(json!({"anyOf": [{"type": "string"}, {"const": "x"}]})).is_string());
        let optional = of(json!({"type": ["string", "null"]}));
        assert!(optional.has_string() && !optional.is_string());
        assert!(optional.has(Kinds::of_value(&Value::Null)) && !optional.has(Kinds::of_value(&json!(1))));
        assert!(!of(json!({"type": "integer"})).has_string());
        for any in [json!({}), json!(true), json!({"$ref": "#/$defs/loop"}), json!({"$ref": "#/nowhere"})] {
            assert_eq!(of(any.clone()), Kinds::ANY, "{any}");
        }
    }
}
