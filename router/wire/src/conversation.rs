//! A conversation as every API has it: requests of all of them become one of these, and templates and other servers
//! get it in OpenAI's words.

use serde_json::{Map, Value, json};

use crate::constraint::Form;
use crate::options::Options;

/// A validated request to go on with a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// The model asked for.
    pub model: String,
    /// The conversation, at least one message.
    pub messages: Vec<Message>,
    /// Whether the last message is the beginning of the answer, which goes on with it: text of the model alone.
    pub begun: bool,
    /// What the model may call, and whether it must.
    pub tools: Tools,
    /// How much the model is to think before it answers; `None` leaves it to the model.
    pub effort: Option<Effort>,
    /// Text that the answer is expected to repeat much of; only the speed follows from it.
    pub prediction: Option<String>,
    /// More variables for the model's chat template, by the names that it has for them.
    pub template_variables: Map<String, Value>,
    /// Log probabilities wanted: how many alternatives at each token.
    pub top_logprobs: Option<u8>,
    /// Whether the answer is kept, to be asked for again.
    pub store: bool,
    /// The client's own words about the request.
    pub metadata: Map<String, Value>,
    /// The rest.
    pub options: Options,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Whoever runs the program; `developer` in newer requests.
    System,
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
    /// What a tool answered.
    Tool,
}

impl Role {
    /// The word that templates know.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order; may be empty where tools are called.
    pub content: Vec<Part>,
    /// The speaker, for templates that tell several apart; of a tool's answer, the tool.
    pub name: Option<String>,
    /// What the model thought before it spoke.
    pub reasoning: Option<String>,
    /// What the model called.
    pub tool_calls: Vec<ToolCall>,
    /// Which call a tool's answer is to.
    pub tool_call_id: Option<String>,
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text.
    Text(String),
    /// A picture.
    Image {
        /// Its address, or itself as a `data:` address.
        url: String,
        /// `low`, `high` or `auto`, for models that know the difference.
        detail: Option<String>,
    },
}

/// A tool that the model called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// Names the call, so that its answer can.
    pub id: String,
    /// The tool.
    pub name: String,
    /// What it is given, as JSON text.
    pub arguments: String,
}

/// What the model may call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tools {
    /// The tools, each name once.
    pub list: Vec<Tool>,
    /// Whether one must be called.
    pub choice: ToolChoice,
    /// Whether several may be called at once; `None` where nothing is said of it.
    pub parallel: Option<bool>,
}

/// A function that the model may ask to be called.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Letters, digits, dashes and underscores.
    pub name: String,
    /// What it does, for the model.
    pub description: Option<String>,
    /// The JSON schema of what it is given; an object.
    pub parameters: Value,
    /// Whether a call never differs from the schema, also where the model is free to call.
    pub strict: bool,
    /// Where the client's program is given text: a custom tool. Models write it as the one argument `input`.
    pub text: Option<FreeText>,
    /// The group that it is one of, by which its name begins, in the Responses API.
    pub namespace: Option<String>,
}

/// What a custom tool is given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FreeText {
    /// What the text must be, where it may not be anything: a regular expression or a Lark grammar.
    pub form: Option<Form>,
}

/// Whether a tool must be called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// As the model sees fit.
    #[default]
    Auto,
    /// Never.
    None,
    /// At least one.
    Required,
    /// This one.
    Named(String),
}

/// How much a model thinks before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words are OpenAI's")]
pub enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
    Max,
}

impl Effort {
    /// OpenAI's words, least first.
    pub const ALL: [(&'static str, Self); 7] = [
        ("none", Self::None),
        ("minimal", Self::Minimal),
        ("low", Self::Low),
        ("medium", Self::Medium),
        ("high", Self::High),
        ("xhigh", Self::Xhigh),
        ("max", Self::Max),
    ];

    /// What so many tokens to think with stand for.
    #[must_use]
    pub fn of_budget(tokens: u32) -> Self {
        match tokens {
            0 => Self::None,
            1..4096 => Self::Low,
            4096..16_384 => Self::Medium,
            _ => Self::High,
        }
    }

    /// OpenAI's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, effort)| *effort == self).map_or("", |(name, _)| name)
    }
}

impl Tools {
    /// The tools that may be called: none where calling is forbidden.
    #[must_use]
    pub fn callable(&self) -> &[Tool] {
        if self.choice == ToolChoice::None { &[] } else { &self.list }
    }
}

impl Message {
    /// Whether it says something, and nothing but text.
    #[must_use]
    pub fn is_text(&self) -> bool {
        let says = self.content.iter().all(|part| matches!(part, Part::Text(_))) && !self.all_text().is_empty();
        says && self.reasoning.is_none() && self.tool_calls.is_empty()
    }

    /// A message of text alone.
    #[must_use]
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self {
            role,
            content: vec![Part::Text(text.into())],
            name: None,
            reasoning: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
        }
    }

    /// All text of the message; pictures are left out.
    #[must_use]
    pub fn all_text(&self) -> String {
        let texts = self.content.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Image { .. } => None,
        });
        texts.collect()
    }

    /// As chat templates read it: text in one string, arguments of calls as objects.
    #[must_use]
    pub fn for_template(&self) -> Value {
        let content = Value::String(self.all_text());
        self.json(content, |arguments| serde_json::from_str(arguments).unwrap_or_else(|_| json!(arguments)))
    }

    /// As OpenAI's API has it.
    #[must_use]
    pub fn for_upstream(&self) -> Value {
        let content = match self.content.as_slice() {
            [] => Value::Null,
            [Part::Text(text)] => json!(text),
            parts => parts.iter().map(Part::json).collect(),
        };
        self.json(content, |arguments| json!(arguments))
    }

    fn json(&self, content: Value, arguments: impl Fn(&str) -> Value) -> Value {
        let mut map = Map::new();
        map.insert("role".into(), json!(self.role.as_str()));
        map.insert("content".into(), content);
        if let Some(name) = &self.name {
            map.insert("name".into(), json!(name));
        }
        if let Some(reasoning) = &self.reasoning {
            map.insert("reasoning_content".into(), json!(reasoning));
        }
        if !self.tool_calls.is_empty() {
            let call = |call: &ToolCall| {
                let function = json!({"name": call.name, "arguments": arguments(&call.arguments)});
                json!({"id": call.id, "type": "function", "function": function})
            };
            map.insert("tool_calls".into(), self.tool_calls.iter().map(call).collect());
        }
        if let Some(id) = &self.tool_call_id {
            map.insert("tool_call_id".into(), json!(id));
        }
        Value::Object(map)
    }
}

impl Part {
    fn json(&self) -> Value {
        match self {
            Self::Text(text) => json!({"type": "text", "text": text}),
            Self::Image { url, detail: None } => json!({"type": "image_url", "image_url": {"url": url}}),
            Self::Image { url, detail: Some(detail) } => {
                json!({"type": "image_url", "image_url": {"url": url, "detail": detail}})
            }
        }
    }
}

impl Tool {
    /// The name that it has in its namespace.
    #[must_use]
    pub fn own_name(&self) -> &str {
        let namespace = self.namespace.as_deref().unwrap_or_default();
        let own = self.name.strip_prefix(namespace).and_then(|rest| rest.strip_prefix('.'));
        own.filter(|_| !namespace.is_empty()).unwrap_or(&self.name)
    }

    /// As templates and OpenAI's API have it.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut function = Map::new();
        function.insert("name".into(), json!(self.name));
        if let Some(description) = &self.description {
            function.insert("description".into(), json!(description));
        }
        function.insert("parameters".into(), self.parameters.clone());
        if self.strict {
            function.insert("strict".into(), json!(true));
        }
        json!({"type": "function", "function": function})
    }
}
