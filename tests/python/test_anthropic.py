"""Anthropic's API: with its own client, and as it is on the wire. Tools and thoughts come from a scripted server."""

import contextlib
import json

import anthropic
import httpx
import pytest

import allerac

HI = [{"role": "user", "content": "Say hello."}]
TOOLS = [
    {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}},
    {"name": "time", "description": "It is late.", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}},
]
THINKING = {"type": "enabled", "budget_tokens": 1024}
USAGE_KEYS = {
    "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "cache_creation", "output_tokens",
    "output_tokens_details", "server_tool_use", "service_tier", "inference_geo", "speed",
}  # fmt: skip
MESSAGE_KEYS = {
    "id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "stop_details", "container", "diagnostics",
    "usage",
}  # fmt: skip


@pytest.fixture
def client(clients_server):
    with anthropic.Anthropic(base_url=clients_server.url, api_key=clients_server.away_key, max_retries=0) as made:
        yield made


@pytest.fixture
def http(clients_server):
    with httpx.Client(
        base_url=clients_server.url, headers={"x-api-key": clients_server.away_key}, timeout=120
    ) as made:
        yield made


def ask(client, extra_body=None, **options):
    extra_body = {"temperature": 0} | (extra_body or {})
    return client.messages.create(**{"model": allerac.MODEL, "max_tokens": 20, "messages": HI} | options, extra_body=extra_body)


def post(http, path="/v1/messages", **fields) -> httpx.Response:
    return http.post(path, json={"model": allerac.MODEL, "max_tokens": 20, "messages": HI, "temperature": 0} | fields)


def events(http, **fields) -> list[tuple[str, dict]]:
    """The events of a stream, with their names; comments are left out."""
    answer = post(http, stream=True, **fields)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in answer.text.strip().split("\n\n"):
        lines = [line for line in block.split("\n") if not line.startswith(":")]
        if lines:
            name, data = lines
            found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    assert [name for name, _ in found] == [data["type"] for _, data in found]
    return [event for event in found if event[0] != "ping"]


def error(answer: httpx.Response, status: int, kind: str) -> str:
    """The message of an error in Anthropic's shape."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"type", "error", "request_id"}
    assert set(body["error"]) - {"details"} == {"type", "message"}
    assert (body["type"], body["error"]["type"]) == ("error", kind)
    assert body["request_id"].startswith("req_")
    assert answer.headers["request-id"] == body["request_id"]
    return body["error"]["message"]


# Messages.


def test_a_message_has_every_field(http):
    answer = post(http)
    body = answer.json()
    assert set(body) == MESSAGE_KEYS
    assert set(body["usage"]) == USAGE_KEYS
    assert (body["type"], body["role"], body["model"], body["stop_reason"]) == (
        "message", "assistant", allerac.MODEL, "max_tokens" if body["usage"]["output_tokens"] == 20 else "end_turn",
    )  # fmt: skip
    assert body["id"].startswith("msg_")
    (block,) = body["content"]
    assert set(block) == {"type", "text", "citations"}
    assert block["text"]
    assert answer.headers["x-allerac-served-by"] == "local"
    assert answer.headers["request-id"].startswith("req_")


def test_a_stream_has_the_events_in_order_and_says_the_same(client, http):
    whole = ask(client)
    found = events(http)
    names = [name for name, _ in found]
    deltas = names.count("content_block_delta")
    assert names == [
        "message_start", "content_block_start", *["content_block_delta"] * deltas, "content_block_stop",
        "message_delta", "message_stop",
    ]  # fmt: skip
    message = found[0][1]["message"]
    assert set(message) == MESSAGE_KEYS
    assert (message["content"], message["stop_reason"]) == ([], None)
    prompt = message["usage"]["input_tokens"] + message["usage"]["cache_read_input_tokens"]
    text = "".join(data["delta"]["text"] for name, data in found if name == "content_block_delta")
    assert text == whole.content[0].text
    end = found[-2][1]
    assert set(end["delta"]) == {"stop_reason", "stop_sequence", "stop_details", "container"}
    assert end["delta"]["stop_reason"] == whole.stop_reason
    assert end["usage"]["output_tokens"] == whole.usage.output_tokens
    assert end["usage"]["input_tokens"] + end["usage"]["cache_read_input_tokens"] == prompt
    assert '\nevent: ping\ndata: {"type":"ping"}\n' in post(http, stream=True).text


def test_the_client_puts_a_stream_together(client):
    with client.messages.stream(model=allerac.MODEL, max_tokens=20, messages=HI, extra_body={"temperature": 0}) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert text == message.content[0].text == ask(client).content[0].text
    assert message.usage.output_tokens == ask(client).usage.output_tokens


def test_known_tokens_are_told_apart_and_counting_is_exact(client):
    system = "You are a helpful assistant who knows a great deal about tea, coffee and cocoa. " * 5
    prompt = {"model": allerac.MODEL, "system": system, "messages": HI}
    counted = client.messages.with_raw_response.count_tokens(**prompt)
    assert counted.headers["x-allerac-token-count"] == "exact"
    tokens = counted.parse().input_tokens
    plain, second = (client.messages.create(**prompt, max_tokens=1).usage for _ in range(2))
    for usage in (plain, second):
        assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (tokens, 0, 0)
    # Who asks for a cache hears what was in it.
    told = client.messages.create(**prompt, max_tokens=1, cache_control={"type": "ephemeral"}).usage
    assert (told.input_tokens + told.cache_read_input_tokens, told.cache_creation_input_tokens) == (tokens, 0)
    assert told.cache_read_input_tokens >= tokens - 2


def test_an_answer_goes_on_from_where_it_was_begun(client, http):
    said = ask(client).content[0].text
    begun = said[: said.index(" ", 3)]
    messages = [*HI, {"role": "assistant", "content": begun}]
    more = ask(client, messages=messages)
    # What was begun leaves room for more.
    assert more.content[0].text.startswith(said[len(begun) :])
    assert more.usage.input_tokens == client.messages.count_tokens(model=allerac.MODEL, messages=messages).input_tokens
    found = events(http, messages=messages)
    deltas = [data["delta"]["text"] for name, data in found if name == "content_block_delta"]
    assert "".join(deltas) == more.content[0].text
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    for fields in (
        {"output_config": {"format": {"type": "json_schema", "schema": schema}}},
        {"tools": [{"name": "f", "input_schema": schema}], "tool_choice": {"type": "any"}},
    ):
        assert "begins the answer" in error(post(http, messages=messages, **fields), 400, "invalid_request_error")


def test_a_stop_sequence_is_named(client):
    said = ask(client).content[0].text
    stop = said.split()[1]
    message = ask(client, stop_sequences=["never said", stop])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", stop)
    assert message.content[0].text == said[: said.index(stop)]


def test_more_tokens_than_the_context_has_may_be_asked_for(client):
    """Agents ask for tens of thousands whatever the model."""
    assert ask(client, max_tokens=20_000, stop_sequences=["!", "."]).stop_reason in {"stop_sequence", "end_turn"}


def test_an_answer_may_fill_the_context(tmp_path):
    context = 512
    with allerac.Server(allerac.data_dir(tmp_path / "data"), config=f"context = {context}\n") as small:
        client = anthropic.Anthropic(base_url=small.url, api_key=small.create_key(), max_retries=0)
        full = [{"role": "user", "content": "tea " * 450}]
        tokens = client.messages.count_tokens(model=allerac.MODEL, messages=full).input_tokens
        assert 450 < tokens < context
        message = ask(client, max_tokens=20_000, messages=full, extra_body={"logit_bias": allerac.NEVER_END})
        assert message.stop_reason == "model_context_window_exceeded"
        assert message.usage.output_tokens == context - tokens
        assert "context" in error_of(client, messages=[{"role": "user", "content": "tea " * context}])


def error_of(client, **options) -> str:
    with pytest.raises(anthropic.BadRequestError) as caught:
        ask(client, **options)
    return caught.value.body["error"]["message"]


def test_an_answer_is_of_a_form(client):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
    form = {"format": {"type": "json_schema", "schema": schema}}
    answer = json.loads(ask(client, output_config=form, max_tokens=60).content[0].text)
    assert set(answer) == {"n"}
    assert isinstance(answer["n"], int)


def test_beta_headers_and_a_query_change_nothing(http):
    headers = {"anthropic-beta": "some-beta-2031-01-01", "anthropic-version": "2023-06-01"}
    body = {"model": allerac.MODEL, "max_tokens": 1, "messages": HI,
            "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}}  # fmt: skip
    answer = http.post("/v1/messages?beta=true", headers=headers, json=body)
    assert answer.status_code == 200
    assert answer.json()["context_management"] == {"applied_edits": []}


# Tools and thoughts.


def test_thoughts_and_calls_are_blocks_of_their_own(client, clients_server):
    message = ask(client, model="agent", max_tokens=2000, tools=TOOLS, thinking=THINKING, tool_choice={"type": "any"})
    kinds = [block.type for block in message.content]
    assert kinds == ["thinking", "text", "tool_use", "tool_use"]
    thought, text, weather, time = message.content
    assert (thought.thinking, text.text) == ("Hm, tools.", "I look.")
    assert thought.signature
    assert (weather.id, weather.name, weather.input) == ("call_a", "weather", {"city": "Wien"})
    assert (time.id, time.name, time.input) == ("call_b", "time", {})
    assert message.stop_reason == "tool_use"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (21, 9)
    assert message.usage.output_tokens_details.thinking_tokens == 4
    sent = clients_server.upstream.seen[-1][2]
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["weather", "time"]
    assert (sent["tool_choice"], sent["reasoning_effort"], sent["max_completion_tokens"]) == ("required", "low", 2000)

    results = [{"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": call.name}]}
               for call in (weather, time)]  # fmt: skip
    messages = [*HI, {"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    last = ask(client, model="agent", messages=messages, tools=TOOLS)
    assert (last.content[0].text, last.stop_reason) == ("weather and time", "end_turn")
    asked = clients_server.upstream.seen[-1][2]["messages"][1]
    assert [call["id"] for call in asked["tool_calls"]] == ["call_a", "call_b"]
    assert asked["content"] == "I look."


def test_calls_and_thoughts_stream_in_order(http, client):
    found = events(http, model="agent", max_tokens=2000, tools=TOOLS, thinking=THINKING)
    told = [(name, data.get("index"), data.get("delta", {}).get("type")) for name, data in found]
    block = lambda index, *deltas: [  # noqa: E731
        ("content_block_start", index, None), *[("content_block_delta", index, f"{kind}_delta") for kind in deltas],
        ("content_block_stop", index, None),
    ]  # fmt: skip
    assert told == [
        ("message_start", None, None),
        *block(0, "thinking", "thinking", "signature"),
        *block(1, "text", "text"),
        *block(2, "input_json", "input_json"),
        *block(3, "input_json"),
        ("message_delta", None, None),
        ("message_stop", None, None),
    ]
    assert found[-2][1]["delta"]["stop_reason"] == "tool_use"
    assert found[-2][1]["usage"]["input_tokens"] == 21
    with client.messages.stream(model="agent", max_tokens=20, messages=HI, tools=TOOLS) as stream:
        message = stream.get_final_message()
    assert [block.type for block in message.content] == ["text", "tool_use", "tool_use"]
    assert message.content[1].input == {"city": "Wien"}


def test_thoughts_are_told_as_asked(client):
    kinds = lambda **options: [block.type for block in ask(client, model="agent", **options).content]  # noqa: E731
    assert kinds() == kinds(thinking={"type": "disabled"}) == ["text", "tool_use", "tool_use"]
    omitted = ask(client, model="agent", thinking={"type": "adaptive", "display": "omitted"}).content[0]
    assert (omitted.type, omitted.thinking) == ("thinking", "")
    assert omitted.signature


def test_a_stream_that_breaks_off_ends_with_an_error(http, client):
    name, data = events(http, model="cut")[-1]
    assert name == "error"
    assert data["error"]["type"] == "api_error"
    assert data["request_id"].startswith("req_")
    with pytest.raises(anthropic.APIStatusError), client.messages.stream(model="cut", max_tokens=9, messages=HI) as stream:
        stream.get_final_message()


# Errors.


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize("headers", [{}, {"x-api-key": "sk-allerac-nobody"}, {"authorization": "Basic eA=="}])
def test_nothing_answers_without_a_key(clients_server, path, headers):
    error(httpx.post(clients_server.url + path, headers=headers, json={}), 401, "authentication_error")


def test_either_header_carries_the_key(clients_server):
    for headers in ({"x-api-key": clients_server.home_key}, {"authorization": f"Bearer {clients_server.home_key}"}):
        for path in ("/v1/models", "/api/tags"):
            assert httpx.get(clients_server.url + path, headers=headers).status_code == 200


def test_each_mistake_has_its_type(http, clients_server):
    assert "nope" in error(post(http, model="nope"), 404, "not_found_error")
    error(http.post("/v1/messages/nothing"), 404, "not_found_error")
    error(http.get("/v1/messages"), 405, "invalid_request_error")
    assert "JSON" in error(http.post("/v1/messages", content=b"{"), 400, "invalid_request_error")
    assert "JSON" in error(http.post("/v1/messages", content=b'{"a":' * 50_000), 400, "invalid_request_error")
    error(http.post("/v1/messages", content=b" " * (8 * 1024 * 1024 + 1)), 413, "request_too_large")
    error(post(http, model="fails"), 502, "api_error")
    error(post(http, model="refuses"), 422, "invalid_request_error")
    assert "left" in error(post(http, model="agent", max_tokens=60_000_000), 402, "billing_error")
    with httpx.Client(base_url=clients_server.url, headers={"x-api-key": clients_server.home_key}) as home:
        error(post(home, model="agent"), 403, "permission_error")
    assert "lost" in error(post(http, model="lost"), 404, "not_found_error")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"max_tokens": None}, "`max_tokens` is required"),
        ({"messages": []}, "`messages`"),
        ({"messages": [{"role": "king", "content": "x"}]}, "`messages[0].role`"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x"}]}]}, "tool_use"),
        ({"messages": [*HI, {"role": "assistant", "content": "Hel "}]}, "last message"),
        ({"stop_sequences": ["x"] * 100}, "`stop_sequences` must be at most 16 strings"),
        ({"tools": [{"name": f"t{n}", "input_schema": {}} for n in range(600)]}, "`tools` must be at most 512 tools"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "`tools[0].type` is not supported"),
        ({"temperature": 1.5}, "`temperature`"),
        ({"nonsense": 1}, "`nonsense`"),
        ({"output_config": {"format": {"type": "json_schema", "schema": {"type": "nonsense"}}}}, "output_config.format.schema"),
        ({"messages": [{"role": "user", "content": [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}]}]}, "text only"),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_by_name(http, fields, said):
    assert said in error(post(http, **fields), 400, "invalid_request_error")


def test_a_client_that_would_have_the_box_hold_its_conversation_does_without(http, clients_server):
    answer = post(http, thread={"type": "create"})
    assert "`thread`" in error(answer, 400, "invalid_request_error")
    assert answer.json()["error"]["details"] == {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}

    @anthropic.beta_tool
    def weather(city: str) -> str:
        """The weather of a city."""
        return f"sunny in {city}"

    with anthropic.Anthropic(base_url=clients_server.url, api_key=clients_server.away_key, max_retries=0) as client:
        runner = client.beta.messages.tool_runner(model="agent", max_tokens=100, tools=[weather], messages=HI)
        # It calls a tool that is not there as well, which the client answers with an error.
        assert runner.until_done().content[0].text.startswith("sunny in Wien")


def test_many_tools_are_no_trouble(http):
    """200 tools of 1.5 KB do not fit the small model's context, and the other server takes them."""
    schema = {"type": "object", "properties": {f"p{n}": {"type": "string", "description": "x" * 40} for n in range(20)}}
    tools = [{"name": f"t{n}", "input_schema": schema} for n in range(200)]
    assert post(http, model="agent", tools=tools).status_code == 200
    assert post(http, tools=tools).status_code in {200, 400}


# Models, counting, other names.


def test_models_in_the_shape_of_either_api(client, http):
    listed = [model.id for model in client.models.list(limit=1000)]
    theirs = ["agent", "cut", "fails", "refuses", "endless", "several"]
    assert listed == [allerac.MODEL, *theirs, "agent-claude", "gpt-4o-mini"]
    first = client.models.list(limit=3)
    assert (first.has_more, first.first_id, first.last_id) == (True, allerac.MODEL, "cut")
    assert [model.id for model in client.models.list(limit=3, after_id="cut")] [:3] == ["fails", "refuses", "endless"]
    before = client.models.list(limit=2, before_id="fails")
    assert ([model.id for model in before.data], before.has_more) == (["agent", "cut"], True)
    model = client.models.retrieve(allerac.MODEL)
    assert (model.display_name, model.max_input_tokens) == ("SmolLM2 135M Instruct (Q4_1)", allerac.CONTEXT)
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("nope")
    between = client.models.list(after_id=allerac.MODEL, before_id="fails")
    assert [model.id for model in between.data] == ["agent", "cut"]
    for query in ("limit=0", "limit=x", "after_id=nope"):
        answer = http.get(f"/v1/models?{query}", headers={"anthropic-version": "2023-06-01"})
        assert answer.json()["type"] == "error"
    assert http.get("/v1/models").json()["object"] == "list"


def test_a_count_for_another_server_says_that_it_is_an_estimate(client, clients_server):
    seen = len(clients_server.upstream.seen)
    counted = client.messages.with_raw_response.count_tokens(model="agent", messages=HI, tools=TOOLS)
    assert counted.headers["x-allerac-token-count"] == "estimate"
    assert 20 < counted.parse().input_tokens < 200
    assert len(clients_server.upstream.seen) == seen


def test_names_stand_for_models(client, clients_server):
    real = ask(client)
    for name in ("claude-opus-9", "gpt-4o-mini", f"{allerac.MODEL}:latest"):
        message = ask(client, model=name)
        assert (message.model, message.content[0].text) == (name, real.content[0].text)
    assert ask(client, model="agent-claude").content[0].text == "I look."
    with clients_server.client(clients_server.home_key) as openai_client:
        answer = openai_client.chat.completions.create(model="gpt-4o-mini", messages=HI, max_tokens=1)
        assert answer.model == "gpt-4o-mini"
        assert [model.id for model in openai_client.models.list()] == [allerac.MODEL, "gpt-4o-mini"]
        assert openai_client.models.retrieve("claude-9").id == "claude-9"
    with contextlib.closing(allerac.Books(clients_server.data)) as books:
        allerac.wait_for("nothing open", lambda: books.open_reservations() == 0)
        assert {model for (model,) in books.rows("SELECT DISTINCT model FROM usage")} <= {allerac.MODEL, "agent", "cut", "endless"}
        assert ("messages",) in books.rows("SELECT DISTINCT endpoint FROM usage")
        books.check()


def test_the_root_answers_to_head(clients_server):
    assert httpx.head(clients_server.url).status_code == 200


def test_a_client_that_leaves_ends_its_request(http, clients_server):
    body = {"model": "endless", "max_tokens": 1000, "messages": HI, "stream": True}
    with http.stream("POST", "/v1/messages", json=body) as answer:
        next(answer.iter_lines())
    assert clients_server.upstream.abandoned.acquire(timeout=15)
