//! The API's own description, an OpenAPI 3.1 document, made from what is served: `GET /openapi.json`.

use allerac_wire::ErrorBody;
use axum::routing::MethodRouter;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::state::AppState;

/// What is served at a path, and how that is described.
pub(crate) struct Operation {
    method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) handler: MethodRouter<AppState>,
    tag: &'static str,
    summary: &'static str,
    needs_key: bool,
    parameters: Vec<Value>,
    request: Option<Value>,
    answers: Vec<Answer>,
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
        Self { method, path, handler, tag: "", summary, needs_key: true, parameters, request: None, answers }
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
    pub(crate) fn in_query(mut self, name: &str, what: &str, schema: Value) -> Self {
        let mut parameter = json!({"name": name, "in": "query", "description": what});
        parameter["schema"] = schema;
        self.parameters.push(parameter);
        self
    }

    /// It answers a page of a list.
    pub(crate) fn lists(self) -> Self {
        self.in_query("after", "The last object of the page before.", json!({"type": "string"}))
            .in_query("limit", "Objects on a page.", json!({"type": "integer", "minimum": 1, "maximum": 100}))
            .in_query("order", "By time.", json!({"type": "string", "enum": ["asc", "desc"]}))
            .gives_object()
    }

    /// It answers an object in OpenAI's shape.
    pub(crate) fn gives_object(self) -> Self {
        self.gives_text(200, "application/json", |_| json!({"type": "object"}))
    }

    /// What it takes, as JSON.
    pub(crate) fn takes(self, schema: Value) -> Self {
        Self { request: Some(schema), ..self }
    }

    /// What it answers, as JSON.
    pub(crate) fn gives<T: JsonSchema>(self, status: u16) -> Self {
        self.gives_text(status, "application/json", |generator| generator.subschema_for::<T>().to_value())
    }

    /// It may also answer with server-sent events.
    pub(crate) fn streams(self) -> Self {
        self.gives_text(200, "text/event-stream", string)
    }

    /// What it answers as text.
    pub(crate) fn gives_plain(self, content_type: &'static str) -> Self {
        self.gives_text(200, content_type, string)
    }

    fn gives_text(
        mut self,
        status: u16,
        content_type: &'static str,
        schema: fn(&mut SchemaGenerator) -> Value,
    ) -> Self {
        self.answers.push(Answer { status, content_type, schema });
        self
    }

    fn describe(&self, generator: &mut SchemaGenerator) -> Value {
        let mut answers = Map::new();
        for Answer { status, content_type, schema } in &self.answers {
            let answer = answers.entry(status.to_string()).or_insert_with(|| json!({"description": "As asked for."}));
            answer["content"][content_type] = json!({"schema": schema(generator)});
        }
        let error = json!({"application/json": {"schema": generator.subschema_for::<ErrorBody>().to_value()}});
        answers.insert("4XX".into(), json!({"description": "The request is at fault.", "content": error}));
        answers.insert("5XX".into(), json!({"description": "The box, or a server behind it, is.", "content": error}));
        let mut operation = json!({
            "operationId": format!("{}{}", self.method, self.path.replace(['/', '{', '}', '*', '-', '.'], "_")),
            "tags": [self.tag], "summary": self.summary, "responses": answers,
        });
        if !self.parameters.is_empty() {
            operation["parameters"] = json!(self.parameters);
        }
        if let Some(request) = &self.request {
            operation["requestBody"] = json!({"required": true, "content": {"application/json": {"schema": request}}});
        }
        if !self.needs_key {
            operation["security"] = json!([]);
        }
        operation
    }
}

fn string(_: &mut SchemaGenerator) -> Value {
    json!({"type": "string"})
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
            "description": "What this box answers. Everything under `/v1` needs a key.",
        },
        "security": [{"key": []}],
        "paths": paths,
        "components": {"securitySchemes": {"key": key}, "schemas": generator.take_definitions(true)},
    })
}

#[cfg(test)]
mod tests {
    use crate::operations::operations;

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
