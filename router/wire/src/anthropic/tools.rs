//! `tools` and `tool_choice`.

use serde_json::Value;

use super::content::cache_control;
use crate::conversation::{Tool, ToolChoice, Tools};
use crate::fields::{Fields, WireError};
use crate::tools::{schema, tools};

/// Characters of a tool's name, as Anthropic's API has it.
pub(crate) const NAME_CHARS_MAX: usize = 128;

/// Takes what a request says of tools.
pub(super) fn take(fields: &mut Fields) -> Result<Tools, WireError> {
    let list = match fields.take("tools") {
        None => Vec::new(),
        Some(value) => tools("tools", value, tool)?,
    };
    let tools = Tools { list, choice: ToolChoice::Auto, parallel: None };
    let Some(value) = fields.take("tool_choice") else { return Ok(tools) };
    let mut inner = Fields::of("tool_choice", value)?;
    let choice = match inner.required_string("type")?.as_str() {
        "auto" => ToolChoice::Auto,
        "none" => ToolChoice::None,
        "any" => ToolChoice::Required,
        "tool" => ToolChoice::Named(inner.required_string("name")?),
        _ => return Err(inner.out_of_range("type", "auto, any, tool or none")),
    };
    let single = inner.boolean("disable_parallel_tool_use")?;
    inner.finish(&[])?;
    Tools { parallel: single.map(|single| !single), ..tools }.choosing("tool_choice", choice)
}

fn tool(path: &str, value: Value) -> Result<Tool, WireError> {
    let mut fields = Fields::of(path, value)?;
    if let Some(kind) = fields.string("type")?.filter(|kind| kind != "custom") {
        let kind: String = kind.chars().take(NAME_CHARS_MAX).collect();
        let why = format!(" for `{kind}`, which only Anthropic's own models know; describe it with an `input_schema`");
        return Err(fields.unsupported("type", &why));
    }
    let name = fields.required_string("name")?;
    let is_name = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_');
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(is_name) {
        let wanted = format!("1 to {NAME_CHARS_MAX} letters, digits, dashes and underscores");
        return Err(fields.out_of_range("name", &wanted));
    }
    let description = fields.string("description")?;
    let parameters = schema(&fields.path_of("input_schema"), fields.required("input_schema")?)?;
    let strict = fields.boolean("strict")?.unwrap_or(false);
    cache_control(&mut fields)?;
    // What a tool is given is always streamed as it comes.
    fields.boolean("eager_input_streaming")?;
    fields.only("defer_loading", |value| value == false)?;
    fields.only("allowed_callers", |value| *value == serde_json::json!(["direct"]))?;
    fields.only("input_examples", |value| value.as_array().is_some_and(Vec::is_empty))?;
    fields.finish(&[])?;
    Ok(Tool { name, description, parameters, strict, text: None, namespace: None })
}
