//! The API's own description, an OpenAPI 3.1 document, made from what is served: `GET /openapi.json`.

use allerac_wire::anthropic::Problem;
use allerac_wire::ollama::Trouble;
use allerac_wire::schema::MODEL_EXAMPLES;
use allerac_wire::{ErrorBody, ListPage};
use axum::http::HeaderMap;
use axum::routing::MethodRouter;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::api::Api;
use crate::state::AppState;

const JSON: &str = "application/json";
/// The last event of a stream of OpenAI's that went well.
const DONE: &str = "[DONE]";

/// What is served at a path, and how that is described.
pub(crate) struct Operation {
    method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) handler: MethodRouter<AppState>,
    tag: &'static str,
    summary: &'static str,
    needs_key: bool,
    parameters: Vec<Value>,
    request: Option<(&'static str, Value)>,
    answers: Vec<Answer>,
    errors: fn(&mut SchemaGenerator) -> Value,
}

/// What is answered where all goes well.
struct Answer {
    status: u16,
    content_type: &'static str,
    schema: fn(&mut SchemaGenerator) -> Value,
}

impl Operation {
    /// `GET` of a path.
    pub(crate) fn get(path: &'static str, handler: MethodRouter<AppState>, summary: &'static str) -> Self {
        Self::new("get", path, handler, summary)
    }

    /// `HEAD` of a path.
    pub(crate) fn head(path: &'static str, handler: MethodRouter<AppState>, summary: &'static str) -> Self {
        Self::new("head", path, handler, summary)
    }

    /// `DELETE` of a path.
    pub(crate) fn delete(path: &'static str, handler: MethodRouter<AppState>, summary: &'static str) -> Self {
        Self::new("delete", path, handler, summary)
    }

    /// `POST` to a path.
    pub(crate) fn post(path: &'static str, handler: MethodRouter<AppState>, summary: &'static str) -> Self {
        Self::new("post", path, handler, summary)
    }

    fn new(method: &'static str, path: &'static str, handler: MethodRouter<AppState>, summary: &'static str) -> Self {
        let (parameters, answers) = (Vec::new(), Vec::new());
        // The API of a path decides how its errors look, here as where they are sent.
        let errors = match Api::of(path, &HeaderMap::new()) {
            Api::OpenAi => of::<ErrorBody>,
            Api::Anthropic => of::<Problem>,
            Api::Ollama => of::<Trouble>,
        };
        Self { method, path, handler, tag: "", summary, needs_key: true, parameters, request: None, answers, errors }
    }

    /// Whether it answers to somebody with a key only.
    #[cfg(test)]
    pub(crate) fn needs_key(&self) -> bool {
        self.needs_key
    }

    /// Its method, in lower case.
    #[cfg(test)]
    pub(crate) fn method(&self) -> &'static str {
        self.method
    }

    /// The heading that it stands under.
    pub(crate) fn tag(self, tag: &'static str) -> Self {
        Self { tag, ..self }
    }

    /// It answers without a key.
    pub(crate) fn open(self) -> Self {
        Self { needs_key: false, ..self }
    }

    /// A part of its path, in braces.
    pub(crate) fn in_path(mut self, name: &str, what: &str) -> Self {
        let schema = json!({"type": "string", "minLength": 1});
        self.parameters
            .push(json!({"name": name, "in": "path", "required": true, "description": what, "schema": schema}));
        self
    }

    /// A value after the question mark, which may be left out.
    pub(crate) fn in_query(self, name: &str, what: &str, schema: Value) -> Self {
        self.parameter("query", name, what, schema)
    }

    /// The value told of last must be there.
    pub(crate) fn required(mut self) -> Self {
        if let Some(parameter) = self.parameters.last_mut() {
            parameter["required"] = json!(true);
        }
        self
    }

    /// A header, which may be left out.
    pub(crate) fn in_header(self, name: &str, what: &str, schema: Value) -> Self {
        self.parameter("header", name, what, schema)
    }

    fn parameter(mut self, place: &str, name: &str, what: &str, schema: Value) -> Self {
        let mut parameter = json!({"name": name, "in": place, "description": what});
        parameter["schema"] = schema;
        self.parameters.push(parameter);
        self
    }

    /// It answers a page of a list, of at most so many objects.
    pub(crate) fn lists<T: JsonSchema>(self, limit_max: u64) -> Self {
        self.in_query("after", "The last object of the page before.", json!({"type": "string"}))
            .in_query("limit", "Objects on a page.", json!({"type": "integer", "minimum": 1, "maximum": limit_max}))
            .in_query("order", "By time.", json!({"type": "string", "enum": ["asc", "desc"]}))
            .gives::<ListPage<T>>(200)
    }

    /// It answers a page of a list whose ids are numbers, newest first.
    pub(crate) fn lists_newest<T: JsonSchema>(self, limit_max: u64) -> Self {
        let number = json!({"type": "string", "pattern": "^[1-9][0-9]{0,17}$"});
        self.in_query("after", "The last object of the page before.", number)
            .in_query("limit", "Objects on a page.", json!({"type": "integer", "minimum": 1, "maximum": limit_max}))
            .gives::<ListPage<T>>(200)
    }

    /// Its request may come again, and is answered once.
    pub(crate) fn once(self) -> Self {
        let key = json!({"type": "string", "minLength": 1, "maxLength": 255});
        let what = "The same request with the same key gets the same answer for 24 hours, and is charged once.";
        self.in_header("Idempotency-Key", what, key)
    }

    /// What it takes, as JSON.
    pub(crate) fn takes(self, schema: Value) -> Self {
        self.takes_as(JSON, schema)
    }

    /// What it takes, as a form with files, or as bytes.
    pub(crate) fn takes_as(self, content_type: &'static str, schema: Value) -> Self {
        Self { request: Some((content_type, schema)), ..self }
    }

    /// What it answers, as JSON.
    pub(crate) fn gives<T: JsonSchema>(self, status: u16) -> Self {
        self.answers(status, JSON, of::<T>)
    }

    /// It answers one or the other, by the API that is spoken: OpenAI's, or Anthropic's where its header is there.
    pub(crate) fn gives_either<T: JsonSchema, A: JsonSchema>(self) -> Self {
        let version = json!({"type": "string"});
        let this = self.in_header("anthropic-version", "With it the answer is in Anthropic's shape.", version);
        let errors = either::<ErrorBody, Problem>;
        Self { errors, ..this }.answers(200, JSON, either::<T, A>)
    }

    /// It may also answer with server-sent events, which end with a word.
    pub(crate) fn streams<T: JsonSchema>(self) -> Self {
        self.answers(200, "text/event-stream", |generator| {
            let data = either::<T, ErrorBody>(generator);
            events(json!({"anyOf": [{"type": "string", "const": DONE}, in_json(&data)]}))
        })
    }

    /// It may also answer with server-sent events of an API whose last event says so itself.
    pub(crate) fn tells<T: JsonSchema>(self) -> Self {
        self.answers(200, "text/event-stream", |generator| events(in_json(&of::<T>(generator))))
    }

    /// It may also answer with lines, each JSON of this kind.
    pub(crate) fn writes_lines<T: JsonSchema>(self) -> Self {
        self.answers(200, "application/x-ndjson", either::<T, Trouble>)
    }

    /// It answers with nothing.
    pub(crate) fn gives_nothing(self) -> Self {
        self.answers(200, "", |_| Value::Null)
    }

    /// It sends a browser elsewhere.
    pub(crate) fn redirects(self) -> Self {
        self.answers(303, "", |_| Value::Null)
    }

    /// There is nothing to answer.
    pub(crate) fn gives_none(self) -> Self {
        self.answers(204, "", |_| Value::Null)
    }

    /// It is begun, and there is nothing to answer.
    pub(crate) fn accepts(self) -> Self {
        self.answers(202, "", |_| Value::Null)
    }

    /// What it answers as text.
    pub(crate) fn gives_plain(self, content_type: &'static str) -> Self {
        self.answers(200, content_type, |_| json!({"type": "string"}))
    }

    /// It answers with bytes; of one of the kinds where there are more.
    pub(crate) fn gives_bytes(self, content_type: &'static str) -> Self {
        self.answers(200, content_type, |_| json!({"type": "string", "format": "binary"}))
    }

    fn answers(mut self, status: u16, content_type: &'static str, schema: fn(&mut SchemaGenerator) -> Value) -> Self {
        self.answers.push(Answer { status, content_type, schema });
        self
    }

    fn describe(&self, generator: &mut SchemaGenerator) -> Value {
        let mut answers = Map::new();
        for Answer { status, content_type, schema } in &self.answers {
            let answer = answers.entry(status.to_string()).or_insert_with(|| json!({"description": "As asked for."}));
            if !content_type.is_empty() {
                answer["content"][content_type] = json!({"schema": schema(generator)});
            }
        }
        for (statuses, description) in
            [("4XX", "The request is at fault."), ("5XX", "The box, or a server behind it, is.")]
        {
            let mut error = json!({"description": description});
            // An answer to `HEAD` has no body.
            if self.method != "head" {
                error["content"][JSON] = json!({"schema": (self.errors)(generator)});
            }
            answers.insert(statuses.into(), error);
        }
        let mut operation = json!({
            "operationId": format!("{}{}", self.method, self.path.replace(['/', '{', '}', '*', '-', '.'], "_")),
            "tags": [self.tag], "summary": self.summary, "responses": answers,
        });
        if !self.parameters.is_empty() {
            operation["parameters"] = json!(self.parameters);
        }
        if let Some((content_type, schema)) = &self.request {
            let mut content = json!({"schema": schema});
            if let Some(example) = example_of(schema) {
                content["example"] = example;
            }
            operation["requestBody"] = json!({"required": true, "content": {*content_type: content}});
        }
        if !self.needs_key {
            operation["security"] = json!([]);
        }
        operation
    }
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

fn either<T: JsonSchema, U: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    json!({"anyOf": [of::<T>(generator), of::<U>(generator)]})
}

/// A request to begin with: what must be said, and what else there are examples of.
fn example_of(schema: &Value) -> Option<Value> {
    let properties = schema["properties"].as_object()?;
    let examples =
        properties.iter().filter_map(|(name, schema)| Some((name.clone(), schema["examples"].get(0)?.clone())));
    let example: Map<String, Value> = examples.collect();
    let mut required = schema["required"].as_array()?.iter().filter_map(Value::as_str);
    (!example.is_empty() && required.all(|name| example.contains_key(name))).then_some(Value::Object(example))
}

/// Puts models of this box where examples name others, so that they can be tried as they are.
pub(crate) fn name_models(document: &mut Value, models: [Option<&str>; 2]) {
    let bodies = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    let operations = bodies.flat_map(|path| path.as_object_mut().into_iter().flat_map(Map::values_mut));
    for operation in operations {
        let Some(named) = operation.pointer_mut("/requestBody/content/application~1json/example/model") else {
            continue;
        };
        let place = MODEL_EXAMPLES.iter().position(|example| named == example);
        if let Some(model) = place.and_then(|place| models[place]) {
            *named = json!(model);
        }
    }
}

/// JSON text of a value.
fn in_json(schema: &Value) -> Value {
    json!({"type": "string", "contentMediaType": JSON, "contentSchema": schema})
}

/// Each event of a stream, by its fields, as later versions of OpenAPI describe them.
fn events(data: Value) -> Value {
    let string = || json!({"type": "string"});
    let mut event = json!({"type": "object", "required": ["data"], "properties": {"event": string(), "id": string()}});
    event["properties"]["data"] = data;
    event
}

/// The document over these.
pub(crate) fn document(operations: &[Operation]) -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut generator =
        settings.with(|settings| settings.definitions_path = "/components/schemas".into()).into_generator();
    let mut paths = Map::new();
    for operation in operations {
        let path = operation.path.replace("{*", "{");
        paths.entry(path).or_insert_with(|| json!({}))[operation.method] = operation.describe(&mut generator);
    }
    let key = json!({"type": "http", "scheme": "bearer", "description": "A key of this box: `sk-allerac-...`"});
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Allerac",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What this box answers. Everything under `/v1` and `/api` needs a key.",
        },
        "security": [{"key": []}],
        "paths": paths,
        "components": {"securitySchemes": {"key": key}, "schemas": generator.take_definitions(true)},
    })
}
#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::operations::operations;

    #[test]
    fn examples_name_models_of_the_box() {
        let mut document = super::document(&operations());
        super::name_models(&mut document, [Some("mine"), None]);
        let example =
            |path: &str| &document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"];
        let chat = json!({"model": "mine", "messages": [{"role": "user", "content": "Why is the sky blue?"}], "max_tokens": 64});
        assert_eq!(example("/v1/chat/completions"), &chat);
        assert_eq!(example("/v1/embeddings"), &json!({"model": "all-minilm-l6-v2", "input": "Why is the sky blue?"}));
        assert_eq!(example("/claim"), &json!(null));
    }

    /// The description is part of what we promise: who changes it sees that here, and in the file.
    /// `ALLERAC_WRITE=1 cargo test --release -p allerac-http openapi` writes it anew.
    #[test]
    fn the_description_is_the_one_in_docs() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        let made = serde_json::to_string_pretty(&super::document(&operations())).unwrap() + "\n";
        if std::env::var_os("ALLERAC_WRITE").is_some() {
            std::fs::write(path, &made).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(made == kept, "docs/openapi.json is not what is served; write it anew as this test's comment says");
    }
}
