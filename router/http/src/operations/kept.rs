//! OpenAI's API: what is kept.

use allerac_wire::schema::{
    InputItem, ResponseEvent, batch_request, conversation_items_request, conversation_request, file_form,
    metadata_update,
};
use allerac_wire::{BatchObject, ConversationObject, Deleted, FileObject, ListPage, ResponseObject};
use axum::extract::DefaultBodyLimit;
use axum::routing::{delete, get, post};
use serde_json::json;

use super::under;
use crate::handlers::responses::kept;
use crate::handlers::{batches, conversations, files, stored};
use crate::openapi::Operation;

/// Objects on a page, as OpenAI's API has it.
const LIMIT_MAX: u64 = 100;

pub(super) fn operations() -> Vec<Operation> {
    let chats = under("OpenAI: kept chat completions", chats());
    let responses = under("OpenAI: kept responses", responses());
    let conversations = under("OpenAI: conversations", conversations());
    let files = under("OpenAI: files", files());
    chats.chain(responses).chain(conversations).chain(files).chain(under("OpenAI: batches", batches())).collect()
}

fn chats() -> [Operation; 5] {
    const ONE: &str = "/v1/chat/completions/{id}";
    [
        Operation::get("/v1/chat/completions", get(stored::list), "Chat completions that were kept for you")
            .in_query("model", "Those of this model.", json!({"type": "string"}))
            .lists::<stored::Told>(LIMIT_MAX),
        Operation::get(ONE, get(stored::get), "One of them").in_path("id", "Its id.").gives::<stored::Told>(200),
        Operation::post(ONE, post(stored::update), "Give it other metadata")
            .in_path("id", "Its id.")
            .takes(metadata_update())
            .gives::<stored::Told>(200),
        Operation::delete(ONE, delete(stored::delete), "Keep it no longer")
            .in_path("id", "Its id.")
            .gives::<Deleted>(200),
        Operation::get("/v1/chat/completions/{id}/messages", get(stored::messages), "What was asked")
            .in_path("id", "Its id.")
            .lists::<stored::Asked>(LIMIT_MAX),
    ]
}

fn responses() -> [Operation; 4] {
    const ONE: &str = "/v1/responses/{id}";
    let words = || json!({"type": "array", "items": {"type": "string"}});
    let number = json!({"type": "integer", "minimum": 0, "maximum": i64::MAX});
    [
        Operation::get(ONE, get(kept::get), "A response as it stands")
            .in_path("id", "Its id.")
            .in_query("stream", "Whether its events are told again.", json!({"type": "boolean"}))
            .in_query("starting_after", "The number of the last event that came.", number)
            .in_query("include", "Without effect: all that may be told is told.", words())
            .in_query("include_obfuscation", "Without effect: nothing is padded.", json!({"type": "boolean"}))
            .in_header("Last-Event-ID", "The same as `starting_after`.", json!({"type": "string"}))
            .gives::<ResponseObject>(200)
            .tells::<ResponseEvent>(),
        Operation::delete(ONE, delete(kept::delete), "Keep it no longer; what runs ends")
            .in_path("id", "Its id.")
            .gives::<Deleted>(200),
        Operation::post("/v1/responses/{id}/cancel", post(kept::cancel), "End one in the background")
            .in_path("id", "Its id.")
            .gives::<ResponseObject>(200),
        Operation::get("/v1/responses/{id}/input_items", get(kept::input_items), "What it answers")
            .in_path("id", "Its id.")
            .in_query("include", "Without effect: all that may be told is told.", words())
            .lists::<InputItem>(LIMIT_MAX),
    ]
}

fn conversations() -> [Operation; 8] {
    const ONE: &str = "/v1/conversations/{id}";
    const ITEMS: &str = "/v1/conversations/{id}/items";
    const ITEM: &str = "/v1/conversations/{id}/items/{item}";
    let one = |operation: Operation| operation.in_path("id", "Its id.");
    let item = |operation: Operation| one(operation).in_path("item", "The item's id.");
    let words = || json!({"type": "array", "items": {"type": "string"}});
    let including =
        |operation: Operation| operation.in_query("include", "Without effect: all that may be told is told.", words());
    [
        Operation::post("/v1/conversations", post(conversations::create), "Begin a conversation")
            .takes(conversation_request())
            .gives::<ConversationObject>(200),
        one(Operation::get(ONE, get(conversations::get), "One of them")).gives::<ConversationObject>(200),
        one(Operation::post(ONE, post(conversations::update), "Give it other metadata"))
            .takes(metadata_update())
            .gives::<ConversationObject>(200),
        one(Operation::delete(ONE, delete(conversations::delete), "Keep it no longer")).gives::<Deleted>(200),
        including(one(Operation::post(ITEMS, post(conversations::add_items), "Add to what was said")))
            .takes(conversation_items_request())
            .gives::<ListPage<InputItem>>(200),
        including(one(Operation::get(ITEMS, get(conversations::items), "What was said"))).lists::<InputItem>(LIMIT_MAX),
        including(item(Operation::get(ITEM, get(conversations::item), "One item"))).gives::<InputItem>(200),
        item(Operation::delete(ITEM, delete(conversations::delete_item), "Take an item out"))
            .gives::<ConversationObject>(200),
    ]
}

fn files() -> [Operation; 5] {
    const ONE: &str = "/v1/files/{id}";
    // It bounds by itself what it reads.
    let bring = post(files::create).layer(DefaultBodyLimit::disable());
    [
        Operation::post("/v1/files", bring, "Bring a file")
            .takes_as("multipart/form-data", file_form(files::PURPOSES))
            .gives::<FileObject>(200),
        Operation::get("/v1/files", get(files::list), "Your files")
            .in_query("purpose", "Those for this.", json!({"type": "string"}))
            .lists::<FileObject>(files::LIMIT_MAX),
        Operation::get(ONE, get(files::get), "One of them").in_path("id", "Its id.").gives::<FileObject>(200),
        Operation::delete(ONE, delete(files::delete), "Keep it no longer")
            .in_path("id", "Its id.")
            .gives::<Deleted>(200),
        Operation::get("/v1/files/{id}/content", get(files::content), "What is in it")
            .in_path("id", "Its id.")
            .gives_bytes("application/octet-stream"),
    ]
}

fn batches() -> [Operation; 4] {
    [
        Operation::post("/v1/batches", post(batches::create), "Answer the requests in a file when nobody else waits")
            .takes(batch_request())
            .gives::<BatchObject>(200),
        Operation::get("/v1/batches", get(batches::list), "Your batches").lists::<BatchObject>(LIMIT_MAX),
        Operation::get("/v1/batches/{id}", get(batches::get), "One of them")
            .in_path("id", "Its id.")
            .gives::<BatchObject>(200),
        Operation::post("/v1/batches/{id}/cancel", post(batches::cancel), "End one")
            .in_path("id", "Its id.")
            .gives::<BatchObject>(200),
    ]
}
