use serde_json::{Value, json};

use super::{OllamaChat, OllamaGenerate, model_name, only_loads};
use crate::completion::Prompt;
use crate::constraint::Form;
use crate::conversation::{ChatRequest, Effort, Message, Part, Role, ToolChoice};
use crate::fields::{Envelope, WireError};

const PNG: &str = "iVBORw0KGgoAAAAN";

fn envelope(body: &Value) -> Result<Envelope, WireError> {
    Envelope::parse(body.to_string().as_bytes())
}

fn chat(name: &str, value: Value) -> Result<ChatRequest, WireError> {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    body[name] = value;
    OllamaChat::parse(envelope(&body)?).map(|OllamaChat(request)| request)
}

fn generate(name: &str, value: Value) -> Result<OllamaGenerate, WireError> {
    let mut body = json!({"model": "m", "prompt": "hi"});
    body[name] = value;
    OllamaGenerate::parse(envelope(&body)?)
}

#[test]
fn every_field_is_read() {
    let body = json!({
        "model": "m", "stream": false, "format": "json", "keep_alive": "5m", "think": "high", "logprobs": true,
        "top_logprobs": 3, "truncate": true, "messages": [{"role": "user", "content": "hi", "images": [PNG]}],
        "options": {"temperature": 0.5, "num_predict": 9, "num_ctx": 8192, "seed": 7, "stop": ["a"], "num_gpu": -1,
            "repeat_penalty": 1.1, "use_mmap": true},
        "tools": [{"function": {"name": "f", "parameters": {"type": "object"}}}],
    });
    let OllamaChat(request) = OllamaChat::parse(envelope(&body).unwrap()).unwrap();
    let options = &request.options;
    assert_eq!((options.max_tokens, options.stream, options.cuts_to_context), (Some(9), false, true));
    assert_eq!((options.sampling.temperature, options.sampling.seed), (Some(0.5), Some(7)));
    assert_eq!(options.stop, ["a"]);
    assert_eq!(options.constraint.as_ref().unwrap().form, Form::JsonObject);
    assert_eq!((request.effort, request.top_logprobs), (Some(Effort::High), Some(3)));
    assert_eq!(request.tools.list[0].name, "f");
    let image = Part::Image { url: format!("data:image/png;base64,{PNG}"), detail: None };
    assert_eq!(request.messages[0].content, [Part::Text("hi".into()), image]);
}

#[test]
fn what_is_left_open_streams_and_is_for_the_model() {
    let request = chat("keep_alive", json!(-1)).unwrap();
    assert!(request.options.stream);
    assert_eq!((request.options.max_tokens, request.effort, request.options.constraint), (None, None, None));
    assert_eq!(chat("options", json!({"num_predict": -2})).unwrap().options.max_tokens, None);
    assert_eq!(chat("think", json!(false)).unwrap().effort, Some(Effort::None));
    let schema = chat("format", json!({"type": "object"})).unwrap().options.constraint.unwrap();
    assert_eq!(schema.form, Form::JsonSchema(r#"{"type":"object"}"#.into()));
}

/// As Vercel's providers for Ollama send it.
#[test]
fn what_stands_beside_the_options_is_one_of_them() {
    assert_eq!(chat("max_output_tokens", json!(9)).unwrap().options.max_tokens, Some(9));
    assert_eq!(chat("temperature", json!(0.5)).unwrap().options.sampling.temperature, Some(0.5));
    assert_eq!(chat("stop", json!(["a"])).unwrap().options.stop, ["a"]);
    let both = json!({"model": "m", "prompt": "hi", "max_tokens": 5, "top_p": 0.5, "user": "u", "echo": false,
        "options": {"num_predict": 5, "top_p": null}});
    let OllamaGenerate::Templated(request) = OllamaGenerate::parse(envelope(&both).unwrap()).unwrap() else {
        panic!("it is not raw");
    };
    assert_eq!((request.options.max_tokens, request.options.sampling.top_p), (Some(5), Some(0.5)));
    let two = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "options": {"num_predict": 9}});
    assert_eq!(OllamaChat::parse(envelope(&two).unwrap()).unwrap_err().param.as_deref(), Some("max_tokens"));
    let wrong = chat("temperature", json!("hot")).unwrap_err();
    assert_eq!(wrong.param.as_deref(), Some("options.temperature"));
}

#[test]
fn a_tool_may_be_chosen() {
    let choose = |choice: Value| {
        let tools = json!([{"function": {"name": "f"}}, {"function": {"name": "g"}}]);
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": tools,
            "tool_choice": choice});
        OllamaChat::parse(envelope(&body).unwrap()).map(|OllamaChat(request)| request.tools.choice)
    };
    assert_eq!(choose(json!("required")).unwrap(), ToolChoice::Required);
    for named in [json!({"type": "function", "name": "g"}), json!({"type": "function", "function": {"name": "g"}})] {
        assert_eq!(choose(named).unwrap(), ToolChoice::Named("g".into()));
    }
    assert_eq!(choose(json!({"type": "function", "name": "h"})).unwrap_err().param.as_deref(), Some("tool_choice"));
    assert_eq!(choose(json!({"type": "web"})).unwrap_err().param.as_deref(), Some("tool_choice.type"));
}

#[test]
fn answers_find_their_calls() {
    let call = |name: &str| json!({"function": {"name": name, "arguments": {"x": 1}}});
    let request = chat(
        "messages",
        json!([
            {"role": "user", "content": "?"},
            {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [call("f"), call("g"), call("f")]},
            {"role": "tool", "content": "1", "tool_name": "g"},
            {"role": "tool", "content": "2"},
            {"role": "tool", "content": "3"},
        ]),
    )
    .unwrap();
    let ids: Vec<_> = request.messages[2..].iter().map(|message| message.tool_call_id.as_deref().unwrap()).collect();
    assert_eq!(ids, ["call_1_1", "call_1_0", "call_1_2"]);
    assert_eq!(request.messages[3].name.as_deref(), Some("f"));
    assert_eq!(request.messages[1].reasoning.as_deref(), Some("hm"));
}

#[test]
fn a_prompt_is_put_in_the_words_of_the_template_or_left_as_it_is() {
    match generate("system", json!("be brief")).unwrap() {
        OllamaGenerate::Templated(request) => {
            let expected = [Message::text(Role::System, "be brief"), Message::text(Role::User, "hi")];
            assert_eq!(request.messages, expected);
        }
        OllamaGenerate::Raw(_) => panic!("it is not raw"),
    }
    match generate("raw", json!(true)).unwrap() {
        OllamaGenerate::Raw(request) => assert_eq!(request.prompts, [Prompt::Text("hi".into())]),
        OllamaGenerate::Templated(_) => panic!("it is raw"),
    }
    match generate("suffix", json!("x")).unwrap() {
        OllamaGenerate::Raw(request) => assert_eq!(request.suffix.as_deref(), Some("x")),
        OllamaGenerate::Templated(_) => panic!("it is a gap"),
    }
    // What asks for nothing may be there.
    for (name, value) in [("suffix", json!("")), ("context", json!([])), ("template", json!(""))] {
        generate(name, value).unwrap();
    }
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let refused = |error: WireError, param: &str, code: &str| {
        assert_eq!((error.param.as_deref(), error.code), (Some(param), Some(code)), "{error}");
    };
    let of_chat =
        |name: &str, value: Value, param: &str, code: &str| refused(chat(name, value).unwrap_err(), param, code);
    let of_options = |name: &str, value: Value, code: &str| {
        of_chat("options", json!({name: value}), &format!("options.{name}"), code);
    };
    of_options("temperature", json!(3), "invalid_value");
    of_options("num_predict", json!("x"), "invalid_type");
    of_options("num_ctx", json!("x"), "invalid_type");
    of_options("stop", json!(vec!["x"; 100]), "invalid_value");
    of_options("tfs_z", json!(0.5), "unsupported_parameter");
    of_options("temprature", json!(1), "unknown_parameter");
    of_chat("format", json!("xml"), "format", "invalid_value");
    of_chat("think", json!("much"), "think", "invalid_value");
    of_chat("keep_alive", json!("forever!"), "keep_alive", "invalid_value");
    of_chat("stram", json!(true), "stram", "unknown_parameter");
    of_chat("tools", json!([{"type": "web"}]), "tools[0].type", "invalid_value");
    of_chat("messages", json!([{"role": "king"}]), "messages[0].role", "invalid_value");
    of_chat("messages", json!([{"role": "tool", "content": "1"}]), "messages[0].role", "invalid_value");
    let image = json!([{"role": "user", "images": ["@@"]}]);
    of_chat("messages", image, "messages[0].images[0]", "invalid_value");
    let call = json!([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "x"}}]}]);
    of_chat("messages", call, "messages[0].tool_calls[0].function.arguments", "invalid_type");
    refused(generate("context", json!([1])).unwrap_err(), "context", "unsupported_parameter");
    refused(generate("template", json!("x")).unwrap_err(), "template", "unsupported_parameter");
    let raw =
        OllamaGenerate::parse(envelope(&json!({"model": "m", "prompt": "p", "raw": true, "system": "s"})).unwrap());
    refused(raw.unwrap_err(), "raw", "invalid_value");
    for (more, param) in [("raw", "raw"), ("system", "suffix")] {
        let mut body = json!({"model": "m", "prompt": "p", "suffix": "x"});
        body[more] = if more == "raw" { json!(true) } else { json!("s") };
        refused(OllamaGenerate::parse(envelope(&body).unwrap()).unwrap_err(), param, "invalid_value");
    }
}

#[test]
fn a_request_that_asks_nothing_loads() {
    let loads = |body: Value| only_loads(body.as_object().unwrap(), "messages");
    assert!(loads(json!({})) && loads(json!({"messages": null})) && loads(json!({"messages": []})));
    assert!(!loads(json!({"messages": [{}]})) && !loads(json!({"messages": 5})));
}

#[test]
fn models_are_named_by_either_field() {
    let name = |body: &str| model_name(body.as_bytes(), &["stream"]);
    assert_eq!(name(r#"{"model": "m", "stream": true}"#).unwrap(), "m");
    assert_eq!(name(r#"{"name": "m"}"#).unwrap(), "m");
    assert_eq!(name(r#"{"model": ""}"#).unwrap_err().param.as_deref(), Some("model"));
    assert_eq!(name(r#"{"model": "m", "x": 1}"#).unwrap_err().param.as_deref(), Some("x"));
    assert_eq!(name("[").unwrap_err().code, Some("invalid_json"));
    assert_eq!(name("[]").unwrap_err().code, Some("invalid_type"));
}
