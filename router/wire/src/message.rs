//! The messages of `POST /v1/chat/completions`.

use serde_json::{Value, json};

use crate::conversation::{Message, Part, Role, ToolCall};
use crate::fields::{Fields, WireError};
use crate::tools::cache_control;

/// Messages of one conversation.
pub(crate) const MESSAGES_MAX: usize = 4096;
/// Parts of one message.
pub(crate) const PARTS_MAX: usize = 1024;
/// Calls in one message.
pub(crate) const CALLS_MAX: usize = 128;

pub(crate) fn messages(value: Value) -> Result<Vec<Message>, WireError> {
    let Value::Array(values) = value else { return Err(WireError::wrong_type("messages", "an array", &value)) };
    if values.is_empty() || values.len() > MESSAGES_MAX {
        return Err(WireError::out_of_range("messages", &format!("an array of 1 to {MESSAGES_MAX} messages")));
    }
    let mut messages = Vec::with_capacity(values.len());
    for (index, value) in values.into_iter().enumerate() {
        let path = format!("messages[{index}]");
        let message = message(&path, value)?;
        answers_a_call(&path, &messages, &message)?;
        messages.push(message);
    }
    Ok(messages)
}

/// A tool's answer must be to a call of the message before it, as OpenAI has it.
fn answers_a_call(path: &str, before: &[Message], message: &Message) -> Result<(), WireError> {
    let Some(id) = &message.tool_call_id else { return Ok(()) };
    let asked = before.iter().rev().find(|message| message.role != Role::Tool);
    if asked.is_some_and(|asked| asked.tool_calls.iter().any(|call| call.id == *id)) {
        return Ok(());
    }
    let message = "messages with role `tool` must follow a message with `tool_calls` that has this id";
    Err(WireError::new(&format!("{path}.tool_call_id"), "invalid_value", message))
}

fn message(path: &str, value: Value) -> Result<Message, WireError> {
    let mut fields = Fields::of(path, value)?;
    let role = match fields.required("role")? {
        Value::String(role) => role_name(&fields, &role)?,
        other => return Err(fields.wrong_type("role", "a string", &other)),
    };
    let tool_calls = match (role, fields.take("tool_calls")) {
        (_, None) => Vec::new(),
        (Role::Assistant, Some(value)) => tool_calls(&fields.path_of("tool_calls"), value)?,
        (_, Some(_)) => {
            return Err(fields.error("tool_calls", "invalid_value", "only an assistant's message has `tool_calls`"));
        }
    };
    let content = match fields.take("content") {
        Some(value) => content(&fields.path_of("content"), role, value)?,
        None if role == Role::Assistant => Vec::new(),
        None => return Err(fields.missing("content")),
    };
    let refusal = fields.string("refusal")?;
    let name = fields.string("name")?;
    // Some servers have both names for it, and their clients send both back.
    let (reasoning, same) = (fields.string("reasoning_content")?, fields.string("reasoning")?);
    let reasoning = reasoning.or(same);
    let tool_call_id = fields.string("tool_call_id")?;
    if (role == Role::Tool) != tool_call_id.is_some() {
        return Err(match tool_call_id {
            None => fields.missing("tool_call_id"),
            Some(_) => fields.error("tool_call_id", "invalid_value", "only a tool's message has a `tool_call_id`"),
        });
    }
    fields.only("annotations", |value| value.as_array().is_some_and(Vec::is_empty))?;
    cache_control(&mut fields)?;
    fields.finish(&["audio", "function_call"])?;
    // What a model refused with was its answer.
    let content = content.into_iter().chain(refusal.map(Part::Text)).collect();
    Ok(Message { role, content, name, reasoning, tool_calls, tool_call_id })
}

fn role_name(fields: &Fields, role: &str) -> Result<Role, WireError> {
    match role {
        // OpenAI's newer name for the same thing; templates know the older one.
        "system" | "developer" => Ok(Role::System),
        "user" => Ok(Role::User),
        "assistant" => Ok(Role::Assistant),
        "tool" => Ok(Role::Tool),
        "function" => Err(fields.unsupported("role", " for `function`; send `tool`, its successor")),
        _ => Err(fields.out_of_range("role", "system, developer, user, assistant or tool")),
    }
}

/// Text, or parts.
fn content(path: &str, role: Role, value: Value) -> Result<Vec<Part>, WireError> {
    match value {
        Value::String(text) => Ok(vec![Part::Text(text)]),
        Value::Array(parts) if parts.len() > PARTS_MAX => {
            Err(WireError::out_of_range(path, &format!("at most {PARTS_MAX} parts")))
        }
        Value::Array(parts) => {
            let numbered = parts.into_iter().enumerate();
            numbered.map(|(index, value)| part(&format!("{path}[{index}]"), role, value)).collect()
        }
        other => Err(WireError::wrong_type(path, "a string or an array of parts", &other)),
    }
}

fn part(path: &str, role: Role, value: Value) -> Result<Part, WireError> {
    let mut fields = Fields::of(path, value)?;
    let kind = fields.required_string("type")?;
    let part = match (kind.as_str(), role) {
        ("text", _) => Part::Text(fields.required_string("text")?),
        ("refusal", Role::Assistant) => Part::Text(fields.required_string("refusal")?),
        ("image_url", Role::User) => {
            let value = fields.required("image_url")?;
            image(&fields.path_of("image_url"), value)?
        }
        ("image_url" | "input_audio" | "file" | "refusal", _) => {
            return Err(fields.unsupported("type", &format!(" for `{kind}` parts of this message")));
        }
        _ => return Err(fields.out_of_range("type", "text or image_url")),
    };
    cache_control(&mut fields)?;
    cache_breakpoint(&mut fields)?;
    fields.finish(&[])?;
    Ok(part)
}

/// Where a prompt's cache is to end, in OpenAI's words. What was known before is found without it.
pub(crate) fn cache_breakpoint(fields: &mut Fields) -> Result<(), WireError> {
    match fields.take("prompt_cache_breakpoint") {
        None | Some(Value::Object(_)) => Ok(()),
        Some(other) => Err(fields.wrong_type("prompt_cache_breakpoint", "an object", &other)),
    }
}

fn image(path: &str, value: Value) -> Result<Part, WireError> {
    let mut fields = Fields::of(path, value)?;
    let url = fields.required_string("url")?;
    let detail = fields.string("detail")?;
    fields.finish(&[])?;
    Ok(Part::Image { url, detail })
}

fn tool_calls(path: &str, value: Value) -> Result<Vec<ToolCall>, WireError> {
    let Value::Array(values) = value else { return Err(WireError::wrong_type(path, "an array", &value)) };
    if values.len() > CALLS_MAX {
        return Err(WireError::out_of_range(path, &format!("at most {CALLS_MAX} calls")));
    }
    values.into_iter().enumerate().map(|(index, value)| tool_call(&format!("{path}[{index}]"), value)).collect()
}

fn tool_call(path: &str, value: Value) -> Result<ToolCall, WireError> {
    let mut fields = Fields::of(path, value)?;
    let id = fields.required_string("id")?;
    let kind = fields.string("type")?.unwrap_or_else(|| "function".into());
    if !matches!(kind.as_str(), "function" | "custom") {
        let kind: String = kind.chars().take(64).collect();
        return Err(fields.unsupported("type", &format!(" for `{kind}` calls")));
    }
    // Some clients send back the place that a call had in a stream.
    fields.integer("index", 0..=i64::from(u32::MAX))?;
    let mut inner = Fields::of(&fields.path_of(&kind), fields.required(&kind)?)?;
    // What another server signed of its own thoughts is nothing to a model here.
    fields.take("extra_content");
    fields.finish(&[])?;
    let name = inner.required_string("name")?;
    let arguments = if kind == "custom" {
        // As models write it.
        json!({"input": inner.required_string("input")?}).to_string()
    } else {
        inner.string("arguments")?.unwrap_or_default()
    };
    inner.finish(&[])?;
    Ok(ToolCall { id, name, arguments })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(id: &str) -> Value {
        json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}})
    }

    #[test]
    fn calls_and_their_answers_are_read() {
        let messages = messages(json!([
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [call("a"), call("b")]},
            {"role": "tool", "tool_call_id": "b", "content": "2"},
            {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "1"}]},
        ]))
        .unwrap();
        let asked = &messages[1];
        assert_eq!((asked.role, asked.content.len(), asked.reasoning.as_deref()), (Role::Assistant, 0, Some("hm")));
        let first = ToolCall { id: "a".into(), name: "f".into(), arguments: "{\"x\": 1}".into() };
        assert_eq!((asked.tool_calls.len(), &asked.tool_calls[0]), (2, &first));
        assert_eq!((messages[3].tool_call_id.as_deref(), messages[3].all_text().as_str()), (Some("a"), "1"));
        let template = asked.for_template();
        assert_eq!(template["tool_calls"][0]["function"]["arguments"], json!({"x": 1}));
        assert_eq!(template["content"], json!(""));
        let upstream = asked.for_upstream();
        assert_eq!((&upstream["content"], &upstream["tool_calls"][1]), (&Value::Null, &call("b")));
    }

    #[test]
    fn pictures_are_read() {
        let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}});
        let text = json!({"type": "text", "text": "what is it?"});
        let messages = messages(json!([{"role": "user", "content": [image, text]}])).unwrap();
        assert_eq!(messages[0].for_upstream()["content"], json!([image, text]));
        assert_eq!(messages[0].all_text(), "what is it?");
    }

    #[test]
    fn what_does_not_belong_together_is_refused_by_name() {
        let refused = |value: Value, param: &str, code: &str| {
            let error = messages(value).unwrap_err();
            assert_eq!((error.param.as_deref(), error.code), (Some(param), Some(code)), "{error}");
        };
        let orphan = json!([{"role": "user", "content": "hi"}, {"role": "tool", "tool_call_id": "a", "content": ""}]);
        refused(orphan, "messages[1].tool_call_id", "invalid_value");
        refused(json!([{"role": "tool", "content": ""}]), "messages[0].tool_call_id", "missing_required_parameter");
        let misplaced = json!([{"role": "user", "content": "", "tool_call_id": "a"}]);
        refused(misplaced, "messages[0].tool_call_id", "invalid_value");
        let misplaced = json!([{"role": "user", "content": "", "tool_calls": [call("a")]}]);
        refused(misplaced, "messages[0].tool_calls", "invalid_value");
        let broken = json!([{"role": "assistant", "tool_calls": [{"id": "a", "type": "function"}]}]);
        refused(broken, "messages[0].tool_calls[0].function", "missing_required_parameter");
        refused(json!([{"role": "assistant", "tool_calls": 5}]), "messages[0].tool_calls", "invalid_type");
        let part = json!([{"role": "system", "content": [{"type": "image_url", "image_url": {"url": ""}}]}]);
        refused(part, "messages[0].content[0].type", "unsupported_parameter");
    }
}
