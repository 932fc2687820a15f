//! `tools` and `tool_choice`.

use serde_json::{Map, Value, json};

use super::items::shorten;
use crate::constraint::Form;
use crate::conversation::{Tool, ToolChoice, Tools};
use crate::fields::{Fields, WireError};
use crate::tools::{NAME_CHARS_MAX, check_name, custom_of, function_of, tools, word_choice};

/// Tools that OpenAI's servers run and programs offer whatever they talk to, Codex among them. A model may leave an
/// offer alone, and here it always does: a response's `tools` lists those that it was really offered.
pub(crate) const LEFT_ALONE: &[&str] = &[
    "image_generation",
    "tool_search",
    "web_search",
    "web_search_2025_08_26",
    "web_search_preview",
    "web_search_preview_2025_03_11",
];

/// Takes what a request says of tools; `offered` hears of all of them, before any are chosen.
pub(super) fn take(fields: &mut Fields, offered: impl FnOnce(&[Tool])) -> Result<Tools, WireError> {
    let mut values = Vec::new();
    for (index, value) in array(fields, "tools")?.into_iter().enumerate() {
        flatten(&format!("tools[{index}]"), value, &mut values)?;
    }
    // Each was read already, under its own path.
    let mut read = values.into_iter();
    let places = Value::Array(vec![Value::Null; read.len()]);
    let list = tools("tools", places, |path, _| read.next().ok_or_else(|| WireError::missing(path)))?;
    offered(&list);
    let choice = fields.take("tool_choice");
    let parallel = fields.boolean("parallel_tool_calls")?;
    let tools = Tools { list, choice: ToolChoice::Auto, parallel };
    match choice {
        Some(choice) => chosen(tools, choice),
        None => Ok(tools),
    }
}

fn array(fields: &mut Fields, name: &str) -> Result<Vec<Value>, WireError> {
    match fields.take(name) {
        None => Ok(Vec::new()),
        Some(Value::Array(values)) => Ok(values),
        Some(other) => Err(fields.wrong_type(name, "an array", &other)),
    }
}

/// Reads a tool, or those of a namespace.
fn flatten(path: &str, value: Value, list: &mut Vec<Tool>) -> Result<(), WireError> {
    let mut fields = Fields::of(path, value)?;
    match fields.required_string("type")?.as_str() {
        "function" => list.push(function(fields)?),
        "custom" => list.push(custom(fields)?),
        "namespace" => {
            let namespace = fields.required_string("name")?;
            check_name(&fields, &namespace)?;
            // What the tools have in common is told with each of them.
            let about = fields.string("description")?;
            let path = fields.path_of("tools");
            let values = array(&mut fields, "tools")?;
            fields.finish(&[])?;
            for (index, value) in values.into_iter().enumerate() {
                let mut fields = Fields::of(&format!("{path}[{index}]"), value)?;
                let tool = match fields.required_string("type")?.as_str() {
                    "function" => function(fields)?,
                    "custom" => custom(fields)?,
                    _ => return Err(fields.out_of_range("type", "function or custom")),
                };
                list.push(within(&namespace, about.as_deref(), tool));
            }
        }
        kind if LEFT_ALONE.contains(&kind) => {}
        other => return Err(fields.unsupported("type", &format!(" for `{}`", shorten(other)))),
    }
    Ok(())
}

/// Who may call a tool, and whether its answer is waited for: a model here calls by itself, and waits.
fn called_plainly(fields: &mut Fields) -> Result<(), WireError> {
    fields.only("allowed_callers", |value| *value == json!(["direct"]))?;
    fields.only("async", |value| value == false)
}

fn function(mut fields: Fields) -> Result<Tool, WireError> {
    called_plainly(&mut fields)?;
    // Whether a tool is told of only when it is searched for: here all are told of.
    fields.boolean("defer_loading")?;
    // The schema of what it answers.
    if let Some(value) = fields.take("output_schema") {
        Fields::of(&fields.path_of("output_schema"), value)?;
    }
    function_of(fields)
}

fn custom(mut fields: Fields) -> Result<Tool, WireError> {
    called_plainly(&mut fields)?;
    fields.boolean("defer_loading")?;
    custom_of(fields, |format| Ok(format.rest()))
}

/// A tool of a namespace. The one called `functions` is where tools without any are.
fn within(namespace: &str, about: Option<&str>, tool: Tool) -> Tool {
    if namespace == "functions" {
        return tool;
    }
    let description = about.into_iter().chain(tool.description.as_deref()).collect::<Vec<_>>().join("\n\n");
    Tool {
        name: format!("{namespace}.{}", tool.name),
        description: Some(description).filter(|description| !description.is_empty()),
        namespace: Some(namespace.to_owned()),
        ..tool
    }
}

fn chosen(tools: Tools, choice: Value) -> Result<Tools, WireError> {
    const PATH: &str = "tool_choice";
    if let Value::String(word) = &choice {
        return tools.choosing(PATH, word_choice(PATH, word)?);
    }
    let mut choice = Fields::of(PATH, choice)?;
    match choice.required_string("type")?.as_str() {
        "function" | "custom" => {
            let name = name(&mut choice)?;
            choice.finish(&[])?;
            tools.choosing(PATH, ToolChoice::Named(name))
        }
        "allowed_tools" => tools.allowed(choice, |_, tool| name(tool)),
        other => Err(choice.unsupported("type", &format!(" for `{}`", shorten(other)))),
    }
}

fn name(fields: &mut Fields) -> Result<String, WireError> {
    let (name, namespace) = (fields.required_string("name")?, fields.string("namespace")?);
    Ok(full_name(namespace.as_deref(), &name))
}

/// The name that a tool has for models.
pub(super) fn full_name(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) if namespace != "functions" && !namespace.is_empty() => {
            let namespace: String = namespace.chars().take(NAME_CHARS_MAX).collect();
            format!("{namespace}.{name}")
        }
        _ => name.to_owned(),
    }
}

/// The tools as a response repeats them.
pub(super) fn echoed(list: &[Tool]) -> Vec<Value> {
    let mut told: Vec<Value> = Vec::new();
    for tool in list {
        let name = tool.own_name();
        let one = match &tool.text {
            Some(text) => {
                let format = match &text.form {
                    Some(Form::Regex(regex)) => json!({"type": "grammar", "syntax": "regex", "definition": regex}),
                    Some(Form::Lark(lark)) => json!({"type": "grammar", "syntax": "lark", "definition": lark}),
                    _ => json!({"type": "text"}),
                };
                json!({"type": "custom", "name": name, "description": tool.description, "format": format})
            }
            None => json!({"type": "function", "name": name, "description": tool.description,
                "parameters": tool.parameters, "strict": tool.strict}),
        };
        let Some(namespace) = &tool.namespace else {
            told.push(one);
            continue;
        };
        match told.iter_mut().find(|told| told["type"] == "namespace" && told["name"] == json!(namespace)) {
            Some(Value::Object(map)) => push(map, one),
            _ => told.push(json!({"type": "namespace", "name": namespace, "description": "", "tools": [one]})),
        }
    }
    told
}

fn push(map: &mut Map<String, Value>, tool: Value) {
    if let Some(Value::Array(tools)) = map.get_mut("tools") {
        tools.push(tool);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools_of(tools: Value, choice: Value) -> Result<Tools, WireError> {
        let body = [("tools".to_owned(), tools), ("tool_choice".to_owned(), choice)];
        let mut fields = Fields::of("", Value::Object(body.into_iter().collect()))?;
        let tools = take(&mut fields, |_| ())?;
        fields.finish(&[])?;
        Ok(tools)
    }

    #[test]
    fn custom_tools_are_given_text() {
        let format = json!({"type": "grammar", "syntax": "lark", "definition": "start: \"a\""});
        let tool = json!({"type": "custom", "name": "note", "description": "Notes.", "format": format});
        let tools = tools_of(json!([tool]), json!({"type": "custom", "name": "note"})).unwrap();
        assert_eq!(tools.choice, ToolChoice::Named("note".into()));
        let read = &tools.list[0];
        assert!(read.strict && read.parameters["properties"]["input"]["type"] == "string");
        assert_eq!(read.text.as_ref().unwrap().form, Some(Form::Lark("start: \"a\"".into())));
        assert_eq!(echoed(&tools.list)[0]["format"], format);
        let plain = tools_of(json!([{"type": "custom", "name": "note"}]), Value::Null).unwrap();
        assert!(!plain.list[0].strict && plain.list[0].text.as_ref().unwrap().form.is_none());
    }

    #[test]
    fn what_is_in_a_namespace_has_its_name() {
        let inner =
            json!([{"type": "function", "name": "read", "parameters": null}, {"type": "custom", "name": "note"}]);
        let namespace = json!({"type": "namespace", "name": "mcp__files", "description": "Files.", "tools": inner});
        let alone = json!({"type": "function", "name": "read"});
        let choice = json!({"type": "function", "name": "read", "namespace": "mcp__files"});
        let tools = tools_of(json!([namespace, alone]), choice).unwrap();
        let names: Vec<_> = tools.list.iter().map(|tool| (tool.name.as_str(), tool.own_name())).collect();
        assert_eq!(names, [("mcp__files.read", "read"), ("mcp__files.note", "note"), ("read", "read")]);
        assert_eq!(tools.choice, ToolChoice::Named("mcp__files.read".into()));
        let told = echoed(&tools.list);
        assert_eq!((told.len(), &told[0]["tools"][1]["name"], &told[1]["name"]), (2, &json!("note"), &json!("read")));
    }

    #[test]
    fn what_openai_runs_is_left_alone_or_refused() {
        let offered = json!([{"type": "web_search", "external_web_access": false}, {"type": "image_generation"}]);
        assert_eq!(tools_of(offered.clone(), json!("auto")).unwrap().list, []);
        assert_eq!(tools_of(offered, json!("required")).unwrap_err().param.as_deref(), Some("tool_choice"));
        let refused = tools_of(json!([{"type": "file_search", "vector_store_ids": ["x"]}]), Value::Null).unwrap_err();
        assert_eq!(refused.param.as_deref(), Some("tools[0].type"));
    }
}
