//! Schemas as they stand in a grammar.

use serde_json::{Map, Value, json};

/// White space between the parts of JSON: one space, or a new line and its indentation, as for answers that are JSON
/// as a whole. Unbounded, a small model that has lost its way writes white space until its tokens are used up.
const WHITE_SPACE: &str = r"\x20|\n\x20{0,20}";

/// Keywords beside which the properties of an object are not all that it may have.
const OPEN: &[&str] = &[
    "additionalProperties",
    "patternProperties",
    "propertyNames",
    "unevaluatedProperties",
    "dependentSchemas",
    "minProperties",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "$ref",
];

/// A JSON value that this schema accepts, as a part of a grammar.
pub(crate) fn json_of(schema: &Value) -> String {
    let mut schema = schema.clone();
    if let Value::Object(map) = &mut schema {
        // A client's own options, under this name, are replaced.
        map.insert("x-guidance".to_owned(), json!({"whitespace_pattern": WHITE_SPACE}));
    }
    format!("%json {schema}")
}

/// What a tool is given: an object of its schema. Where the schema lists properties and says nothing of others, there
/// are no others: a small model would invent some until its tokens are used up.
pub(crate) fn arguments_of(schema: &Value) -> String {
    let mut schema = closed(schema);
    if let Value::Object(map) = &mut schema {
        map.entry("type").or_insert_with(|| json!("object"));
    }
    json_of(&schema)
}

/// A schema whose objects have no properties but those that it lists, where it lists any. What it accepts, the one that
/// it is made of accepts, too.
#[must_use]
pub fn closed(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if !joins(&schema) {
        close(&mut schema);
    }
    schema
}

/// Whether an object is described in several places, which would close it to each other's properties.
fn joins(value: &Value) -> bool {
    match value {
        Value::Array(values) => values.iter().any(joins),
        Value::Object(map) => {
            let has = |key: &str| map.contains_key(key);
            let elsewhere = has("allOf") || has("dependentSchemas") || has("if");
            elsewhere || has("properties") && (has("$ref") || has("anyOf") || has("oneOf")) || map.values().any(joins)
        }
        _ => false,
    }
}

/// Closes a schema's objects to properties that it does not name.
fn close(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    for (key, value) in map.iter_mut() {
        match (key.as_str(), value) {
            ("properties" | "$defs" | "definitions", Value::Object(schemas)) => schemas.values_mut().for_each(close),
            ("items", value @ Value::Object(_)) => close(value),
            ("anyOf" | "prefixItems", Value::Array(schemas)) => schemas.iter_mut().for_each(close),
            _ => {}
        }
    }
    if names_all(map) {
        map.insert("additionalProperties".to_owned(), json!(false));
    }
}

/// Whether an object names all properties that it must have and says nothing of others.
fn names_all(map: &Map<String, Value>) -> bool {
    let Some(Value::Object(properties)) = map.get("properties") else { return false };
    let required = map.get("required").and_then(Value::as_array).into_iter().flatten();
    let mut names = required.filter_map(Value::as_str);
    !OPEN.iter().any(|key| map.contains_key(*key)) && names.all(|name| properties.contains_key(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_that_list_properties_have_no_others() {
        let inner = json!({"properties": {"x": {"type": "string"}}});
        let nested =
            closed(&json!({"properties": {"a": inner}, "items": inner, "$defs": {"d": inner}, "required": ["a"]}));
        let wanted = json!({"properties": {"x": {"type": "string"}}, "additionalProperties": false});
        for place in ["/properties/a", "/items", "/$defs/d"] {
            assert_eq!(nested.pointer(place), Some(&wanted), "{place}");
        }
        assert_eq!(nested["additionalProperties"], false);
        for open in [
            json!({"type": "object"}),
            json!({"properties": {}, "additionalProperties": true}),
            json!({"properties": {"a": {}}, "required": ["b"]}),
            json!({"properties": {"a": {}}, "patternProperties": {"^x": {}}}),
        ] {
            assert_eq!(closed(&open), open);
        }
    }

    #[test]
    fn arguments_are_objects() {
        let parts = arguments_of(&json!({"allOf": [{"properties": {"a": {}}}]}));
        assert!(
            parts.starts_with("%json {\"allOf\":[{\"properties\":{\"a\":{}}}],\"type\":\"object\",\"x-guidance\":"),
            "{parts}"
        );
    }
}
