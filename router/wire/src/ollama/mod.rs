//! Ollama's own API: `POST /api/chat`, `POST /api/generate`, and what goes with them.

mod embed;
mod keep;
mod messages;
mod options;
mod order;
mod response;

use std::time::Duration;

use serde_json::{Map, Value};

pub use embed::{Embedded, EmbeddedOne, OllamaEmbed};
pub use order::{CopyOrder, PullOrder};
pub use response::{
    Answered, AnsweredMessage, Called, CalledName, Details, Durations, ListedModels, LoadedModel, LoadedModels,
    ModelEntry, Shown, Status, Trouble, VersionBody,
};

pub(crate) use options::{BESIDE, MACHINE, STOPS_MAX};

use crate::completion::{CompletionRequest, Prompt};
use crate::constraint::{Constraint, Form, schema_text};
use crate::conversation::{ChatRequest, Effort, Message, Role, ToolChoice, Tools};
use crate::fields::{Envelope, Fields, WireError};
use crate::options::Options;
use crate::tools::{function_of, tools, word_choice};

/// Alternatives at each token.
pub(crate) const TOP_LOGPROBS_MAX: u32 = 20;

/// A conversation to go on with, in Ollama's words.
#[derive(Debug, Clone, PartialEq)]
pub struct OllamaChat(pub ChatRequest);

/// A prompt to answer, in Ollama's words.
#[derive(Debug, Clone, PartialEq)]
pub enum OllamaGenerate {
    /// In the words of the model's template.
    Templated(Box<ChatRequest>),
    /// As it is, or around a gap.
    Raw(Box<CompletionRequest>),
}

/// Whether a request asks for nothing but that its model is there. `prompt` is the field with what is asked.
#[must_use]
pub fn only_loads(body: &Map<String, Value>, prompt: &str) -> bool {
    match body.get(prompt) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(values)) => values.is_empty(),
        Some(_) => false,
    }
}

/// How long the model is to stay in memory, where a request only loads it: [`Duration::MAX`] for ever.
///
/// # Errors
/// [`WireError`] when it is no time.
pub fn keep_alive_of(body: &Map<String, Value>) -> Result<Option<Duration>, WireError> {
    let said = body.get("keep_alive").map(|value| ("keep_alive".to_owned(), value.clone()));
    keep::keep_alive(&mut Fields::new(said.into_iter().collect()))
}

/// The name of a model in a request about it; older clients call it `name`.
///
/// # Errors
/// [`WireError`] when there is none, or something besides it that is not `known`.
pub fn model_name(bytes: &[u8], known: &[&str]) -> Result<String, WireError> {
    let mut fields = order::fields(bytes)?;
    let name = order::name(&mut fields)?;
    known.iter().for_each(|field| drop(fields.take(field)));
    fields.finish(&[])?;
    Ok(name)
}

impl OllamaChat {
    /// Validates a request.
    ///
    /// # Errors
    /// [`WireError`] naming the field that cannot be honoured.
    pub fn parse(envelope: Envelope) -> Result<Self, WireError> {
        let mut fields = Fields::new(envelope.body);
        fields.take("model");
        let messages = messages::messages(fields.required("messages")?)?;
        let list = match fields.take("tools") {
            None => Vec::new(),
            Some(value) => tools("tools", value, tool)?,
        };
        let tools = Tools { list, choice: ToolChoice::Auto, parallel: None };
        let tools = match fields.take("tool_choice") {
            None => tools,
            Some(value) => chosen(tools, value)?,
        };
        let rest = Rest::take(&mut fields)?;
        fields.finish(&[])?;
        Ok(Self(rest.chat(envelope.model, messages, tools)))
    }
}

impl OllamaGenerate {
    /// Validates a request.
    ///
    /// # Errors
    /// [`WireError`] naming the field that cannot be honoured.
    pub fn parse(envelope: Envelope) -> Result<Self, WireError> {
        let mut fields = Fields::new(envelope.body);
        fields.take("model");
        let prompt = fields.required_string("prompt")?;
        let system = fields.string("system")?.filter(|system| !system.is_empty());
        let suffix = fields.string("suffix")?.filter(|suffix| !suffix.is_empty());
        let raw = fields.boolean("raw")?.unwrap_or(false);
        let empty = |value: &Value| value == "" || value.as_array().is_some_and(Vec::is_empty);
        for (name, why) in [
            ("context", ": send the conversation as `messages` to /api/chat"),
            ("template", ": models here have their own"),
        ] {
            if fields.take(name).is_some_and(|value| !empty(&value)) {
                return Err(fields.unsupported(name, why));
            }
        }
        let images = messages::images(&mut fields)?;
        // Names the end user to us; it changes nothing in the answer.
        fields.string("user")?;
        fields.only("echo", |value| value == false)?;
        let rest = Rest::take(&mut fields)?;
        fields.finish(&["width", "height", "steps"])?;
        if raw || suffix.is_some() {
            let name = if raw { "raw" } else { "suffix" };
            if system.is_some() || !images.is_empty() || (raw && suffix.is_some()) {
                let besides = if raw { "`system`, `suffix` or `images`" } else { "`system` or `images`" };
                let message = format!("`{name}` sends the prompt as it is: nothing of {besides} has a place in it");
                return Err(WireError::new(name, "invalid_value", message));
            }
            let Rest { top_logprobs, options, .. } = rest;
            let prompts = vec![Prompt::Text(prompt)];
            return Ok(Self::Raw(Box::new(CompletionRequest {
                model: envelope.model,
                prompts,
                top_logprobs,
                echo: false,
                suffix,
                options,
            })));
        }
        let mut user = Message::text(Role::User, prompt);
        user.content.extend(images);
        let messages = system.map(|system| Message::text(Role::System, system)).into_iter().chain([user]).collect();
        Ok(Self::Templated(Box::new(rest.chat(envelope.model, messages, Tools::default()))))
    }
}

/// What both have besides the prompt.
struct Rest {
    effort: Option<Effort>,
    top_logprobs: Option<u8>,
    options: Options,
}

impl Rest {
    fn take(fields: &mut Fields) -> Result<Self, WireError> {
        let stream = fields.boolean("stream")?.unwrap_or(true);
        let constraint = format(fields)?;
        let keep_alive = keep::keep_alive(fields)?;
        options::gather(fields)?;
        let options = Options { stream, constraint, keep_alive, ..options::options(fields)? };
        let logprobs = fields.boolean("logprobs")?.unwrap_or(false);
        let top = fields.count("top_logprobs", 0..=TOP_LOGPROBS_MAX)?.unwrap_or(0);
        let drops_oldest = fields.boolean("truncate")?.unwrap_or(false);
        // The context never moves on while an answer is made.
        fields.boolean("shift")?;
        let top_logprobs = logprobs.then(|| u8::try_from(top).expect("it is at most 20"));
        Ok(Self { effort: think(fields)?, top_logprobs, options: Options { drops_oldest, ..options } })
    }

    fn chat(self, model: String, messages: Vec<Message>, tools: Tools) -> ChatRequest {
        ChatRequest {
            model,
            begun: false,
            messages,
            tools,
            effort: self.effort,
            prediction: None,
            template_variables: Map::new(),
            top_logprobs: self.top_logprobs,
            store: false,
            metadata: Map::new(),
            options: self.options,
        }
    }
}

/// What the answer must be: any JSON object, or what a schema says.
fn format(fields: &mut Fields) -> Result<Option<Constraint>, WireError> {
    let form = match fields.take("format") {
        None => return Ok(None),
        Some(Value::String(word)) if word.is_empty() => return Ok(None),
        Some(Value::String(word)) if word == "json" => Form::JsonObject,
        Some(schema @ Value::Object(_)) => schema_text("format", schema)?,
        Some(_) => return Err(fields.out_of_range("format", "\"json\" or a JSON schema")),
    };
    Ok(Some(Constraint { param: "format".to_owned(), form }))
}

fn think(fields: &mut Fields) -> Result<Option<Effort>, WireError> {
    match fields.take("think") {
        None => Ok(None),
        Some(Value::Bool(false)) => Ok(Some(Effort::None)),
        Some(Value::Bool(true)) => Ok(Some(Effort::Medium)),
        Some(Value::String(word)) => match word.as_str() {
            "low" => Ok(Some(Effort::Low)),
            "medium" => Ok(Some(Effort::Medium)),
            "high" => Ok(Some(Effort::High)),
            _ => Err(fields.out_of_range("think", "true, false, low, medium or high")),
        },
        Some(other) => Err(fields.wrong_type("think", "a boolean or a word", &other)),
    }
}

/// Which tool must be called. Ollama's API cannot say it; programs made for several APIs do, in OpenAI's words of either API.
fn chosen(tools: Tools, value: Value) -> Result<Tools, WireError> {
    const PATH: &str = "tool_choice";
    if let Value::String(word) = &value {
        return tools.choosing(PATH, word_choice(PATH, word)?);
    }
    let mut fields = Fields::of(PATH, value)?;
    if fields.required_string("type")? != "function" {
        return Err(fields.out_of_range("type", "function"));
    }
    let name = match fields.take("function") {
        None => fields.required_string("name")?,
        Some(_) if fields.peek("name").is_some() => {
            return Err(fields.error("name", "invalid_value", "`tool_choice` names a tool once"));
        }
        Some(value) => {
            let mut function = Fields::of(&fields.path_of("function"), value)?;
            let name = function.required_string("name")?;
            function.finish(&[])?;
            name
        }
    };
    fields.finish(&[])?;
    tools.choosing(PATH, ToolChoice::Named(name))
}

/// A tool; clients leave its type out.
fn tool(path: &str, value: Value) -> Result<crate::conversation::Tool, WireError> {
    let mut fields = Fields::of(path, value)?;
    if fields.string("type")?.is_some_and(|kind| !matches!(kind.as_str(), "" | "function")) {
        return Err(fields.out_of_range("type", "function"));
    }
    let function = Fields::of(&fields.path_of("function"), fields.required("function")?)?;
    fields.finish(&[])?;
    function_of(function)
}

#[cfg(test)]
mod tests;
