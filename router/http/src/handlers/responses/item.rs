//! The items of a response.

use data_encoding::BASE64;
use serde_json::{Value, json};

use super::sealed_about;
use super::writer::Manner;

/// One item.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) id: String,
    pub(crate) status: &'static str,
    pub(crate) body: Body,
}

/// What it says.
#[derive(Debug)]
pub(crate) enum Body {
    Thought { text: String },
    Message { text: String, logprobs: Vec<Value> },
    Call { call_id: String, called: Called, given: String },
}

/// What a call is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Called {
    pub(crate) name: String,
    pub(crate) namespace: Option<String>,
    /// Whether it is given text.
    pub(crate) is_custom: bool,
}

impl Item {
    pub(crate) fn thought(name: &str) -> Self {
        Self::new(format!("rs_{name}"), Body::Thought { text: String::new() })
    }

    pub(crate) fn message(name: &str) -> Self {
        Self::new(format!("msg_{name}"), Body::Message { text: String::new(), logprobs: Vec::new() })
    }

    pub(crate) fn call(name: &str, call_id: String, called: Called) -> Self {
        let prefix = if called.is_custom { "ctc" } else { "fc" };
        Self::new(format!("{prefix}_{name}"), Body::Call { call_id, called, given: String::new() })
    }

    fn new(id: String, body: Body) -> Self {
        Self { id, status: "in_progress", body }
    }

    /// As on the wire; what is new has no parts yet.
    pub(crate) fn json(&self, manner: &Manner, new: bool) -> Value {
        let (id, status) = (&self.id, self.status);
        match &self.body {
            Body::Thought { text } => {
                let part = |kind: &str| if new { json!([]) } else { json!([{"type": kind, "text": text}]) };
                let (summary, content) = if manner.summary {
                    (part("summary_text"), json!([]))
                } else {
                    (json!([]), part("reasoning_text"))
                };
                let sealed = manner.sealed.as_ref().filter(|_| !new);
                let sealed =
                    sealed.map(|(seal, owner)| BASE64.encode(&seal.seal(&sealed_about(*owner), text.as_bytes())));
                json!({"id": id, "type": "reasoning", "summary": summary, "content": content,
                    "encrypted_content": sealed, "status": status})
            }
            Body::Message { text, logprobs } => {
                let part = json!({"type": "output_text", "annotations": [], "logprobs": logprobs, "text": text});
                let content = if new { json!([]) } else { json!([part]) };
                json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": content})
            }
            Body::Call { call_id, called: Called { name, namespace, is_custom }, given } => {
                let (kind, field) =
                    if *is_custom { ("custom_tool_call", "input") } else { ("function_call", "arguments") };
                let mut call = json!({"id": id, "type": kind, "status": status, "call_id": call_id, "name": name,
                    field: given});
                if let Some(namespace) = namespace {
                    call["namespace"] = json!(namespace);
                }
                call
            }
        }
    }
}
