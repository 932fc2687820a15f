//! How a conversation is put to a model of this box: in the words of its template, and so that its answer can be read.

use allerac_engine_core::Grammar;
use allerac_engine_link::protocol::{ChatInput, ModelInfo};
use allerac_parse::{Dialect, Format, Parser, escaped_lark, fitted, grammar, teach};
use allerac_wire::{ChatRequest, Effort, Form, Message, Part, ToolChoice, Tools};
use serde_json::{Value, json};

use crate::constraint::grammar_of;
use crate::error::ApiError;

/// A conversation for one model.
#[derive(Debug)]
pub(crate) struct Talk {
    pub(crate) input: ChatInput,
    dialect: Dialect,
    tools: Tools,
}

impl Talk {
    /// Puts a conversation in the words of a model.
    pub(crate) fn new(request: &ChatRequest, info: &ModelInfo) -> Result<Self, ApiError> {
        refuse_images(request)?;
        refuse_grammars(&request.tools)?;
        let template = info.chat_template.as_deref().unwrap_or_default();
        let dialect = Dialect::of_template(template);
        let (asked, begun) = split(request);
        let has_calls = asked.iter().any(|message| !message.tool_calls.is_empty());
        let wants_tools = !request.tools.callable().is_empty();
        let taught = ((wants_tools || has_calls) && !info.knows_tools).then(|| teach(dialect, asked, &request.tools));
        let messages = taught.as_deref().unwrap_or(asked).iter();
        let messages: Value = messages.map(|message| fitted(dialect, message).for_template()).collect();
        let tools: Option<Value> = (wants_tools && info.knows_tools)
            .then(|| request.tools.list.iter().map(allerac_wire::Tool::json).collect());
        let input = ChatInput {
            messages_json: messages.to_string(),
            tools_json: tools.map(|tools| tools.to_string()),
            variables_json: variables(request).map(|variables| variables.to_string()),
            prediction: request.prediction.clone(),
            begun,
        };
        let tools = if wants_tools { request.tools.clone() } else { Tools::default() };
        Ok(Self { input, dialect, tools })
    }

    /// Whether what the answer must be is known only when the prompt is rendered.
    pub(crate) fn may_think(&self) -> bool {
        self.dialect.has_thoughts()
    }

    /// What the answer must be, where the prompt ends like this.
    pub(crate) fn grammar(&self, request: &ChatRequest, prompt_end: &str) -> Option<Grammar> {
        let constraint = request.options.constraint.as_ref();
        let in_thought = self.dialect.begins_in_thought(prompt_end);
        let form = constraint.map(|constraint| &constraint.form);
        let format = grammar(self.dialect, &self.tools, form, in_thought);
        format.map(|Format { lark, words }| Grammar::Words { lark, words }).or_else(|| constraint.map(grammar_of))
    }

    /// An answer that was begun can go on only where it is plain text from its first word on.
    pub(crate) fn check_begun(&self, grammar: Option<&Grammar>, prompt_end: &str) -> Result<(), ApiError> {
        let why = if self.input.begun.is_none() {
            return Ok(());
        } else if grammar.is_some() {
            "its form is given, or a tool must be called"
        } else if self.dialect == Dialect::Harmony || self.dialect.begins_in_thought(prompt_end) {
            "this model thinks before it answers"
        } else {
            return Ok(());
        };
        let message = format!("the last message begins the answer for the model, which cannot go on with it: {why}");
        Err(ApiError::invalid_value("messages", &message))
    }

    /// Reads one answer to a prompt that ends like this.
    pub(crate) fn parser(&self, prompt_end: &str) -> Parser {
        let calls = !self.tools.callable().is_empty();
        let in_thought = self.dialect.begins_in_thought(prompt_end);
        Parser::new(self.dialect, calls, in_thought).with_tools(&self.tools.list)
    }

    /// Whether control tokens must be seen to read an answer. Some model files have other dialects' words as such, too.
    pub(crate) fn control_words(&self) -> bool {
        self.dialect.has_control_words() || !self.tools.callable().is_empty()
    }

    /// Calls that one answer may have.
    pub(crate) fn calls_max(&self) -> u32 {
        match (self.tools.parallel, &self.tools.choice) {
            (_, ToolChoice::None) => 0,
            (Some(false), _) => 1,
            (Some(true) | None, _) => u32::MAX,
        }
    }
}

/// What is asked, and what the answer was begun with.
fn split(request: &ChatRequest) -> (&[Message], Option<String>) {
    match request.messages.split_last() {
        Some((last, asked)) if request.begun && !asked.is_empty() => (asked, Some(last.all_text())),
        _ => (&request.messages, None),
    }
}

/// What templates may know besides messages and tools.
fn variables(request: &ChatRequest) -> Option<Value> {
    let mut variables = request.template_variables.clone();
    if let Some(effort) = request.effort {
        let thinks = effort != Effort::None;
        let mut add = |name: &str, value| {
            variables.entry(name).or_insert(value);
        };
        // The names that Qwen's, DeepSeek's and gpt-oss's templates have for it.
        add("enable_thinking", json!(thinks));
        add("thinking", json!(thinks));
        let word = match effort {
            Effort::None | Effort::Minimal => Effort::Low,
            Effort::Xhigh | Effort::Max => Effort::High,
            effort => effort,
        };
        add("reasoning_effort", json!(word.as_str()));
    }
    (!variables.is_empty()).then_some(Value::Object(variables))
}

/// What the text of a custom tool must be is read before anything is promised.
fn refuse_grammars(tools: &Tools) -> Result<(), ApiError> {
    for (index, tool) in tools.list.iter().enumerate() {
        if let Some(Form::Lark(lark)) = tool.text.as_ref().and_then(|text| text.form.as_ref()) {
            let param = format!("tools[{index}]");
            let refused =
                |error| ApiError::invalid_value(&param, &format!("`{param}` has a grammar that is wrong: {error}"));
            escaped_lark(lark).map_err(refused)?;
        }
    }
    Ok(())
}

/// Models here read text.
fn refuse_images(request: &ChatRequest) -> Result<(), ApiError> {
    for (index, message) in request.messages.iter().enumerate() {
        let image = message.content.iter().position(|part| matches!(part, Part::Image { .. }));
        if let Some(part) = image {
            let param = format!("messages[{index}].content[{part}]");
            let message = "there is an image in the messages; this model reads text only";
            return Err(ApiError::unsupported_value(&param, message));
        }
    }
    Ok(())
}
