//! `tools`, `tool_choice` and `parallel_tool_calls`.

use serde_json::{Value, json};

use crate::constraint::Form;
use crate::conversation::{FreeText, Tool, ToolChoice, Tools};
use crate::fields::{Fields, WireError};

/// Tools of one request: agents send dozens.
pub(crate) const TOOLS_MAX: usize = 512;
/// Characters of a tool's name, as OpenAI's API has it.
pub(crate) const NAME_CHARS_MAX: usize = 64;
/// Bytes of what all tools are given together, as JSON text.
const SCHEMAS_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of what a custom tool's text must be.
pub(crate) const GRAMMAR_BYTES_MAX: usize = 64 * 1024;

impl Tools {
    /// Takes what chat completions say of tools.
    pub(crate) fn take(fields: &mut Fields) -> Result<Self, WireError> {
        let list = match fields.take("tools") {
            None => Vec::new(),
            Some(value) => tools(&fields.path_of("tools"), value, tool)?,
        };
        let choice = fields.take("tool_choice");
        let parallel = fields.boolean("parallel_tool_calls")?;
        let tools = Self { list, choice: ToolChoice::Auto, parallel };
        let Some(choice) = choice else { return Ok(tools) };
        tools.chosen(&fields.path_of("tool_choice"), choice)
    }

    /// These tools with what `tool_choice` says of them.
    fn chosen(self, path: &str, value: Value) -> Result<Self, WireError> {
        if let Value::String(word) = &value {
            return self.choosing(path, word_choice(path, word)?);
        }
        let mut fields = Fields::of(path, value)?;
        let kind = fields.required_string("type")?;
        match kind.as_str() {
            "function" | "custom" => {
                let name = tool_name(&kind, &mut fields)?;
                fields.finish(&[])?;
                self.choosing(path, ToolChoice::Named(name))
            }
            "allowed_tools" => {
                let allowed = Fields::of(&fields.path_of("allowed_tools"), fields.required("allowed_tools")?)?;
                fields.finish(&[])?;
                self.allowed(allowed, tool_name)
            }
            _ => Err(fields.out_of_range("type", "function, custom or allowed_tools")),
        }
    }

    /// These tools, narrowed to those that are allowed, each named as `name` reads it.
    pub(crate) fn allowed(
        self,
        mut fields: Fields,
        name: impl Fn(&str, &mut Fields) -> Result<String, WireError>,
    ) -> Result<Self, WireError> {
        let choice = match fields.required_string("mode")?.as_str() {
            "auto" => ToolChoice::Auto,
            "required" => ToolChoice::Required,
            _ => return Err(fields.out_of_range("mode", "auto or required")),
        };
        let path = fields.path_of("tools");
        let Value::Array(values) = fields.required("tools")? else {
            return Err(fields.out_of_range("tools", "an array of tools"));
        };
        fields.finish(&[])?;
        let mut names = Vec::new();
        for (index, value) in values.into_iter().enumerate() {
            let mut tool = Fields::of(&format!("{path}[{index}]"), value)?;
            let kind = tool.required_string("type")?;
            if !matches!(kind.as_str(), "function" | "custom") {
                return Err(tool.out_of_range("type", "function or custom"));
            }
            names.push(name(&kind, &mut tool)?);
            tool.finish(&[])?;
        }
        self.narrowed(&path, &names)?.choosing(&path, choice)
    }

    /// These tools with this choice among them.
    ///
    /// # Errors
    /// [`WireError`] where there is nothing to choose.
    pub(crate) fn choosing(self, path: &str, choice: ToolChoice) -> Result<Self, WireError> {
        let missing = match &choice {
            ToolChoice::Auto | ToolChoice::None => None,
            ToolChoice::Required if self.list.is_empty() => Some("tool".to_owned()),
            ToolChoice::Named(name) if !self.list.iter().any(|tool| tool.name == *name) => {
                Some(format!("tool `{}`", name.chars().take(NAME_CHARS_MAX).collect::<String>()))
            }
            ToolChoice::Required | ToolChoice::Named(_) => None,
        };
        match missing {
            Some(what) => {
                Err(WireError::new(path, "invalid_value", format!("`{path}` asks for a call, but there is no {what}")))
            }
            None => Ok(Self { choice, ..self }),
        }
    }

    /// These tools, narrowed to some of them.
    fn narrowed(mut self, path: &str, names: &[String]) -> Result<Self, WireError> {
        if let Some(unknown) = names.iter().find(|name| !self.list.iter().any(|tool| tool.name == **name)) {
            let name: String = unknown.chars().take(NAME_CHARS_MAX).collect();
            return Err(WireError::new(path, "invalid_value", format!("there is no tool `{name}`")));
        }
        self.list.retain(|tool| names.contains(&tool.name));
        Ok(self)
    }
}

/// The name in `function` or `custom`, as chat completions have it.
fn tool_name(kind: &str, fields: &mut Fields) -> Result<String, WireError> {
    let mut function = Fields::of(&fields.path_of(kind), fields.required(kind)?)?;
    let name = function.required_string("name")?;
    function.finish(&[])?;
    Ok(name)
}

/// A choice that is one word.
pub(crate) fn word_choice(path: &str, word: &str) -> Result<ToolChoice, WireError> {
    match word {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::None),
        "required" => Ok(ToolChoice::Required),
        _ => Err(WireError::out_of_range(path, "none, auto, required or an object that names a tool")),
    }
}

/// Reads tools, each by `read`.
pub(crate) fn tools(
    path: &str,
    value: Value,
    mut read: impl FnMut(&str, Value) -> Result<Tool, WireError>,
) -> Result<Vec<Tool>, WireError> {
    let Value::Array(values) = value else { return Err(WireError::wrong_type(path, "an array", &value)) };
    if values.len() > TOOLS_MAX {
        return Err(WireError::out_of_range(path, &format!("at most {TOOLS_MAX} tools")));
    }
    let mut list: Vec<Tool> = Vec::with_capacity(values.len());
    let mut bytes = 0;
    for (index, value) in values.into_iter().enumerate() {
        let path = format!("{path}[{index}]");
        let tool = read(&path, value)?;
        bytes += tool.parameters.to_string().len();
        if bytes > SCHEMAS_BYTES_MAX {
            return Err(WireError::out_of_range(&path, &format!("with the others at most {SCHEMAS_BYTES_MAX} bytes")));
        }
        if list.iter().any(|other| other.name == tool.name) {
            let message = format!("there are two tools `{}`", tool.name);
            return Err(WireError::new(&path, "invalid_value", message));
        }
        list.push(tool);
    }
    Ok(list)
}

/// A tool of chat completions.
fn tool(path: &str, value: Value) -> Result<Tool, WireError> {
    let mut fields = Fields::of(path, value)?;
    let kind = fields.required_string("type")?;
    if !matches!(kind.as_str(), "function" | "custom") {
        return Err(fields.out_of_range("type", "function or custom"));
    }
    let inner = Fields::of(&fields.path_of(&kind), fields.required(&kind)?)?;
    cache_control(&mut fields)?;
    fields.finish(&[])?;
    if kind == "custom" {
        return custom_of(inner, |fields| Fields::of(&fields.path_of("grammar"), fields.required("grammar")?));
    }
    function_of(inner)
}

/// Where a prompt's cache is to end, in the words of clients that also speak to Anthropic's models. What was known
/// before is found without it.
pub(crate) fn cache_control(fields: &mut Fields) -> Result<(), WireError> {
    match fields.take("cache_control") {
        None | Some(Value::Object(_)) => Ok(()),
        Some(other) => Err(fields.wrong_type("cache_control", "an object", &other)),
    }
}

/// A custom tool, with its fields side by side; `grammar` finds what its format says of a grammar.
pub(crate) fn custom_of(
    mut fields: Fields,
    grammar: impl Fn(&mut Fields) -> Result<Fields, WireError>,
) -> Result<Tool, WireError> {
    let name = fields.required_string("name")?;
    check_name(&fields, &name)?;
    let described = fields.string("description")?;
    let form = match fields.take("format") {
        None => None,
        Some(value) => {
            let mut format = Fields::of(&fields.path_of("format"), value)?;
            match format.required_string("type")?.as_str() {
                "text" => {
                    format.finish(&[])?;
                    None
                }
                "grammar" => {
                    let mut inner = grammar(&mut format)?;
                    let form = grammar_form(&mut inner)?;
                    inner.finish(&[])?;
                    Some(form)
                }
                _ => return Err(format.out_of_range("type", "text or grammar")),
            }
        }
    };
    fields.finish(&[])?;
    Ok(custom(name, described, form))
}

fn grammar_form(fields: &mut Fields) -> Result<Form, WireError> {
    let definition = fields.required_string("definition")?;
    if definition.is_empty() || definition.len() > GRAMMAR_BYTES_MAX {
        return Err(fields.out_of_range("definition", &format!("1 to {GRAMMAR_BYTES_MAX} bytes long")));
    }
    match fields.required_string("syntax")?.as_str() {
        "regex" => Ok(Form::Regex(definition)),
        "lark" => Ok(Form::Lark(definition)),
        _ => Err(fields.out_of_range("syntax", "lark or regex")),
    }
}

/// A tool whose one argument is its text. What the text must be is also told in words: models write better what they
/// know of, and another server has nothing else to go by.
fn custom(name: String, described: Option<String>, form: Option<Form>) -> Tool {
    let mut input = json!({"type": "string"});
    let told = match &form {
        Some(Form::Regex(regex)) => {
            input["pattern"] = json!(format!("^(?:{regex})$"));
            Some(format!("The input matches the regular expression {regex}"))
        }
        Some(Form::Lark(lark)) => Some(format!("The input is text of this Lark grammar:\n{lark}")),
        _ => None,
    };
    let description = [described, told].into_iter().flatten().reduce(|said, told| format!("{said}\n\n{told}"));
    let parameters = json!({"type": "object", "properties": {"input": input}, "required": ["input"],
        "additionalProperties": false});
    let strict = form.is_some();
    Tool { name, description, parameters, strict, text: Some(FreeText { form }), namespace: None }
}

/// A function, with its fields side by side.
pub(crate) fn function_of(mut fields: Fields) -> Result<Tool, WireError> {
    let name = fields.required_string("name")?;
    check_name(&fields, &name)?;
    let description = fields.string("description")?;
    let parameters = match fields.take("parameters") {
        // As OpenAI has it: nothing is given.
        None => json!({"type": "object", "properties": {}}),
        Some(value) => schema(&fields.path_of("parameters"), value)?,
    };
    let strict = fields.boolean("strict")?.unwrap_or(false);
    fields.finish(&[])?;
    Ok(Tool { name, description, parameters, strict, text: None, namespace: None })
}

pub(crate) fn check_name(fields: &Fields, name: &str) -> Result<(), WireError> {
    let is_name = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(is_name) {
        let wanted = format!("1 to {NAME_CHARS_MAX} letters, digits, dashes and underscores");
        return Err(fields.out_of_range("name", &wanted));
    }
    Ok(())
}

/// A schema of what a tool is given: of an object, since its arguments have names.
pub(crate) fn schema(path: &str, value: Value) -> Result<Value, WireError> {
    let Value::Object(map) = &value else { return Err(WireError::wrong_type(path, "an object", &value)) };
    match map.get("type") {
        None => Ok(value),
        Some(kind) if kind == "object" => Ok(value),
        Some(_) => Err(WireError::out_of_range(&format!("{path}.type"), "\"object\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(body: Value) -> Result<Tools, WireError> {
        let mut fields = Fields::of("", body)?;
        let tools = Tools::take(&mut fields)?;
        fields.finish(&[])?;
        Ok(tools)
    }

    fn function(name: &str) -> Value {
        json!({"type": "function", "function": {"name": name}})
    }

    #[test]
    fn tools_are_read_and_chosen() {
        let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
        let weather = json!({"type": "function", "function":
            {"name": "weather", "description": "It rains.", "parameters": schema, "strict": true}});
        let tools = take(json!({"tools": [weather, function("time")], "parallel_tool_calls": false})).unwrap();
        let read = Tool {
            name: "weather".into(),
            description: Some("It rains.".into()),
            parameters: schema,
            strict: true,
            text: None,
            namespace: None,
        };
        assert_eq!(tools.list[0], read);
        let nothing = json!({"type": "object", "properties": {}});
        assert_eq!((tools.list[1].strict, &tools.list[1].parameters), (false, &nothing));
        assert_eq!((tools.choice, tools.parallel), (ToolChoice::Auto, Some(false)));

        let choose = |choice: Value| take(json!({"tools": [function("a"), function("b")], "tool_choice": choice}));
        assert_eq!(choose(json!("required")).unwrap().choice, ToolChoice::Required);
        assert_eq!(choose(json!("none")).unwrap().callable(), []);
        assert_eq!(choose(function("b")).unwrap().choice, ToolChoice::Named("b".into()));
        let allowed = json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [function("b")]}});
        let allowed = choose(allowed).unwrap();
        assert_eq!((allowed.list.len(), allowed.list[0].name.as_str()), (1, "b"));
        assert_eq!(allowed.choice, ToolChoice::Required);
    }

    #[test]
    fn what_cannot_be_called_is_refused_by_name() {
        let refused = |body: Value, param: &str, code: &str| {
            let error = take(body).unwrap_err();
            assert_eq!((error.param.as_deref(), error.code), (Some(param), Some(code)), "{error}");
        };
        let one = |tool: Value| json!({"tools": [tool]});
        refused(json!({"tools": 5}), "tools", "invalid_type");
        refused(one(json!("f")), "tools[0]", "invalid_type");
        refused(one(json!({"type": "function"})), "tools[0].function", "missing_required_parameter");
        refused(one(json!({"type": "custom", "custom": {}})), "tools[0].custom.name", "missing_required_parameter");
        let noted = |format: Value| one(json!({"type": "custom", "custom": {"name": "n", "format": format}}));
        refused(noted(json!({"type": "xml"})), "tools[0].custom.format.type", "invalid_value");
        let grammar = json!({"type": "grammar", "grammar": {"syntax": "bnf", "definition": "x"}});
        refused(noted(grammar), "tools[0].custom.format.grammar.syntax", "invalid_value");
        refused(one(json!({"type": "web_search"})), "tools[0].type", "invalid_value");
        refused(one(function("")), "tools[0].function.name", "invalid_value");
        refused(one(function("a b")), "tools[0].function.name", "invalid_value");
        refused(one(function(&"x".repeat(65))), "tools[0].function.name", "invalid_value");
        let given =
            |parameters: Value| one(json!({"type": "function", "function": {"name": "f", "parameters": parameters}}));
        refused(given(json!("x")), "tools[0].function.parameters", "invalid_type");
        refused(given(json!({"type": "array"})), "tools[0].function.parameters.type", "invalid_value");
        refused(json!({"tools": [function("f"), function("f")]}), "tools[1]", "invalid_value");
        refused(json!({"tools": vec![function("f"); 513]}), "tools", "invalid_value");
        refused(json!({"tool_choice": "required"}), "tool_choice", "invalid_value");
        refused(json!({"tool_choice": "some"}), "tool_choice", "invalid_value");
        refused(json!({"tools": [function("f")], "tool_choice": function("g")}), "tool_choice", "invalid_value");
    }
}
