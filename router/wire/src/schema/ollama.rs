//! Ollama's API.

use serde_json::{Value, json};

use super::chat::{model, tool_name, tool_parameters};
use super::options::sampling;
use super::{
    any_object, any_of, array, boolean, described, example, integer, list, nullable, object, of, some_text, string,
    text, word,
};
use crate::ollama::{BESIDE, MACHINE, STOPS_MAX, TOP_LOGPROBS_MAX};
use crate::options::STOP_CHARS_MAX;
use crate::tools::TOOLS_MAX;

/// A conversation to go on with.
#[must_use]
pub fn ollama_chat_request() -> Value {
    let question = json!([{"role": "user", "content": "Why is the sky blue?"}]);
    let messages = described("The conversation; without one the model is loaded.", list(message()));
    let mut properties = vec![
        ("model", model()),
        ("messages", example(question, messages)),
        ("tools", described("What the model may call.", array(tool(), 0, TOOLS_MAX))),
        ("tool_choice", described("Whether a tool must be called, which Ollama itself cannot say.", tool_choice())),
    ];
    properties.extend(rest());
    of(&["model"], properties)
}

/// A prompt to answer.
#[must_use]
pub fn ollama_generate_request() -> Value {
    let nothing = || any_of([word(&[""]), array(json!({}), 0, 0)]);
    let mut properties = vec![
        ("model", model()),
        ("prompt", example("Why is the sky blue?", described("Without one the model is loaded.", string()))),
        ("system", described("Stands before the prompt.", string())),
        ("raw", described("Whether the prompt goes to the model as it is, without its template.", boolean())),
        ("images", images()),
        ("suffix", described("What stands after the answer, for models that fill in the middle.", string())),
        ("context", described("Only empty: send the conversation to `/api/chat`.", nothing())),
        ("template", described("Only empty: models have their own.", nothing())),
        ("user", described("Who asks, in the client's words; without effect.", string())),
        ("echo", described("Only `false`.", json!({"type": "boolean", "enum": [false]}))),
    ];
    properties.extend(rest());
    of(&["model"], properties)
}

/// A request about a model; what else is `known` of it is accepted, and changes nothing.
#[must_use]
pub fn ollama_model_request(known: &[&'static str]) -> Value {
    let mut properties =
        vec![("model", described("Its name.", string())), ("name", described("The older name of `model`.", string()))];
    properties.extend(known.iter().map(|name| (*name, described("Accepted, and without effect.", json!({})))));
    let mut request = of(&[], properties);
    let named = |name: &str| json!({"required": [name], "properties": {name: some_text()}});
    request["anyOf"] = json!([named("model"), named("name")]);
    request
}

/// An order to fetch a model.
#[must_use]
pub fn ollama_pull_request() -> Value {
    let accepted = |schema: Value| described("Where models come from is for the box: without effect.", schema);
    let mut request = ollama_model_request(&[]);
    for (name, schema) in [
        ("stream", described("Whether lines tell how far it is; by default they do.", boolean())),
        ("accept_licence", described("Whether you accept the model's licence, where it asks for that.", boolean())),
        ("insecure", accepted(boolean())),
        ("username", accepted(string())),
        ("password", accepted(string())),
    ] {
        request["properties"][name] = nullable(schema);
    }
    request
}

/// An order to give a model another name.
#[must_use]
pub fn ollama_copy_request() -> Value {
    let source = described("A model of the box.", string());
    let destination = described("Letters, digits and `. - _ :`.", string());
    object(&["source", "destination"], [("source", source), ("destination", destination)])
}

/// Texts that vectors are wanted for.
#[must_use]
pub fn ollama_embed_request() -> Value {
    let texts = any_of([string(), list(string())]);
    let mut properties = vec![
        ("model", model()),
        ("input", example("The sky is blue.", described("Without one the model is loaded.", texts))),
        ("truncate", described("Whether a text that is too long is cut; by default it is.", boolean())),
        ("dimensions", described("Numbers wanted in each vector; 0 for all.", integer(0, i64::from(u32::MAX)))),
    ];
    properties.extend(for_vectors());
    of(&["model"], properties)
}

/// A text that a vector is wanted for.
#[must_use]
pub fn ollama_embed_one_request() -> Value {
    let prompt = described("Without one the model is loaded.", string());
    let mut properties = vec![("model", model()), ("prompt", example("The sky is blue.", prompt))];
    properties.extend(for_vectors());
    of(&["model"], properties)
}

fn for_vectors() -> Vec<(&'static str, Value)> {
    vec![
        ("options", described("For texts that are generated: without effect.", options())),
        ("keep_alive", keep_alive()),
        ("stream", described("Without effect.", boolean())),
    ]
}

fn keep_alive() -> Value {
    let time = json!({"type": "string", "pattern": "^[A-Za-z0-9+.-]*[0-9+.-][A-Za-zµ]*$"});
    let time = any_of([json!({"type": "number"}), time]);
    described("How long the model stays in memory: seconds, or a time as `5m`; less than 0 for ever.", time)
}

/// What both have besides the prompt.
fn rest() -> Vec<(&'static str, Value)> {
    let form = described("What the answer must be.", any_of([word(&["json", ""]), any_object()]));
    let thinks = any_of([boolean(), word(&["low", "medium", "high"])]);
    let options = options();
    let beside = |inside: &str| {
        described(
            &format!(
                "The same as `options.{inside}`, for programs made for \
        several APIs."
            ),
            options["properties"][inside].clone(),
        )
    };
    let mut properties: Vec<_> = BESIDE.iter().map(|(name, inside)| (*name, beside(inside))).collect();
    properties.extend([
        (
            "stream",
            example(
                false,
                described("Whether the answer comes in lines while it is made; by default it does.", boolean()),
            ),
        ),
        ("format", form),
        ("options", example(json!({"num_predict": 64}), described("How tokens are chosen.", options.clone()))),
        ("think", described("How much a model thinks first, where it thinks.", thinks)),
        ("logprobs", described("Whether log probabilities come with the answer.", boolean())),
        ("top_logprobs", described("Alternatives at each token.", integer(0, i64::from(TOP_LOGPROBS_MAX)))),
        ("keep_alive", keep_alive()),
        ("truncate", described("Whether the oldest turns of a conversation that is too long are left out.", boolean())),
        ("shift", described("No prompt is cut here.", boolean())),
    ]);
    properties
}

fn options() -> Value {
    let stop = || text(1, STOP_CHARS_MAX);
    let mut properties = vec![
        ("num_predict", described("The most tokens; -1 is as many as there can be.", integer(-2, i64::from(u32::MAX)))),
        ("stop", described("The answer ends before any of these.", any_of([stop(), array(stop(), 0, STOPS_MAX)]))),
        ("penalize_newline", described("Only `true`.", json!({"type": "boolean", "enum": [true]}))),
        ("tfs_z", described("Only 1, which is off.", json!({"type": "number", "enum": [1]}))),
    ];
    let machine = || described("The box knows its machine: without effect.", json!({"type": ["number", "boolean"]}));
    properties.extend(MACHINE.iter().map(|name| (*name, machine())));
    properties.extend(sampling());
    of(&[], properties)
}

fn images() -> Value {
    described("Pictures in base64, for models that see.", list(string()))
}

/// A message, by who speaks.
fn message() -> Value {
    let said = |roles: &[&str], calls: Value| {
        object(
            &["role"],
            [
                ("role", word(roles)),
                ("content", string()),
                ("images", images()),
                ("thinking", described("What the model thought.", string())),
                ("tool_calls", calls),
                ("tool_name", described("Which tool a `tool` message is of.", string())),
                ("tool_call_id", described("Which call a `tool` message answers.", string())),
            ],
        )
    };
    let function = [
        ("name", string()),
        ("arguments", any_object()),
        ("index", described("Its place, without effect.", integer(0, i64::from(u32::MAX)))),
    ];
    let call = [("id", string()), ("type", word(&["function"])), ("function", object(&["name"], function))];
    let calls = list(object(&["function"], call));
    any_of([said(&["assistant"], calls), said(&["user", "system", "tool"], array(any_object(), 0, 0))])
}

fn tool_choice() -> Value {
    let named = || object(&["name"], [("name", string())]);
    let kind = || ("type", word(&["function"]));
    let beside = object(&["type", "name"], [kind(), ("name", string())]);
    let within = object(&["type", "function"], [kind(), ("function", named())]);
    any_of([word(&["none", "auto", "required"]), beside, within])
}

fn tool() -> Value {
    let function = object(
        &["name"],
        [
            ("name", tool_name()),
            ("description", described("What it does, for the model.", string())),
            ("parameters", tool_parameters()),
            ("strict", described("Whether calls always follow the schema.", boolean())),
        ],
    );
    object(&["function"], [("type", word(&["function", ""])), ("function", function)])
}
