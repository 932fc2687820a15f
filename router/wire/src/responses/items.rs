//! The items of `input`: each is checked, and made complete but for the ids of new ones.

use serde_json::{Map, Value, json};

use crate::fields::{Fields, WireError};

/// Items of one request.
const ITEMS_MAX: usize = 4096;
/// Characters of an id that a client sends.
const ID_CHARS_MAX: usize = 128;

/// What to answer: a string, or items.
pub(super) fn input(value: Value) -> Result<Vec<Value>, WireError> {
    match value {
        Value::String(text) => {
            Ok(vec![message_item(&Map::new(), "user", &[json!({"type": "input_text", "text": text})])])
        }
        Value::Array(values) => list("input", values, ITEMS_MAX),
        other => Err(WireError::wrong_type("input", "a string or an array of items", &other)),
    }
}

/// At most so many items.
pub(super) fn list(path: &str, values: Vec<Value>, most: usize) -> Result<Vec<Value>, WireError> {
    if values.len() > most {
        return Err(WireError::out_of_range(path, &format!("at most {most} items")));
    }
    let numbered = values.into_iter().enumerate();
    numbered.map(|(index, value)| item(&format!("{path}[{index}]"), value)).collect()
}

/// A word as a client sent it, cut to what fits a message.
pub(super) fn shorten(word: &str) -> String {
    word.chars().filter(|character| !character.is_control()).take(64).collect()
}

fn item(path: &str, value: Value) -> Result<Value, WireError> {
    let mut fields = Fields::of(path, value)?;
    let kind = match fields.string("type")? {
        Some(kind) => kind,
        None if fields.peek("role").is_none() && fields.peek("id").is_some() => "item_reference".into(),
        None => "message".into(),
    };
    let mut common = Map::new();
    if let Some(id) = fields.string("id")? {
        if id.is_empty() || id.chars().count() > ID_CHARS_MAX {
            return Err(fields.out_of_range("id", &format!("1 to {ID_CHARS_MAX} characters long")));
        }
        common.insert("id".into(), json!(id));
    }
    match fields.string("status")?.as_deref() {
        None | Some("in_progress" | "completed" | "incomplete") => {}
        Some(_) => return Err(fields.out_of_range("status", "in_progress, completed or incomplete")),
    }
    match kind.as_str() {
        "message" => message(&common, fields),
        "function_call" => call(&common, fields, "function_call", "arguments"),
        "custom_tool_call" => call(&common, fields, "custom_tool_call", "input"),
        "function_call_output" | "custom_tool_call_output" => call_output(&common, fields, &kind),
        "reasoning" => reasoning(&common, fields),
        "item_reference" => {
            let id = common.get("id").cloned().ok_or_else(|| fields.missing("id"))?;
            fields.finish(&[])?;
            Ok(json!({"type": "item_reference", "id": id}))
        }
        other => Err(fields.unsupported("type", &format!(" for `{}`", shorten(other)))),
    }
}

/// Puts an item together: its id first, where it has one.
fn complete(common: &Map<String, Value>, rest: Value) -> Value {
    let mut map = common.clone();
    if let Value::Object(rest) = rest {
        map.extend(rest);
    }
    Value::Object(map)
}

fn message_item(common: &Map<String, Value>, role: &str, content: &[Value]) -> Value {
    complete(common, json!({"type": "message", "role": role, "status": "completed", "content": content}))
}

fn message(common: &Map<String, Value>, mut fields: Fields) -> Result<Value, WireError> {
    let role = fields.required_string("role")?;
    if !matches!(role.as_str(), "user" | "system" | "developer" | "assistant") {
        return Err(fields.out_of_range("role", "user, assistant, system or developer"));
    }
    let path = fields.path_of("content");
    let content = match fields.required("content")? {
        Value::String(text) if role == "assistant" => vec![output_text(&text)],
        Value::String(text) => vec![json!({"type": "input_text", "text": text})],
        Value::Array(parts) => {
            let numbered = parts.into_iter().enumerate();
            numbered.map(|(index, value)| part(&format!("{path}[{index}]"), &role, value)).collect::<Result<_, _>>()?
        }
        other => return Err(WireError::wrong_type(&path, "a string or an array of parts", &other)),
    };
    match fields.string("phase")?.as_deref() {
        None | Some("commentary" | "final_answer") => {}
        Some(_) => return Err(fields.out_of_range("phase", "commentary or final_answer")),
    }
    fields.finish(&[])?;
    Ok(message_item(common, &role, &content))
}

fn output_text(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn part(path: &str, role: &str, value: Value) -> Result<Value, WireError> {
    let mut fields = Fields::of(path, value)?;
    let kind = fields.required_string("type")?;
    let part = match (kind.as_str(), role) {
        ("output_text" | "input_text", "assistant") => {
            for name in ["annotations", "logprobs"] {
                if let Some(other) = fields.take(name).filter(|value| !value.is_array()) {
                    return Err(fields.wrong_type(name, "an array", &other));
                }
            }
            output_text(&fields.required_string("text")?)
        }
        ("refusal", "assistant") => json!({"type": "refusal", "refusal": fields.required_string("refusal")?}),
        ("input_text", _) => json!({"type": "input_text", "text": fields.required_string("text")?}),
        ("input_image", "user") => image(&mut fields)?,
        ("input_image" | "input_file" | "input_audio" | "refusal" | "output_text", _) => {
            return Err(fields.unsupported("type", &format!(" for `{kind}` parts of this message")));
        }
        _ if role == "assistant" => return Err(fields.out_of_range("type", "output_text or refusal")),
        _ => return Err(fields.out_of_range("type", "input_text or input_image")),
    };
    // Where a cache is to begin; what was known before is found without it.
    fields.take("prompt_cache_breakpoint");
    fields.finish(&[])?;
    Ok(part)
}

fn image(fields: &mut Fields) -> Result<Value, WireError> {
    if fields.take("file_id").is_some() {
        return Err(fields.unsupported("file_id", "; send `image_url`"));
    }
    let url = fields.required_string("image_url")?;
    let detail = fields.string("detail")?.unwrap_or_else(|| "auto".into());
    if !matches!(detail.as_str(), "low" | "high" | "auto" | "original") {
        return Err(fields.out_of_range("detail", "low, high, auto or original"));
    }
    Ok(json!({"type": "input_image", "image_url": url, "detail": detail, "file_id": null}))
}

/// Who called: programs that call tools are OpenAI's.
fn caller(fields: &mut Fields) -> Result<(), WireError> {
    let Some(value) = fields.take("caller") else { return Ok(()) };
    let mut inner = Fields::of(&fields.path_of("caller"), value)?;
    if inner.required_string("type")? != "direct" {
        return Err(inner.unsupported("type", " other than direct"));
    }
    inner.finish(&[])
}

/// A call; what was given is in the field `given`.
fn call(common: &Map<String, Value>, mut fields: Fields, kind: &str, given: &str) -> Result<Value, WireError> {
    let call_id = fields.required_string("call_id")?;
    let name = fields.required_string("name")?;
    let text = fields.required_string(given)?;
    let namespace = fields.string("namespace")?;
    caller(&mut fields)?;
    fields.only("async", |value| value == false)?;
    fields.finish(&[])?;
    let mut call = json!({"type": kind, "call_id": call_id, "name": name, given: text, "status": "completed"});
    if let Some(namespace) = namespace {
        call["namespace"] = json!(namespace);
    }
    Ok(complete(common, call))
}

fn call_output(common: &Map<String, Value>, mut fields: Fields, kind: &str) -> Result<Value, WireError> {
    let call_id = fields.required_string("call_id")?;
    let path = fields.path_of("output");
    let output = match fields.required("output")? {
        text @ Value::String(_) => text,
        Value::Array(parts) => {
            let numbered = parts.into_iter().enumerate();
            numbered.map(|(index, value)| part(&format!("{path}[{index}]"), "tool", value)).collect::<Result<_, _>>()?
        }
        other => return Err(WireError::wrong_type(&path, "a string or an array of parts", &other)),
    };
    // Some clients repeat what was called.
    fields.string("name")?;
    fields.string("namespace")?;
    caller(&mut fields)?;
    fields.finish(&[])?;
    let output = json!({"type": kind, "call_id": call_id, "output": output, "status": "completed"});
    Ok(complete(common, output))
}

fn reasoning(common: &Map<String, Value>, mut fields: Fields) -> Result<Value, WireError> {
    let summary = texts(&mut fields, "summary", "summary_text")?;
    let content = texts(&mut fields, "content", "reasoning_text")?;
    let encrypted = fields.string("encrypted_content")?;
    fields.finish(&[])?;
    let mut item = json!({"type": "reasoning", "summary": summary.unwrap_or_default(), "status": "completed"});
    if let Some(content) = content {
        item["content"] = Value::Array(content);
    }
    if let Some(encrypted) = encrypted {
        item["encrypted_content"] = json!(encrypted);
    }
    Ok(complete(common, item))
}

/// Parts of text, all of one type.
fn texts(fields: &mut Fields, name: &str, kind: &str) -> Result<Option<Vec<Value>>, WireError> {
    let path = fields.path_of(name);
    let parts = match fields.take(name) {
        None => return Ok(None),
        Some(Value::Array(parts)) => parts,
        Some(other) => return Err(WireError::wrong_type(&path, "an array of parts", &other)),
    };
    let part = |(index, value): (usize, Value)| {
        let mut part = Fields::of(&format!("{path}[{index}]"), value)?;
        if part.required_string("type")? != kind {
            return Err(part.out_of_range("type", kind));
        }
        let text = part.required_string("text")?;
        part.finish(&[])?;
        Ok(json!({"type": kind, "text": text}))
    };
    parts.into_iter().enumerate().map(part).collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_made_complete() {
        let items = input(json!([
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [{"type": "output_text", "text": "yes", "annotations": []}], "id": "msg_1"},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "id": "fc_1", "status": "completed"},
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "4"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}],
                "encrypted_content": null},
            {"id": "msg_9"},
        ]))
        .unwrap();
        let user = json!({"type": "message", "role": "user", "status": "completed",
            "content": [{"type": "input_text", "text": "hi"}]});
        assert_eq!(items[0], user);
        assert_eq!(items[0], input(json!("hi")).unwrap()[0]);
        assert_eq!((&items[1]["id"], &items[1]["content"][0]["logprobs"]), (&json!("msg_1"), &json!([])));
        assert_eq!(items[3]["output"][0]["text"], "4");
        assert_eq!(items[4]["content"][0]["text"], "hm");
        assert_eq!(items[5], json!({"type": "item_reference", "id": "msg_9"}));
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        let refused = |item: Value, param: &str, code: &str| {
            let error = input(json!([item])).unwrap_err();
            assert_eq!((error.param.as_deref(), error.code), (Some(param), Some(code)), "{error}");
        };
        refused(json!(5), "input[0]", "invalid_type");
        refused(json!({"role": "king", "content": ""}), "input[0].role", "invalid_value");
        refused(json!({"role": "user"}), "input[0].content", "missing_required_parameter");
        refused(
            json!({"role": "user", "content": "", "type": "web_search_call"}),
            "input[0].type",
            "unsupported_parameter",
        );
        refused(
            json!({"role": "user", "content": [{"type": "input_file"}]}),
            "input[0].content[0].type",
            "unsupported_parameter",
        );
        refused(json!({"role": "user", "content": [{"type": "text"}]}), "input[0].content[0].type", "invalid_value");
        refused(
            json!({"type": "function_call", "name": "f", "arguments": ""}),
            "input[0].call_id",
            "missing_required_parameter",
        );
        refused(json!({"type": "reasoning", "summary": 5}), "input[0].summary", "invalid_type");
        refused(json!({"type": "item_reference"}), "input[0].id", "missing_required_parameter");
        refused(json!({"role": "user", "content": "", "bold": 1}), "input[0].bold", "unknown_parameter");
        assert_eq!(input(json!(vec![json!({"id": "x"}); 4097])).unwrap_err().param.as_deref(), Some("input"));
    }
}
