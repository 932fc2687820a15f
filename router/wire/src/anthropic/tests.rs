use serde_json::{Value, json};

use super::{MessagesRequest, Thoughts};
use crate::constraint::Form;
use crate::conversation::{Effort, Message, Part, Role, ToolChoice};
use crate::fields::{Envelope, WireError};

fn parse(body: &Value) -> Result<MessagesRequest, WireError> {
    MessagesRequest::parse(Envelope::parse(body.to_string().as_bytes())?)
}

fn with(name: &str, value: Value) -> Value {
    let mut body = json!({"model": "m", "max_tokens": 5000, "messages": [{"role": "user", "content": "hi"}]});
    body[name] = value;
    body
}

fn messages(value: Value) -> Vec<Message> {
    parse(&with("messages", value)).unwrap().chat.messages
}

/// A field, a value for it, and the `param` and `code` of the refusal.
fn refused(name: &str, value: Value, param: &str, code: &str) {
    let error = parse(&with(name, value)).unwrap_err();
    assert_eq!((error.param.as_deref(), error.code), (Some(param), Some(code)), "{error}");
}

#[test]
fn what_is_left_open_is_for_the_model() {
    let request = parse(&with("system", json!("be brief"))).unwrap();
    let expected = [Message::text(Role::System, "be brief"), Message::text(Role::User, "hi")];
    assert_eq!(request.chat.messages, expected);
    let options = &request.chat.options;
    assert_eq!((options.max_tokens, options.cuts_to_context, options.stream), (Some(5000), true, false));
    assert_eq!((request.thoughts, request.edits, request.chat.effort), (Thoughts::Hidden, false, None));
}

#[test]
fn every_field_is_read() {
    let request = parse(&json!({
        "model": "m", "max_tokens": 4096, "stream": true, "temperature": 0.5, "top_p": 0.9, "top_k": 40,
        "stop_sequences": ["a", "b"], "metadata": {"user_id": "u"}, "service_tier": "standard_only",
        "system": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "b"}],
        "thinking": {"type": "enabled", "budget_tokens": 2048}, "cache_control": {"type": "ephemeral"},
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}, "type": "custom", "strict": true}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
    }))
    .unwrap();
    let (chat, options) = (&request.chat, &request.chat.options);
    assert_eq!(chat.messages[0], Message::text(Role::System, "a\nb"));
    assert_eq!(
        (options.sampling.temperature, options.sampling.top_p, options.sampling.top_k),
        (Some(0.5), Some(0.9), Some(40))
    );
    assert_eq!((options.stop.as_slice(), options.stream), (&["a".to_owned(), "b".to_owned()][..], true));
    let constraint = options.constraint.as_ref().unwrap();
    assert_eq!(constraint.param, "output_config.format.schema");
    assert_eq!(constraint.form, Form::JsonSchema(r#"{"type":"object"}"#.into()));
    assert_eq!((chat.effort, request.thoughts, request.edits), (Some(Effort::Low), Thoughts::Shown, true));
    assert_eq!(
        (&chat.tools.choice, chat.tools.parallel, chat.tools.list[0].strict),
        (&ToolChoice::Required, Some(false), true)
    );
}

#[test]
fn a_conversation_with_tools_becomes_the_neutral_one() {
    let read = messages(json!([
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "I look.", "citations": null},
            {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}, "caller": {"type": "direct"}},
            {"type": "tool_use", "id": "b", "name": "g", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "b", "is_error": true, "content": "none"},
            {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "1"}, {"type": "text", "text": "2"}]},
            {"type": "text", "text": "and now?"},
        ]},
        {"role": "user", "content": "well?"},
    ]));
    let roles: Vec<Role> = read.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::User, Role::Assistant, Role::Tool, Role::Tool, Role::User]);
    assert_eq!((read[1].reasoning.as_deref(), read[1].all_text().as_str()), (Some("hm"), "I look."));
    assert_eq!((read[1].tool_calls[0].arguments.as_str(), read[1].tool_calls.len()), ("{\"x\":1}", 2));
    let answers = [(&read[2], "b", "g", "error:\nnone"), (&read[3], "a", "f", "1\n2")];
    for (message, id, name, text) in answers {
        assert_eq!((message.tool_call_id.as_deref(), message.name.as_deref()), (Some(id), Some(name)));
        assert_eq!(message.all_text(), text);
    }
    assert_eq!(read[4], Message::text(Role::User, "and now?\nwell?"));
}

#[test]
fn pictures_and_documents_are_read() {
    let read = messages(json!([{"role": "user", "content": [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        {"type": "document", "title": "t", "context": "c", "source": {"type": "text", "media_type": "text/plain", "data": "d"}},
        {"type": "search_result", "title": "s", "source": "u", "content": [{"type": "text", "text": "f"}]},
    ]}]));
    let image = Part::Image { url: "data:image/png;base64,AAAA".into(), detail: None };
    assert_eq!(read[0].content, [image, Part::Text("t\nc\nd\ns\nu\nf".into())]);
}

#[test]
fn how_much_to_think_is_read() {
    let effort = |thinking: Value, config: Value| {
        let mut body = with("thinking", thinking);
        body["output_config"] = config;
        body["max_tokens"] = json!(100_000);
        let request = parse(&body).unwrap();
        (request.chat.effort, request.thoughts)
    };
    let budget = |tokens: u32| json!({"type": "enabled", "budget_tokens": tokens});
    assert_eq!(effort(budget(1024), Value::Null), (Some(Effort::Low), Thoughts::Shown));
    assert_eq!(effort(budget(4096), Value::Null), (Some(Effort::Medium), Thoughts::Shown));
    assert_eq!(effort(budget(16_384), Value::Null), (Some(Effort::High), Thoughts::Shown));
    assert_eq!(effort(json!({"type": "adaptive"}), json!({"effort": "max"})), (Some(Effort::Max), Thoughts::Shown));
    let omitted = json!({"type": "adaptive", "display": "omitted"});
    assert_eq!(effort(omitted, Value::Null), (None, Thoughts::Omitted));
    let disabled = json!({"type": "disabled"});
    assert_eq!(effort(disabled, json!({"effort": "high"})), (Some(Effort::None), Thoughts::Hidden));
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    refused("max_tokens", Value::Null, "max_tokens", "missing_required_parameter");
    refused("max_tokens", json!(0), "max_tokens", "invalid_value");
    refused("temperature", json!(1.1), "temperature", "invalid_value");
    refused("stop_sequences", json!(vec!["x"; 100]), "stop_sequences", "invalid_value");
    refused("stop_sequences", json!(["a", " "]), "stop_sequences[1]", "invalid_value");
    refused("service_tier", json!("flex"), "service_tier", "invalid_value");
    refused("metadata", json!({"user": "u"}), "metadata.user", "unknown_parameter");
    refused("thinking", json!({"type": "enabled"}), "thinking.budget_tokens", "missing_required_parameter");
    refused("thinking", json!({"type": "enabled", "budget_tokens": 1000}), "thinking.budget_tokens", "invalid_value");
    refused("thinking", json!({"type": "enabled", "budget_tokens": 5000}), "thinking.budget_tokens", "invalid_value");
    refused("thinking", json!({"type": "much"}), "thinking.type", "invalid_value");
    refused("output_config", json!({"effort": "huge"}), "output_config.effort", "invalid_value");
    refused("output_format", json!({"type": "text"}), "output_format.type", "invalid_value");
    refused("container", json!("c"), "container", "unsupported_parameter");
    refused("mcp_servers", json!([{}]), "mcp_servers", "unsupported_parameter");
    refused("speed", json!("fast"), "speed", "unsupported_parameter");
    refused("temperatur", json!(1), "temperatur", "unknown_parameter");
    let edits = json!({"edits": [{"type": "clear_tool_uses_20250919"}]});
    refused("context_management", edits, "context_management.edits[0].type", "unsupported_parameter");
    refused("system", json!([{"type": "image"}]), "system[0].type", "invalid_value");
    refused("tools", json!([{"type": "bash_20250124", "name": "bash"}]), "tools[0].type", "unsupported_parameter");
    refused("tools", json!([{"name": "f"}]), "tools[0].input_schema", "missing_required_parameter");
    refused("tools", json!([{"name": "a b", "input_schema": {}}]), "tools[0].name", "invalid_value");
    refused(
        "tools",
        json!([{"name": "f", "input_schema": {"type": "array"}}]),
        "tools[0].input_schema.type",
        "invalid_value",
    );
    refused("tool_choice", json!({"type": "any"}), "tool_choice", "invalid_value");
    refused("tool_choice", json!({"type": "tool"}), "tool_choice.name", "missing_required_parameter");
}

#[test]
fn messages_that_make_no_conversation_are_refused_by_name() {
    let refused = |value: Value, param: &str, code: &str| refused("messages", value, param, code);
    refused(json!([]), "messages", "invalid_value");
    refused(json!("hi"), "messages", "invalid_type");
    refused(json!([{"role": "king", "content": "x"}]), "messages[0].role", "invalid_value");
    refused(json!([{"role": "user"}]), "messages[0].content", "missing_required_parameter");
    refused(json!([{"role": "user", "content": ""}]), "messages[0].content", "invalid_value");
    refused(json!([{"role": "user", "content": []}]), "messages[0].content", "invalid_value");
    let block = |block: Value| json!([{"role": "user", "content": [block]}]);
    refused(block(json!({"type": "tool_use"})), "messages[0].content[0].type", "invalid_value");
    refused(block(json!({"type": "video"})), "messages[0].content[0].type", "unsupported_parameter");
    refused(block(json!("x")), "messages[0].content[0]", "invalid_type");
    let orphan = json!({"type": "tool_result", "tool_use_id": "a", "content": "1"});
    refused(block(orphan), "messages[0].content[0].tool_use_id", "invalid_value");
    let image = |data: &str| {
        block(json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}))
    };
    refused(image("@@@"), "messages[0].content[0].source.data", "invalid_value");
    let pdf = json!({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": ""}});
    refused(block(pdf), "messages[0].content[0].source.type", "unsupported_parameter");
    let call = json!([{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": "x"}]}]);
    refused(call, "messages[0].content[0].input", "invalid_type");
}

#[test]
fn a_count_needs_no_limit_and_takes_nothing_about_the_answer() {
    let count = |body: &Value| MessagesRequest::parse_count(Envelope::parse(body.to_string().as_bytes()).unwrap());
    let mut body = json!({"model": "m", "system": "s", "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(count(&body).unwrap().messages.len(), 2);
    body["max_tokens"] = json!(5);
    assert_eq!(count(&body).unwrap_err().param.as_deref(), Some("max_tokens"));
}

#[test]
fn an_answer_may_be_begun_with_text() {
    let begun = |content: Value| {
        let asked = json!({"role": "user", "content": "hi"});
        parse(&with("messages", json!([asked, {"role": "assistant", "content": content}])))
    };
    let request = begun(json!([{"type": "text", "text": "Well,"}])).unwrap();
    assert!(request.chat.begun);
    assert_eq!(request.chat.messages[1], Message::text(Role::Assistant, "Well,"));
    assert!(!parse(&with("temperature", json!(1))).unwrap().chat.begun);
    let call = json!([{"type": "tool_use", "id": "c", "name": "f", "input": {}}]);
    for wrong in [json!("Well, "), json!([{"type": "thinking", "thinking": "hm"}]), call] {
        assert_eq!(begun(wrong).unwrap_err().param.as_deref(), Some("messages"));
    }
}

#[test]
fn who_asks_for_a_cache_hears_of_it() {
    let ephemeral = json!({"type": "ephemeral"});
    let block = json!([{"type": "text", "text": "a", "cache_control": ephemeral}]);
    assert!(!parse(&with("system", json!("a"))).unwrap().caches);
    assert!(parse(&with("cache_control", ephemeral)).unwrap().caches);
    assert!(parse(&with("system", block)).unwrap().caches);
}
