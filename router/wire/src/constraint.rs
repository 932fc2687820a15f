//! What an answer must be: OpenAI's `response_format`, llama-server's `grammar`, vLLM's `structured_outputs` and
//! the older names of what is in it.

use serde_json::Value;

use crate::fields::{Fields, WireError};

/// Bytes of a JSON schema, as text. Schemas of whole industries are larger; those of a request are a few kilobytes.
pub(crate) const SCHEMA_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a grammar.
pub(crate) const GRAMMAR_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a regular expression.
pub(crate) const REGEX_BYTES_MAX: usize = 8 * 1024;
/// Strings to choose from.
pub(crate) const CHOICES_MAX: usize = 1024;
/// Bytes of all of them together.
const CHOICES_BYTES_MAX: usize = 64 * 1024;
/// Characters of a schema's name, as OpenAI's API has it.
pub(crate) const NAME_CHARS_MAX: usize = 64;

/// What a grammar in llguidance's variant of Lark begins with, as llama-server has it.
const LARK_MARK: &str = "%llguidance";

/// What an answer must be.
#[derive(Debug, Clone, PartialEq)]
pub struct Constraint {
    /// The field that says so, as a path.
    pub param: String,
    /// What it says.
    pub form: Form,
}

/// The forms that an answer may have to have.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// Any JSON object.
    JsonObject,
    /// A JSON value that this schema, as JSON text, accepts.
    JsonSchema(String),
    /// Text that this regular expression matches as a whole.
    Regex(String),
    /// One of these strings.
    Choice(Vec<String>),
    /// Text of this grammar in llama.cpp's notation.
    Gbnf(String),
    /// Text of this grammar in llguidance's variant of Lark.
    Lark(String),
}

impl Constraint {
    /// Takes the one constraint that a request has; two are refused.
    pub(crate) fn take(fields: &mut Fields) -> Result<Option<Self>, WireError> {
        let mut found = match fields.take("response_format") {
            Some(value) => response_format(value)?,
            None => None,
        };
        let mut add = |constraint: Option<Self>| match (&found, constraint) {
            (_, None) => Ok(()),
            (Some(first), Some(second)) => Err(two(&first.param, &second.param)),
            (None, constraint) => {
                found = constraint;
                Ok(())
            }
        };
        if let Some(value) = fields.take("structured_outputs") {
            add(structured_outputs(value)?)?;
        }
        for (name, read) in FLAT {
            if let Some(value) = fields.take(name) {
                add(Some(Self { param: (*name).to_owned(), form: read(name, value)? }))?;
            }
        }
        Ok(found)
    }
}

/// Reads the value of a field.
type Read = fn(&str, Value) -> Result<Form, WireError>;

/// Fields that are a constraint by themselves.
const FLAT: &[(&str, Read)] = &[
    ("grammar", grammar),
    ("guided_json", schema_text),
    ("guided_regex", regex),
    ("guided_choice", choice),
    ("guided_grammar", grammar),
];

/// Fields of `structured_outputs`.
const STRUCTURED: &[(&str, Read)] =
    &[("json", schema_text), ("regex", regex), ("choice", choice), ("grammar", grammar)];

fn two(first: &str, second: &str) -> WireError {
    let message = format!("`{first}` and `{second}` both say what the answer must be; send one of them");
    WireError::new(second, "invalid_value", message)
}

fn response_format(value: Value) -> Result<Option<Constraint>, WireError> {
    const PARAM: &str = "response_format";
    let mut fields = Fields::of(PARAM, value)?;
    let constraint = match fields.required_string("type")?.as_str() {
        "text" => None,
        // llama-server's way to give a schema, and that of several hosted servers.
        "json_object" => Some(match fields.take("schema") {
            None => Constraint { param: PARAM.to_owned(), form: Form::JsonObject },
            Some(value) => {
                let param = fields.path_of("schema");
                Constraint { form: schema_text(&param, value)?, param }
            }
        }),
        "json_schema" => {
            let schema = fields.required("json_schema")?;
            Some(json_schema(Fields::of(&fields.path_of("json_schema"), schema)?)?)
        }
        _ => return Err(fields.out_of_range("type", "text, json_object or json_schema")),
    };
    fields.finish(&[])?;
    Ok(constraint)
}

/// A schema with its name, in the fields that OpenAI gives it.
pub(crate) fn json_schema(mut fields: Fields) -> Result<Constraint, WireError> {
    let name = fields.required_string("name")?;
    let is_name = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_');
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(is_name) {
        let wanted = format!("1 to {NAME_CHARS_MAX} letters, digits, dashes and underscores");
        return Err(fields.out_of_range("name", &wanted));
    }
    // For OpenAI's models a hint, and whether the schema binds at all; here it always does.
    fields.string("description")?;
    fields.boolean("strict")?;
    let param = fields.path_of("schema");
    let form = schema_text(&param, fields.required("schema")?)?;
    fields.finish(&[])?;
    Ok(Constraint { param, form })
}

fn structured_outputs(value: Value) -> Result<Option<Constraint>, WireError> {
    let mut fields = Fields::of("structured_outputs", value)?;
    let mut found: Option<Constraint> = None;
    for (name, read) in STRUCTURED {
        let Some(value) = fields.take(name) else { continue };
        let param = fields.path_of(name);
        if let Some(first) = &found {
            return Err(two(&first.param, &param));
        }
        found = Some(Constraint { form: read(&param, value)?, param });
    }
    fields.finish(&[])?;
    Ok(found)
}

/// A schema, or a schema as text.
pub(crate) fn schema_text(param: &str, value: Value) -> Result<Form, WireError> {
    let schema = match value {
        Value::String(text) => text,
        Value::Object(_) => value.to_string(),
        other => return Err(WireError::wrong_type(param, "an object", &other)),
    };
    bounded(param, schema, SCHEMA_BYTES_MAX).map(Form::JsonSchema)
}

fn regex(param: &str, value: Value) -> Result<Form, WireError> {
    bounded(param, text(param, value)?, REGEX_BYTES_MAX).map(Form::Regex)
}

fn grammar(param: &str, value: Value) -> Result<Form, WireError> {
    let grammar = bounded(param, text(param, value)?, GRAMMAR_BYTES_MAX)?;
    Ok(if grammar.starts_with(LARK_MARK) { Form::Lark(grammar) } else { Form::Gbnf(grammar) })
}

fn choice(param: &str, value: Value) -> Result<Form, WireError> {
    let Value::Array(values) = value else { return Err(WireError::wrong_type(param, "an array of strings", &value)) };
    if values.is_empty() || values.len() > CHOICES_MAX {
        return Err(WireError::out_of_range(param, &format!("1 to {CHOICES_MAX} strings")));
    }
    let choices = values.into_iter().map(|value| text(param, value)).collect::<Result<Vec<_>, _>>()?;
    if choices.iter().any(String::is_empty) {
        return Err(WireError::out_of_range(param, "strings that are not empty"));
    }
    if choices.iter().map(String::len).sum::<usize>() > CHOICES_BYTES_MAX {
        return Err(WireError::out_of_range(param, &format!("at most {CHOICES_BYTES_MAX} bytes in all")));
    }
    Ok(Form::Choice(choices))
}

fn text(param: &str, value: Value) -> Result<String, WireError> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(WireError::wrong_type(param, "a string", &other)),
    }
}

fn bounded(param: &str, text: String, bytes_max: usize) -> Result<String, WireError> {
    if text.trim().is_empty() {
        Err(WireError::out_of_range(param, "a string that is not empty"))
    } else if text.len() > bytes_max {
        Err(WireError::out_of_range(param, &format!("at most {bytes_max} bytes long")))
    } else {
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn take(body: Value) -> Result<Option<Constraint>, WireError> {
        let mut fields = Fields::of("", body)?;
        let constraint = Constraint::take(&mut fields)?;
        fields.finish(&[])?;
        Ok(constraint)
    }

    fn form(name: &str, value: &Value) -> Form {
        take(json!({name: value})).unwrap().unwrap().form
    }

    fn refused(body: Value, param: &str, code: &str) {
        let error = take(body).unwrap_err();
        assert_eq!((error.param.as_deref(), error.code), (Some(param), Some(code)), "{error}");
    }

    #[test]
    fn every_form_is_read() {
        let schema = json!({"type": "object", "properties": {"b": {}, "a": {}}});
        let text = schema.to_string();
        assert_eq!(take(json!({})).unwrap(), None);
        assert_eq!(take(json!({"response_format": {"type": "text"}})).unwrap(), None);
        assert_eq!(form("response_format", &json!({"type": "json_object"})), Form::JsonObject);
        let wrapped = json!({"name": "x-1", "schema": schema, "strict": true, "description": "d"});
        let strict =
            take(json!({"response_format": {"type": "json_schema", "json_schema": wrapped}})).unwrap().unwrap();
        assert_eq!(strict.param, "response_format.json_schema.schema");
        assert_eq!(strict.form, Form::JsonSchema(text.clone()));
        for value in [&schema, &json!(text)] {
            assert_eq!(form("guided_json", value), Form::JsonSchema(text.clone()));
        }
        assert_eq!(form("structured_outputs", &json!({"json": schema})), Form::JsonSchema(text));
        assert_eq!(form("structured_outputs", &json!({"regex": "a+"})), Form::Regex("a+".into()));
        assert_eq!(form("guided_regex", &json!("a+")), Form::Regex("a+".into()));
        assert_eq!(form("structured_outputs", &json!({"choice": ["a"]})), Form::Choice(vec!["a".into()]));
        assert_eq!(form("guided_choice", &json!(["a", "b"])), Form::Choice(vec!["a".into(), "b".into()]));
        assert_eq!(form("grammar", &json!("root ::= \"a\"")), Form::Gbnf("root ::= \"a\"".into()));
        assert_eq!(form("guided_grammar", &json!("root ::= \"a\"")), Form::Gbnf("root ::= \"a\"".into()));
        let lark = "%llguidance {}\nstart: \"a\"";
        assert_eq!(form("structured_outputs", &json!({"grammar": lark})), Form::Lark(lark.into()));
        assert_eq!(take(json!({"structured_outputs": {}})).unwrap(), None);
        assert_eq!(take(json!({"structured_outputs": {"json": null}, "grammar": null})).unwrap(), None);
    }

    #[test]
    fn what_is_no_constraint_is_refused_by_name() {
        let schema = |schema: Value| json!({"response_format": {"type": "json_schema", "json_schema": schema}});
        let (wrong, unknown, missing) = ("invalid_value", "unknown_parameter", "missing_required_parameter");
        refused(json!({"response_format": "json"}), "response_format", "invalid_type");
        refused(json!({"response_format": {}}), "response_format.type", missing);
        refused(json!({"response_format": {"type": "xml"}}), "response_format.type", wrong);
        refused(json!({"response_format": {"type": "text", "strict": true}}), "response_format.strict", unknown);
        refused(json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema", missing);
        refused(schema(json!({"schema": {}})), "response_format.json_schema.name", missing);
        refused(schema(json!({"name": "a b", "schema": {}})), "response_format.json_schema.name", wrong);
        refused(schema(json!({"name": "a"})), "response_format.json_schema.schema", missing);
        refused(schema(json!({"name": "a", "schema": []})), "response_format.json_schema.schema", "invalid_type");
        refused(schema(json!({"name": "a", "schema": {}, "x": 1})), "response_format.json_schema.x", unknown);
        let large = json!({"enum": ["x".repeat(SCHEMA_BYTES_MAX)]});
        refused(schema(json!({"name": "a", "schema": large})), "response_format.json_schema.schema", wrong);
        refused(json!({"grammar": 5}), "grammar", "invalid_type");
        refused(json!({"grammar": " \n"}), "grammar", wrong);
        refused(json!({"grammar": "x".repeat(GRAMMAR_BYTES_MAX + 1)}), "grammar", wrong);
        refused(json!({"guided_regex": "x".repeat(REGEX_BYTES_MAX + 1)}), "guided_regex", wrong);
        refused(json!({"guided_choice": []}), "guided_choice", wrong);
        refused(json!({"guided_choice": "a"}), "guided_choice", "invalid_type");
        refused(json!({"guided_choice": ["a", ""]}), "guided_choice", wrong);
        refused(json!({"guided_choice": vec!["a"; CHOICES_MAX + 1]}), "guided_choice", wrong);
        refused(json!({"guided_choice": vec!["a".repeat(9000); 8]}), "guided_choice", wrong);
        refused(json!({"structured_outputs": {"xml": 1}}), "structured_outputs.xml", unknown);
        refused(json!({"structured_outputs": {"choice": [1]}}), "structured_outputs.choice", "invalid_type");
    }

    #[test]
    fn two_constraints_are_refused() {
        let both = json!({"response_format": {"type": "json_object"}, "grammar": "root ::= \"a\""});
        refused(both, "grammar", "invalid_value");
        let two = json!({"structured_outputs": {"regex": "a", "choice": ["a"]}});
        refused(two, "structured_outputs.choice", "invalid_value");
        let old_and_new = json!({"structured_outputs": {"regex": "a"}, "guided_regex": "a"});
        refused(old_and_new, "guided_regex", "invalid_value");
        assert!(take(json!({"response_format": {"type": "text"}, "grammar": "root ::= \"a\""})).unwrap().is_some());
    }
}
