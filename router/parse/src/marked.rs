//! Calls whose arguments are marked up one by one, as rules of a grammar.

use allerac_wire::Tool;
use serde_json::{Map, Value};

use crate::grammar::{Writer, quoted};
use crate::kinds::Kinds;
use crate::markup::Marks;
use crate::schema::{closed, json_of};

/// Keywords by which a tool's schema says more than what each of its parameters is.
const BEYOND: &[&str] = &[
    "$ref",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "const",
    "enum",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "minProperties",
    "maxProperties",
    "patternProperties",
    "propertyNames",
    "unevaluatedProperties",
];
/// Keywords of strings to which text cannot be held while its end is looked for.
const OF_STRINGS: &[&str] = &["pattern", "minLength", "maxLength", "format", "not", "$ref", "allOf", "anyOf", "oneOf"];

/// One call of a tool; `None` where its schema asks for what only JSON can be held to.
pub(crate) fn call(marks: &'static Marks, tool: &Tool, writer: &mut Writer) -> Option<String> {
    let schema = closed(&tool.parameters);
    let Value::Object(root) = &schema else { return None };
    let Some(Value::Object(properties)) = root.get("properties") else { return None };
    let required: Vec<&str> =
        root.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let is_beyond = BEYOND.iter().any(|key| root.contains_key(*key))
        || required.iter().any(|name| !properties.contains_key(*name))
        || refers_elsewhere(&schema);
    if is_beyond {
        return None;
    }
    let mut rule = quoted(&format!("{}{}{}", marks.tool, tool.name, marks.named));
    if marks.lines {
        rule += r#" "\n""#;
    }
    for (name, property) in properties {
        let part = parameter(marks, name, property, root, writer)?;
        let part = writer.rule(&part);
        rule += &if required.contains(&name.as_str()) { format!(" {part}") } else { format!(" {part}?") };
    }
    if !marks.end.is_empty() {
        rule += &format!(" {}", quoted(marks.end));
    }
    Some(rule)
}

/// A parameter with its value.
fn parameter(
    marks: &'static Marks,
    name: &str,
    property: &Value,
    root: &Map<String, Value>,
    writer: &mut Writer,
) -> Option<String> {
    if name.trim() != name || name.contains(['<', '>', '\n']) {
        return None;
    }
    let ((key, named), (before, after)) = (marks.key, marks.value);
    let head = if marks.lines {
        quoted(&format!("{key}{name}{named}\n"))
    } else {
        let [key, named, before] = [key, named, before].map(|word| writer.word(word));
        format!(r#"{key} {} {named} "\n" {before}"#, quoted(name))
    };
    let value = value(property, root, writer)?;
    let value = match value {
        Some(value) if marks.lines => format!(r#"{value} "\n" {}"#, writer.word(after)),
        Some(value) => format!("{value} {}", writer.word(after)),
        None => writer.until(after),
    };
    Some(format!(r#"{head} {value} "\n""#))
}

/// A parameter's value, `Some(None)` for any text; `None` where text cannot be held to what its schema asks for.
#[allow(clippy::option_option, reason = "each level means something else")]
fn value(property: &Value, root: &Map<String, Value>, writer: &mut Writer) -> Option<Option<String>> {
    if !Kinds::of(property, &Value::Object(root.clone())).is_string() {
        let mut property = property.clone();
        for key in ["$defs", "definitions"] {
            if let (Value::Object(map), Some(found)) = (&mut property, root.get(key)) {
                map.entry(key).or_insert_with(|| found.clone());
            }
        }
        return Some(Some(writer.rule(&json_of(&property))));
    }
    let map = property.as_object()?;
    let choices = match (map.get("const"), map.get("enum")) {
        (Some(value), _) => std::slice::from_ref(value),
        (None, Some(Value::Array(values))) => values.as_slice(),
        _ if OF_STRINGS.iter().any(|key| map.contains_key(*key)) => return None,
        _ => return Some(None),
    };
    let choices: Vec<&str> = choices.iter().filter_map(Value::as_str).collect();
    let is_plain = |choice: &&str| !choice.contains('<') && choice.trim() == *choice;
    if !choices.iter().all(is_plain) {
        return None;
    }
    let choices: Vec<String> = choices.into_iter().map(quoted).collect();
    Some(Some(format!("({})", choices.join(" | "))))
}

/// Whether a schema refers to something that does not go along with a part of it.
fn refers_elsewhere(value: &Value) -> bool {
    match value {
        Value::Array(values) => values.iter().any(refers_elsewhere),
        Value::Object(map) => {
            let target = map.get("$ref").and_then(Value::as_str);
            target.is_some_and(|target| !target.starts_with("#/$defs/") && !target.starts_with("#/definitions/"))
                || map.values().any(refers_elsewhere)
        }
        _ => false,
    }
}
