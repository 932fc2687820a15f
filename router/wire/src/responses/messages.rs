//! From complete items to the messages of a conversation.

use serde_json::{Value, json};

use super::tools::full_name;
use crate::conversation::{Message, Part, Role, ToolCall};
use crate::fields::WireError;

/// The messages that instructions and items are. Items are those that [`ResponsesRequest`](super::ResponsesRequest)
/// made complete, or that a response gave; the first `known` of them were there before the request.
///
/// # Errors
/// [`WireError`] where the output of a call has no call before it.
pub fn item_messages(instructions: Option<&str>, items: &[Value], known: usize) -> Result<Vec<Message>, WireError> {
    let mut builder = Builder::default();
    builder.messages.extend(instructions.map(|text| Message::text(Role::System, text)));
    for (index, item) in items.iter().enumerate() {
        builder.add(index.saturating_sub(known), item)?;
    }
    builder.flush_thought();
    Ok(builder.messages)
}

#[derive(Default)]
struct Builder {
    messages: Vec<Message>,
    /// What the model thought before what it says next.
    thought: Option<String>,
}

impl Builder {
    fn add(&mut self, index: usize, item: &Value) -> Result<(), WireError> {
        let text = |name: &str| item[name].as_str().unwrap_or_default();
        match text("type") {
            "reasoning" => {
                let parts = if item["content"].is_array() { &item["content"] } else { &item["summary"] };
                let thought: String = array(parts).iter().filter_map(|part| part["text"].as_str()).collect();
                if !thought.is_empty() {
                    self.thought.get_or_insert_default().push_str(&thought);
                }
            }
            kind @ ("function_call" | "custom_tool_call") => {
                let arguments = match kind {
                    "function_call" => text("arguments").to_owned(),
                    // As models write it.
                    _ => json!({"input": text("input")}).to_string(),
                };
                let name = full_name(item["namespace"].as_str(), text("name"));
                self.assistant(true).tool_calls.push(ToolCall { id: text("call_id").into(), name, arguments });
            }
            "function_call_output" | "custom_tool_call_output" => {
                self.output(index, text("call_id"), &item["output"])?;
            }
            _ if text("role") == "assistant" => {
                let content = parts(&item["content"]);
                self.assistant(false).content.extend(content);
            }
            _ => {
                self.flush_thought();
                let role = if text("role") == "user" { Role::User } else { Role::System };
                let content = parts(&item["content"]);
                self.messages.push(Message { content, ..Message::text(role, "") });
            }
        }
        Ok(())
    }

    /// The message that the model's next words or call belong to: a call goes with what was said or called right
    /// before it.
    fn assistant(&mut self, is_call: bool) -> &mut Message {
        let goes_on = is_call && self.thought.is_none();
        let goes_on = goes_on && self.messages.last().is_some_and(|last| last.role == Role::Assistant);
        if !goes_on {
            let reasoning = self.thought.take();
            self.messages.push(Message { content: Vec::new(), reasoning, ..Message::text(Role::Assistant, "") });
        }
        self.messages.last_mut().expect("one was pushed where there was none")
    }

    fn output(&mut self, index: usize, call_id: &str, output: &Value) -> Result<(), WireError> {
        let known = self.messages.iter().flat_map(|message| &message.tool_calls).any(|call| call.id == call_id);
        if !known {
            let param = format!("input[{index}].call_id");
            let message = "there is no function call with this `call_id` before its output";
            return Err(WireError::new(&param, "invalid_value", message));
        }
        self.flush_thought();
        let content = match output {
            Value::String(text) => vec![Part::Text(text.clone())],
            other => parts(other),
        };
        self.messages.push(Message {
            content,
            tool_call_id: Some(call_id.to_owned()),
            ..Message::text(Role::Tool, "")
        });
        Ok(())
    }

    /// A thought that nothing came of is a message of its own.
    fn flush_thought(&mut self) {
        if self.thought.is_some() {
            self.assistant(false);
        }
    }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn parts(value: &Value) -> Vec<Part> {
    let part = |part: &Value| {
        let text = |name: &str| part[name].as_str().map(str::to_owned);
        match part["type"].as_str() {
            Some("input_image") => Some(Part::Image { url: text("image_url")?, detail: text("detail") }),
            Some("refusal") => text("refusal").map(Part::Text),
            _ => text("text").map(Part::Text),
        }
    };
    array(value).iter().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thoughts_words_and_calls_become_the_turns_they_were() {
        let call = |id: &str| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"});
        let output = |id: &str| json!({"type": "function_call_output", "call_id": id, "output": "4"});
        let thought =
            json!({"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]});
        let said =
            json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "wait"}]});
        let asked = json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "2+2?"}]});
        let items = [asked, thought.clone(), said, call("a"), call("b"), output("a"), output("b"), thought, call("c")];
        let messages = item_messages(Some("be brief"), &items, 0).unwrap();
        let roles: Vec<_> = messages.iter().map(|message| message.role.as_str()).collect();
        assert_eq!(roles, ["system", "user", "assistant", "tool", "tool", "assistant"]);
        let turn = &messages[2];
        assert_eq!(
            (turn.reasoning.as_deref(), turn.all_text().as_str(), turn.tool_calls.len()),
            (Some("hm"), "wait", 2)
        );
        assert_eq!((messages[4].tool_call_id.as_deref(), messages[4].all_text().as_str()), (Some("b"), "4"));
        assert_eq!((messages[5].reasoning.as_deref(), messages[5].tool_calls[0].id.as_str()), (Some("hm"), "c"));
    }

    #[test]
    fn an_output_needs_its_call() {
        let items = [json!({"type": "function_call_output", "call_id": "a", "output": "4"})];
        assert_eq!(item_messages(None, &items, 0).unwrap_err().param.as_deref(), Some("input[0].call_id"));
    }
}
