//! `POST /v1/embeddings` and `POST /v1/rerank`.

use serde_json::{Value, json};

use super::MODEL_EXAMPLES;
use super::{any_of, array, boolean, described, example, integer, list, object, some_text, string, word};
use crate::embedding::INPUTS_MAX;
use crate::rerank::DOCUMENTS_MAX;

/// A request for embeddings.
#[must_use]
pub fn embedding_request() -> Value {
    let tokens = || {
        let mut tokens = list(integer(0, i64::from(u32::MAX)));
        tokens["minItems"] = json!(1);
        tokens
    };
    let input = any_of([some_text(), array(some_text(), 1, INPUTS_MAX), tokens(), array(tokens(), 1, INPUTS_MAX)]);
    object(
        &["model", "input"],
        [
            ("model", model()),
            ("input", example("Why is the sky blue?", described("A text, or several, or tokens of the model.", input))),
            ("encoding_format", described("How vectors are written.", word(&["float", "base64"]))),
            ("dimensions", described("Numbers wanted in each vector, where the model allows fewer.", count())),
            ("user", described("Who asks, in the client's words; without effect.", string())),
        ],
    )
}

/// A request to rank documents.
#[must_use]
pub fn rerank_request() -> Value {
    let document = any_of([some_text(), object(&["text"], [("text", some_text())])]);
    let documents = described("What is to be ranked.", array(document, 1, DOCUMENTS_MAX));
    let some = json!(["Light is scattered by air.", "Bread is made of flour."]);
    object(
        &["model", "query", "documents"],
        [
            ("model", model()),
            ("query", example("Why is the sky blue?", described("What they are to answer.", some_text()))),
            ("documents", example(some, documents)),
            ("top_n", described("How many of the best are wanted.", count())),
            ("return_documents", described("Whether the answer repeats the documents.", boolean())),
            ("user", described("Who asks, in the client's words; without effect.", string())),
        ],
    )
}

/// A model that makes vectors.
fn model() -> Value {
    example(MODEL_EXAMPLES[1], described("An id of `GET /v1/models`.", string()))
}

fn count() -> Value {
    integer(1, i64::from(u32::MAX))
}
