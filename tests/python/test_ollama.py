"""Ollama's API: with its own client, and as it is on the wire. Tools and thoughts come from a scripted server."""

import json
import time

import httpx
import ollama
import pytest

import allerac

HI = [{"role": "user", "content": "Say hello."}]
FEW = {"num_predict": 8, "temperature": 0}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
DURATIONS = {
    "total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration",
}  # fmt: skip


@pytest.fixture
def client(clients_server):
    return ollama.Client(host=clients_server.url, headers={"authorization": f"Bearer {clients_server.away_key}"})


@pytest.fixture
def http(clients_server):
    with clients_server.http(clients_server.away_key) as made:
        yield made


def chat(http, **fields) -> httpx.Response:
    return http.post("/api/chat", json={"model": allerac.MODEL, "messages": HI, "options": FEW, "stream": False} | fields)


def generate(http, **fields) -> httpx.Response:
    return http.post("/api/generate", json={"model": allerac.MODEL, "prompt": "Say hello.", "options": FEW, "stream": False} | fields)


def lines(http, path="/api/chat", **fields) -> list[dict]:
    """The lines of a stream; it streams unless it is told not to."""
    body = {"model": allerac.MODEL, "options": FEW} | ({"messages": HI} if path == "/api/chat" else {"prompt": "Say hello."})
    answer = http.post(path, json=body | fields)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def error(answer: httpx.Response, status: int) -> str:
    """The message of an error in Ollama's shape."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error"}
    assert body["error"]
    return body["error"]


# Chat and generate.


def test_what_stands_beside_the_options_counts(http):
    """As Vercel's provider sends it."""
    weather = {"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object", "properties": {"city": {"enum": ["Wien"]}}, "required": ["city"]}}}  # fmt: skip
    few = chat(http, options=None, max_output_tokens=3, temperature=0).json()
    assert (few["eval_count"], few["done_reason"]) == (3, "length")
    called = chat(http, options=None, max_output_tokens=60, tools=[weather], tool_choice="required").json()
    (call,) = called["message"]["tool_calls"]
    assert (call["function"]["name"], call["function"]["arguments"]) == ("weather", {"city": "Wien"})


def test_an_answer_has_every_field_and_real_times(http):
    began = time.monotonic_ns()
    body = chat(http).json()
    took = time.monotonic_ns() - began
    assert set(body) == {"model", "created_at", "message", "done", "done_reason"} | DURATIONS
    assert (body["model"], body["done"]) == (allerac.MODEL, True)
    assert set(body["message"]) == {"role", "content"}
    assert body["message"]["role"] == "assistant"
    assert body["done_reason"] == ("length" if body["eval_count"] == 8 else "stop")
    assert 0 < body["eval_count"] <= 8
    assert body["prompt_eval_count"] > 10
    assert 0 < body["prompt_eval_duration"] + body["eval_duration"] <= body["total_duration"] <= took
    assert body["load_duration"] < body["total_duration"]


def test_a_stream_says_the_same_in_lines(http):
    whole = chat(http).json()
    *said, last = lines(http)
    assert all(set(line) == {"model", "created_at", "message", "done"} and not line["done"] for line in said)
    assert "".join(line["message"]["content"] for line in said) == whole["message"]["content"]
    assert set(last) == {"model", "created_at", "message", "done", "done_reason"} | DURATIONS
    assert (last["done"], last["message"]) == (True, {"role": "assistant", "content": ""})
    assert (last["eval_count"], last["done_reason"]) == (whole["eval_count"], whole["done_reason"])
    assert last["eval_duration"] > 0


def test_the_client_chats_and_generates(client):
    answer = client.chat(model=f"{allerac.MODEL}:latest", messages=HI, options=FEW)
    assert (answer.model, answer.done) == (f"{allerac.MODEL}:latest", True)
    streamed = "".join(part.message.content for part in client.chat(model=allerac.MODEL, messages=HI, options=FEW, stream=True))
    assert streamed == answer.message.content
    generated = client.generate(model=allerac.MODEL, prompt="Say hello.", options=FEW)
    assert generated.response == streamed
    parts = client.generate(model="gpt-4o-mini", prompt="Say hello.", options=FEW, stream=True)
    assert "".join(part.response for part in parts) == streamed


def test_a_prompt_as_it_is_and_in_the_words_of_the_template(http):
    whole, raw = generate(http), generate(http, raw=True)
    assert set(whole.json()) == {"model", "created_at", "response", "done", "done_reason"} | DURATIONS
    assert raw.json()["prompt_eval_count"] < whole.json()["prompt_eval_count"]
    assert raw.json()["response"]
    briefed = generate(http, system="Answer in French.").json()
    assert briefed["prompt_eval_count"] != whole.json()["prompt_eval_count"]
    *said, last = lines(http, "/api/generate")
    assert "".join(line["response"] for line in said) == whole.json()["response"]
    assert last["response"] == ""


def test_options_are_honoured(http):
    said = chat(http).json()["message"]["content"]
    stop = said.split()[1]
    cut = chat(http, options=FEW | {"stop": [stop]}).json()
    assert (cut["message"]["content"], cut["done_reason"]) == (said[: said.index(stop)], "stop")
    seeded = [chat(http, options={"seed": 7, "temperature": 1.5, "num_predict": 12, "num_ctx": 131_072}).json() for _ in range(2)]
    assert seeded[0]["message"] == seeded[1]["message"]
    form = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
    more = FEW | {"num_predict": 60}
    assert set(json.loads(chat(http, format=form, options=more).json()["message"]["content"])) == {"n"}
    assert chat(http, format="json", options=more).json()["message"]["content"].startswith("{")
    logprobs = chat(http, logprobs=True, top_logprobs=2).json()["logprobs"]
    assert len(logprobs) == 8
    assert set(logprobs[0]) == {"token", "logprob", "bytes", "top_logprobs"}
    assert len(logprobs[0]["top_logprobs"]) == 2


def test_log_probabilities_come_from_other_servers_too(http):
    answered = chat(http, model="several", logprobs=True, top_logprobs=1).json()
    assert answered["message"]["content"] == "so 0"
    (entry,) = answered["logprobs"]
    assert (entry["token"], entry["logprob"], [top["token"] for top in entry["top_logprobs"]]) == ("so ", -0.25, ["so "])
    refused = error(generate(http, model="several", suffix="x"), 400)
    assert "`suffix`" in refused


def test_nothing_asked_loads_the_model(client, http):
    for answer in (http.post("/api/chat", json={"model": allerac.MODEL}), http.post("/api/generate", json={"model": allerac.MODEL})):
        body = answer.json()
        assert (body["done"], body["done_reason"]) == (True, "load")
    assert client.ps().models[0].model == f"{allerac.MODEL}:latest"
    assert client.generate(model=allerac.MODEL, keep_alive=0).done_reason == "unload"
    assert client.ps().models == []
    assert client.generate(model=allerac.MODEL, keep_alive=-1).done_reason == "load"
    assert "`keep_alive`" in error(http.post("/api/chat", json={"model": allerac.MODEL, "keep_alive": "soon"}), 400)
    error(http.post("/api/chat", json={"model": "nope"}), 404)


# Tools and thoughts.


def weather(city: str) -> str:
    """The weather of a city.

    Args:
        city: Which one.
    """
    return city


def test_thoughts_and_calls(client, clients_server):
    answer = client.chat(model="agent", messages=HI, tools=[weather], think=True)
    message = answer.message
    assert (message.thinking, message.content, answer.done_reason) == ("Hm, tools.", "I look.", "stop")
    assert [(call.function.name, call.function.arguments) for call in message.tool_calls] == [
        ("weather", {"city": "Wien"}), ("time", {}),
    ]  # fmt: skip
    sent = clients_server.upstream.seen[-1][2]
    assert (sent["tools"][0]["function"]["name"], sent["reasoning_effort"]) == ("weather", "medium")
    results = [{"role": "tool", "tool_name": "time", "content": "noon"}, {"role": "tool", "content": "rain"}]
    last = client.chat(model="agent", messages=[*HI, message, *results])
    assert last.message.content == "noon and rain"
    told = clients_server.upstream.seen[-1][2]["messages"]
    calls = {call["id"]: call["function"]["name"] for call in told[1]["tool_calls"]}
    assert [calls[message["tool_call_id"]] for message in told[2:]] == ["time", "weather"]


def test_calls_stream_whole(client):
    parts = list(client.chat(model="agent", messages=HI, tools=[weather], stream=True))
    assert "".join(part.message.thinking or "" for part in parts) == "Hm, tools."
    calls = [part.message.tool_calls for part in parts if part.message.tool_calls]
    assert [call.function.name for (call,) in calls] == ["weather", "time"]
    assert (parts[-1].done, parts[-1].eval_count, parts[-1].prompt_eval_count) == (True, 9, 21)


def test_a_stream_that_breaks_off_ends_with_an_error(client, http):
    assert "broke off" in lines(http, model="cut")[-1]["error"]
    with pytest.raises(ollama.ResponseError, match="broke off"):
        list(client.chat(model="cut", messages=HI, stream=True))


# Models.


def test_models_are_listed_and_shown(client, clients_server):
    listed = {model.model: model for model in client.list().models}
    assert set(listed) == {f"{name}:latest" for name in [
        allerac.MODEL, "agent", "cut", "fails", "refuses", "endless", "several", "agent-claude", "gpt-4o-mini"]}  # fmt: skip
    own = listed[f"{allerac.MODEL}:latest"]
    assert (own.digest, own.size) == (allerac.MODEL_SHA256, allerac.MODEL_FILE.stat().st_size)
    details = own.details
    assert (details.format, details.family, details.parameter_size, details.quantization_level) == (
        "gguf", "smollm2", "134.5M", "Q4_1",
    )  # fmt: skip
    for name in listed:
        client.show(name)
    shown = client.show(allerac.MODEL)
    info = shown.modelinfo
    assert (info["general.architecture"], info["general.parameter_count"]) == ("llama", 134_515_008)
    assert (info["llama.context_length"], info["llama.block_count"], info["llama.embedding_length"]) == (allerac.CONTEXT, 30, 576)
    assert (info["llama.attention.head_count_kv"], info["tokenizer.ggml.model"], info["tokenizer.ggml.tokens"]) == (3, "gpt2", None)
    # Its template knows of no tools and no thoughts.
    assert shown.capabilities == ["completion"]
    assert "im_start" in shown.template
    (running,) = client.ps().models
    assert (running.model, running.context_length) == (f"{allerac.MODEL}:latest", allerac.CONTEXT)
    home = ollama.Client(host=clients_server.url, headers={"authorization": f"Bearer {clients_server.home_key}"})
    assert {model.model for model in home.list().models} == {f"{allerac.MODEL}:latest", "gpt-4o-mini:latest"}


def test_the_key_comes_from_the_environment(clients_server, monkeypatch):
    monkeypatch.setenv("OLLAMA_API_KEY", clients_server.home_key)
    monkeypatch.setenv("OLLAMA_HOST", clients_server.url)
    assert ollama.Client().show(allerac.MODEL).details.family == "smollm2"


# Errors and orders.


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "tags"), ("GET", "ps"), ("GET", "version"), ("POST", "show"), ("POST", "chat"), ("POST", "generate"),
     ("POST", "pull"), ("DELETE", "delete"), ("POST", "copy"), ("POST", "create"), ("POST", "push"), ("POST", "blobs/x")],
)  # fmt: skip
def test_nothing_answers_without_a_key(clients_server, method, path):
    assert "key" in error(httpx.request(method, f"{clients_server.url}/api/{path}"), 401)


def test_each_mistake_has_its_status(http, client, clients_server):
    assert "nope" in error(chat(http, model="nope"), 404)
    error(http.get("/api/nothing"), 404)
    error(http.get("/api/chat"), 405)
    assert "JSON" in error(http.post("/api/chat", content=b"{"), 400)
    assert "JSON" in error(http.post("/api/chat", content=b'{"a":' * 50_000), 400)
    error(http.post("/api/chat", content=b" " * (8 * 1024 * 1024 + 1)), 413)
    error(http.post("/api/show", content=b" " * 100_000), 413)
    error(chat(http, model="fails"), 502)
    error(generate(http, model="agent", raw=True), 400)
    error(http.post("/api/show", json={"model": "nope"}), 404)
    error(http.post("/api/show", json={}), 400)
    with clients_server.http(clients_server.home_key) as home:
        error(chat(home, model="agent"), 403)
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat(model="nope", messages=HI)
    assert caught.value.status_code == 404


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"messages": [{"role": "king", "content": "x"}]}, "`messages[0].role`"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "tool_calls"),
        ({"messages": [{"role": "user", "content": "?", "images": ["@@"]}]}, "`messages[0].images[0]`"),
        ({"messages": [{"role": "user", "content": "?", "images": [PNG]}]}, "text only"),
        ({"options": {"stop": ["x"] * 100}}, "`options.stop` must be at most 16 strings"),
        ({"options": {"temprature": 1}}, "`options.temprature`"),
        ({"options": {"mirostat": 1}}, "mirostat"),
        ({"tools": [{"function": {"name": f"t{n}"}} for n in range(600)]}, "`tools` must be at most 512 tools"),
        ({"format": {"type": "nonsense"}}, "format"),
        ({"think": "much"}, "`think`"),
        ({"nonsense": 1}, "`nonsense`"),
        ({"messages": [{"role": "user", "content": "tea " * allerac.CONTEXT}]}, "context"),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_by_name(http, fields, said):
    assert said in error(chat(http, **fields), 400)


def test_the_oldest_turns_are_left_out_where_the_client_wants_that(http):
    said = ["word " * 5000, "A lot.", "Say hello."]
    talk = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(said)]
    for refused in ({}, {"truncate": False}):
        assert "context" in error(chat(http, messages=talk, **refused), 400)
    cut, short = chat(http, messages=talk, truncate=True).json(), chat(http, messages=talk[2:]).json()
    assert (cut["message"], cut["prompt_eval_count"]) == (short["message"], short["prompt_eval_count"])


@pytest.mark.parametrize("field", ["template", "context"])
def test_what_models_here_do_not_do_is_refused_by_name(http, field):
    value = [1, 2] if field == "context" else "x"
    assert f"`{field}` is not supported" in error(generate(http, **{field: value}), 400)


def test_a_model_that_fills_no_gaps_says_so(http):
    assert "fill in" in error(generate(http, suffix="x"), 400)


def test_orders_are_the_owners(fresh):
    owner, member = fresh.claim(), fresh.create_key("mo")
    orders = [("POST", "pull", {"model": allerac.MODEL}, 200, ""), ("POST", "pull", {"model": "other"}, 404, "catalogue"),
              ("DELETE", "delete", {"model": "x"}, 404, "`x`"), ("POST", "copy", {"source": "a", "destination": "b"}, 404, "`a`"),
              ("POST", "create", {"model": "x"}, 501, "catalogue"), ("POST", "push", {"model": "x"}, 501, "models"),
              ("HEAD", "blobs/sha256:0", None, 501, ""), ("POST", "blobs/sha256:0", None, 501, "catalogue")]  # fmt: skip
    with fresh.http(member) as http:
        for method, path, body, _, _ in orders:
            answer = http.request(method, f"/api/{path}", json=body)
            assert answer.status_code == 403
            assert method == "HEAD" or "owner" in error(answer, 403)
    with fresh.http(owner) as http:
        for method, path, body, status, said in orders:
            answer = http.request(method, f"/api/{path}", json=body)
            assert answer.status_code == status
            assert method == "HEAD" or status == 200 or said in error(answer, status)
    host = ollama.Client(host=fresh.url, headers={"authorization": f"Bearer {owner}"})
    assert host.pull(f"{allerac.MODEL}:latest").status == "success"
    assert [part.status for part in host.pull(allerac.MODEL, stream=True)] == ["pulling manifest", "writing manifest", "success"]
