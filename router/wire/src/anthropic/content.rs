//! `system` and `messages`.

use data_encoding::BASE64;
use serde_json::Value;

use crate::conversation::{Message, Part, Role, ToolCall};
use crate::fields::{Fields, WireError};
use crate::message::MESSAGES_MAX;

/// Pictures that the API has.
pub(crate) const MEDIA_TYPES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];

/// The conversation. Turns of one speaker in a row are one, as the API has it; what tools answered comes apart.
pub(super) fn messages(system: Option<Value>, value: Value) -> Result<Vec<Message>, WireError> {
    let Value::Array(values) = value else { return Err(WireError::wrong_type("messages", "an array", &value)) };
    if values.is_empty() || values.len() > MESSAGES_MAX {
        return Err(WireError::out_of_range("messages", &format!("an array of 1 to {MESSAGES_MAX} messages")));
    }
    let mut all = Vec::with_capacity(values.len() + 1);
    if let Some(value) = system {
        let content = texts("system", value)?;
        if !content.is_empty() {
            all.push(said(Role::System, content));
        }
    }
    for (index, value) in values.into_iter().enumerate() {
        message(&format!("messages[{index}]"), value, &mut all)?;
    }
    if let Some(last) = all.last().filter(|last| last.role == Role::Assistant) {
        check_begun(last)?;
    }
    Ok(all)
}

/// An answer that was begun for the model is text that can go on.
fn check_begun(last: &Message) -> Result<(), WireError> {
    let message = if !last.is_text() {
        "the last message is the model's, so its answer goes on with it: it must be of text alone"
    } else if last.all_text().ends_with(char::is_whitespace) {
        "the last message is the model's, so its answer goes on with it: it must not end with white space"
    } else {
        return Ok(());
    };
    Err(WireError::new("messages", "invalid_value", message))
}

fn said(role: Role, content: Vec<Part>) -> Message {
    Message { content, ..Message::text(role, "") }
}

fn message(path: &str, value: Value, all: &mut Vec<Message>) -> Result<(), WireError> {
    let mut fields = Fields::of(path, value)?;
    let role = fields.required_string("role")?;
    let content = fields.required("content")?;
    let content_path = fields.path_of("content");
    let told = match role.as_str() {
        "user" => user(&content_path, content, all)?,
        "assistant" => assistant(&content_path, content)?,
        // In the middle of a conversation.
        "system" => said(Role::System, texts(&content_path, content)?),
        _ => return Err(fields.out_of_range("role", "user, assistant or system")),
    };
    fields.finish(&[])?;
    join(all, told);
    Ok(())
}

/// Adds a message, to the last one where the same speaker goes on.
fn join(all: &mut Vec<Message>, told: Message) {
    if told.content.is_empty() && told.tool_calls.is_empty() && told.reasoning.is_none() {
        return;
    }
    match all.last_mut() {
        Some(last) if last.role == told.role && last.role != Role::System && last.tool_calls.is_empty() => {
            told.content.into_iter().for_each(|part| push(&mut last.content, part));
            last.tool_calls = told.tool_calls;
            last.reasoning = [last.reasoning.take(), told.reasoning].into_iter().flatten().reduce(|a, b| a + "\n" + &b);
        }
        _ => all.push(told),
    }
}

/// Adds a part; text after text begins a new line.
fn push(parts: &mut Vec<Part>, part: Part) {
    match (parts.last_mut(), part) {
        (Some(Part::Text(before)), Part::Text(text)) => {
            before.push('\n');
            before.push_str(&text);
        }
        (_, part) => parts.push(part),
    }
}

/// Content that is a text, or blocks.
enum Content {
    Text(String),
    Blocks(Vec<Fields>),
}

fn content(path: &str, value: Value) -> Result<Content, WireError> {
    match value {
        Value::String(text) => Ok(Content::Text(text)),
        Value::Array(values) => {
            let numbered = values.into_iter().enumerate();
            let blocks = numbered.map(|(index, value)| Fields::of(&format!("{path}[{index}]"), value));
            blocks.collect::<Result<_, _>>().map(Content::Blocks)
        }
        other => Err(WireError::wrong_type(path, "a string or an array of blocks", &other)),
    }
}

/// Text, or blocks of text.
fn texts(path: &str, value: Value) -> Result<Vec<Part>, WireError> {
    let mut parts = Vec::new();
    match content(path, value)? {
        Content::Text(text) => parts.extend((!text.is_empty()).then_some(Part::Text(text))),
        Content::Blocks(blocks) => {
            for mut block in blocks {
                match block.required_string("type")?.as_str() {
                    "text" => push(&mut parts, text(block)?),
                    _ => return Err(block.out_of_range("type", "text")),
                }
            }
        }
    }
    Ok(parts)
}

/// What a user says; what tools answered goes before it.
fn user(path: &str, value: Value, all: &mut Vec<Message>) -> Result<Message, WireError> {
    let mut parts = Vec::new();
    let mut answered = false;
    match content(path, value)? {
        Content::Text(text) => parts.extend((!text.is_empty()).then_some(Part::Text(text))),
        Content::Blocks(blocks) => {
            for mut block in blocks {
                let kind = block.required_string("type")?;
                if kind == "tool_result" {
                    let result = tool_result(block, all)?;
                    all.push(result);
                    answered = true;
                } else {
                    shown(&kind, block, &mut parts)?;
                }
            }
        }
    }
    if parts.is_empty() && !answered {
        return Err(WireError::out_of_range(path, "something: a user's message is not empty"));
    }
    Ok(said(Role::User, parts))
}

/// A block that shows something to the model.
fn shown(kind: &str, block: Fields, parts: &mut Vec<Part>) -> Result<(), WireError> {
    match kind {
        "text" => push(parts, text(block)?),
        "image" => parts.push(image(block)?),
        "document" => document(block, parts)?,
        "search_result" => search_result(block, parts)?,
        "thinking" | "redacted_thinking" | "tool_use" => {
            return Err(block.out_of_range("type", "one that this message may have: only an assistant's has those"));
        }
        _ => {
            let kind: String = kind.chars().take(64).collect();
            return Err(block.unsupported("type", &format!(" for `{kind}` blocks")));
        }
    }
    Ok(())
}

fn text(mut block: Fields) -> Result<Part, WireError> {
    let text = block.required_string("text")?;
    cache_control(&mut block)?;
    // Where the model's own text came from, in what it said before.
    block.take("citations");
    block.finish(&[])?;
    Ok(Part::Text(text))
}

fn image(mut block: Fields) -> Result<Part, WireError> {
    let source = Fields::of(&block.path_of("source"), block.required("source")?)?;
    cache_control(&mut block)?;
    block.only("transformations", |value| value.as_object().is_some_and(serde_json::Map::is_empty))?;
    block.finish(&[])?;
    picture(source)
}

fn picture(mut source: Fields) -> Result<Part, WireError> {
    let url = match source.required_string("type")?.as_str() {
        "base64" => {
            let kind = source.required_string("media_type")?;
            if !MEDIA_TYPES.contains(&kind.as_str()) {
                return Err(source.out_of_range("media_type", &MEDIA_TYPES.join(", ")));
            }
            let data = source.required_string("data")?;
            if data.is_empty() || BASE64.decode(data.as_bytes()).is_err() {
                return Err(source.out_of_range("data", "a picture in base64"));
            }
            format!("data:{kind};base64,{data}")
        }
        "url" => source.required_string("url")?,
        "file" => return Err(source.unsupported("type", " for `file`; send the picture itself")),
        _ => return Err(source.out_of_range("type", "base64 or url")),
    };
    source.finish(&[])?;
    Ok(Part::Image { url, detail: None })
}

/// A document of text, with what the client says about it before it.
fn document(mut block: Fields, parts: &mut Vec<Part>) -> Result<(), WireError> {
    let mut source = Fields::of(&block.path_of("source"), block.required("source")?)?;
    for about in [block.string("title")?, block.string("context")?].into_iter().flatten() {
        push(parts, Part::Text(about));
    }
    cache_control(&mut block)?;
    citations(&mut block)?;
    block.finish(&[])?;
    match source.required_string("type")?.as_str() {
        "text" => {
            source.only("media_type", |value| value == "text/plain")?;
            push(parts, Part::Text(source.required_string("data")?));
        }
        "content" => {
            let path = source.path_of("content");
            match content(&path, source.required("content")?)? {
                Content::Text(text) => push(parts, Part::Text(text)),
                Content::Blocks(blocks) => {
                    for mut block in blocks {
                        match block.required_string("type")?.as_str() {
                            "text" => push(parts, text(block)?),
                            "image" => parts.push(image(block)?),
                            _ => return Err(block.out_of_range("type", "text or image")),
                        }
                    }
                }
            }
        }
        "base64" | "url" | "file" => {
            return Err(source.unsupported("type", " for documents that are no text; send their text"));
        }
        _ => return Err(source.out_of_range("type", "text or content")),
    }
    source.finish(&[])
}

fn search_result(mut block: Fields, parts: &mut Vec<Part>) -> Result<(), WireError> {
    for name in ["title", "source"] {
        push(parts, Part::Text(block.required_string(name)?));
    }
    let found = texts(&block.path_of("content"), block.required("content")?)?;
    found.into_iter().for_each(|part| push(parts, part));
    cache_control(&mut block)?;
    citations(&mut block)?;
    block.finish(&[])
}

/// What a tool answered to a call of the message before.
fn tool_result(mut block: Fields, before: &[Message]) -> Result<Message, WireError> {
    let id = block.required_string("tool_use_id")?;
    let asked = before.iter().rev().find(|message| message.role != Role::Tool);
    let call = asked.and_then(|asked| asked.tool_calls.iter().find(|call| call.id == id));
    let Some(call) = call else {
        let message = "a `tool_result` must answer a `tool_use` of the message before it, by its id";
        return Err(block.error("tool_use_id", "invalid_value", message));
    };
    let mut parts = Vec::new();
    // Models know errors by their text alone.
    if block.boolean("is_error")?.unwrap_or(false) {
        parts.push(Part::Text("error:".to_owned()));
    }
    if let Some(value) = block.take("content") {
        match content(&block.path_of("content"), value)? {
            Content::Text(text) => push(&mut parts, Part::Text(text)),
            Content::Blocks(blocks) => {
                for mut block in blocks {
                    let kind = block.required_string("type")?;
                    shown(&kind, block, &mut parts)?;
                }
            }
        }
    }
    cache_control(&mut block)?;
    block.finish(&["toolset_name"])?;
    let name = Some(call.name.clone());
    Ok(Message { name, tool_call_id: Some(id), ..said(Role::Tool, parts) })
}

/// What the model said before, thought, and called.
fn assistant(path: &str, value: Value) -> Result<Message, WireError> {
    let mut told = said(Role::Assistant, Vec::new());
    let blocks = match content(path, value)? {
        Content::Text(text) => {
            told.content.extend((!text.is_empty()).then_some(Part::Text(text)));
            return Ok(told);
        }
        Content::Blocks(blocks) => blocks,
    };
    for mut block in blocks {
        match block.required_string("type")?.as_str() {
            "text" => push(&mut told.content, text(block)?),
            "thinking" => {
                let thought = block.required_string("thinking")?;
                // Nothing is proved by it here: thoughts of other servers are as welcome.
                block.string("signature")?;
                block.finish(&[])?;
                if !thought.is_empty() {
                    told.reasoning = Some(told.reasoning.map_or(thought.clone(), |before| before + "\n" + &thought));
                }
            }
            // Only its maker can read it.
            "redacted_thinking" => {
                block.required_string("data")?;
                block.finish(&[])?;
            }
            "tool_use" => told.tool_calls.push(tool_use(block)?),
            "tool_result" | "image" | "document" => {
                return Err(block.out_of_range("type", "text, thinking or tool_use in an assistant's message"));
            }
            kind => {
                let kind: String = kind.chars().take(64).collect();
                return Err(block.unsupported("type", &format!(" for `{kind}` blocks")));
            }
        }
    }
    Ok(told)
}

fn tool_use(mut block: Fields) -> Result<ToolCall, WireError> {
    let id = block.required_string("id")?;
    let name = block.required_string("name")?;
    let input = block.required("input")?;
    if !input.is_object() {
        return Err(block.wrong_type("input", "an object", &input));
    }
    cache_control(&mut block)?;
    block.only("caller", |value| value["type"] == "direct")?;
    block.finish(&["toolset_name"])?;
    Ok(ToolCall { id, name, arguments: input.to_string() })
}

/// A hint for Anthropic's cache. What is known here is known without it.
pub(super) fn cache_control(fields: &mut Fields) -> Result<(), WireError> {
    match fields.take("cache_control") {
        None | Some(Value::Object(_)) => Ok(()),
        Some(other) => Err(fields.wrong_type("cache_control", "an object", &other)),
    }
}

/// Models here do not say where they have something from.
fn citations(fields: &mut Fields) -> Result<(), WireError> {
    fields.only("citations", |value| value["enabled"] != true)
}
