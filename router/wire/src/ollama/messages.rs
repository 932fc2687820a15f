//! `messages` and `images`.

use data_encoding::BASE64;
use serde_json::Value;

use crate::conversation::{Message, Part, Role, ToolCall};
use crate::fields::{Fields, WireError};
use crate::message::MESSAGES_MAX;

/// How pictures begin in base64, and what they are then.
const PICTURES: [(&str, &str); 4] =
    [("iVBORw0KGgo", "image/png"), ("/9j/", "image/jpeg"), ("R0lGOD", "image/gif"), ("UklGR", "image/webp")];

/// The conversation. Calls have no names in Ollama's API: the answers to them come in their order, or name the tool.
pub(super) fn messages(value: Value) -> Result<Vec<Message>, WireError> {
    let Value::Array(values) = value else { return Err(WireError::wrong_type("messages", "an array", &value)) };
    if values.len() > MESSAGES_MAX {
        return Err(WireError::out_of_range("messages", &format!("an array of at most {MESSAGES_MAX} messages")));
    }
    let mut all: Vec<Message> = Vec::with_capacity(values.len());
    for (index, value) in values.into_iter().enumerate() {
        let told = message(index, value, &all)?;
        all.push(told);
    }
    Ok(all)
}

fn message(index: usize, value: Value, before: &[Message]) -> Result<Message, WireError> {
    let mut fields = Fields::of(&format!("messages[{index}]"), value)?;
    let role = match fields.required_string("role")?.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        _ => return Err(fields.out_of_range("role", "system, user, assistant or tool")),
    };
    let mut told = Message::text(role, fields.string("content")?.unwrap_or_default());
    told.content.extend(images(&mut fields)?);
    told.reasoning = fields.string("thinking")?.filter(|thought| !thought.is_empty());
    let calls = fields.take("tool_calls");
    let (tool, id) = (fields.string("tool_name")?, fields.string("tool_call_id")?);
    match (role, calls) {
        (Role::Assistant, Some(value)) => told.tool_calls = tool_calls(index, &fields.path_of("tool_calls"), value)?,
        (_, Some(Value::Array(calls))) if calls.is_empty() => {}
        (_, Some(_)) => {
            return Err(fields.error("tool_calls", "invalid_value", "only an assistant's message has `tool_calls`"));
        }
        (_, None) => {}
    }
    if role == Role::Tool {
        let call = answered(before, tool.as_deref(), id.as_deref()).ok_or_else(|| {
            let message = "a message with role `tool` must answer one of the `tool_calls` before it";
            fields.error("role", "invalid_value", message)
        })?;
        told.name = Some(tool.unwrap_or_else(|| call.name.clone()));
        told.tool_call_id = Some(call.id.clone());
    }
    fields.finish(&[])?;
    Ok(told)
}

/// The call that an answer is to: by its id, by its tool, else the first without one.
fn answered<'a>(before: &'a [Message], tool: Option<&str>, id: Option<&str>) -> Option<&'a ToolCall> {
    let answers = before.iter().rev().take_while(|message| message.role == Role::Tool).count();
    let (asked, answers) = before.split_at(before.len() - answers);
    let is_open = |call: &&ToolCall| !answers.iter().any(|answer| answer.tool_call_id.as_deref() == Some(&call.id));
    let calls = || asked.last().into_iter().flat_map(|message| &message.tool_calls);
    match (id.filter(|id| !id.is_empty()), tool) {
        (Some(id), _) => calls().find(|call| call.id == id),
        (None, Some(tool)) => calls().filter(is_open).find(|call| call.name == tool),
        (None, None) => calls().find(is_open),
    }
}

fn tool_calls(message: usize, path: &str, value: Value) -> Result<Vec<ToolCall>, WireError> {
    let Value::Array(values) = value else { return Err(WireError::wrong_type(path, "an array", &value)) };
    let mut calls = Vec::with_capacity(values.len());
    for (place, value) in values.into_iter().enumerate() {
        let mut fields = Fields::of(&format!("{path}[{place}]"), value)?;
        let id = fields.string("id")?.filter(|id| !id.is_empty());
        fields.only("type", |value| value == "function")?;
        let mut function = Fields::of(&fields.path_of("function"), fields.required("function")?)?;
        fields.finish(&[])?;
        let name = function.required_string("name")?;
        let arguments = function.take("arguments").unwrap_or_else(|| serde_json::json!({}));
        if !arguments.is_object() {
            return Err(function.wrong_type("arguments", "an object", &arguments));
        }
        function.integer("index", 0..=i64::from(u32::MAX))?;
        function.finish(&["description"])?;
        let id = id.unwrap_or_else(|| format!("call_{message}_{place}"));
        calls.push(ToolCall { id, name, arguments: arguments.to_string() });
    }
    Ok(calls)
}

/// Takes pictures in base64. What they are is seen in their first bytes.
pub(super) fn images(fields: &mut Fields) -> Result<Vec<Part>, WireError> {
    let values = match fields.take("images") {
        None => return Ok(Vec::new()),
        Some(Value::Array(values)) => values,
        Some(other) => return Err(fields.wrong_type("images", "an array", &other)),
    };
    let picture = |(index, value): (usize, Value)| {
        let path = fields.path_of(&format!("images[{index}]"));
        let Value::String(data) = value else { return Err(WireError::wrong_type(&path, "a string", &value)) };
        let known = PICTURES.iter().find(|(begin, _)| data.starts_with(begin));
        match known {
            Some((_, kind)) if BASE64.decode(data.as_bytes()).is_ok() => {
                Ok(Part::Image { url: format!("data:{kind};base64,{data}"), detail: None })
            }
            _ => Err(WireError::out_of_range(&path, "a PNG, JPEG, GIF or WebP picture in base64")),
        }
    };
    values.into_iter().enumerate().map(picture).collect()
}
