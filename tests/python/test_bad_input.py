"""What no server should choke on, sent to each API: the right refusal in that API's shape, and nobody is harmed."""

import json

import pytest

import allerac

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
GARBAGE = "%%% this is no base64 %%%"


class Chat:
    path = "/v1/chat/completions"
    stop = "stop"

    @staticmethod
    def body(**fields):
        return {"model": allerac.MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2} | fields

    @classmethod
    def messages(cls, messages):
        return cls.body(messages=messages)

    @classmethod
    def tools(cls, tools):
        return cls.body(tools=[{"type": "function", "function": tool} for tool in tools], tool_choice="required")

    @classmethod
    def form(cls, schema):
        return cls.body(response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": schema}})

    @classmethod
    def image(cls, data):
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
        return cls.messages([{"role": "user", "content": [image]}])

    orphan = {"role": "tool", "tool_call_id": "nobody", "content": "4"}

    @staticmethod
    def refusal(answer) -> str:
        body = answer.json()
        assert set(body) == {"error"}
        assert set(body["error"]) == {"message", "type", "param", "code"}
        assert body["error"]["type"] == "invalid_request_error"
        return body["error"]["message"]


class Responses(Chat):
    path = "/v1/responses"
    # It has none.
    stop = None
    orphan = {"type": "function_call_output", "call_id": "nobody", "output": "4"}

    @staticmethod
    def body(**fields):
        return {"model": allerac.MODEL, "input": "hi", "max_output_tokens": 2, "store": False} | fields

    @classmethod
    def messages(cls, messages):
        return cls.body(input=messages)

    @classmethod
    def tools(cls, tools):
        return cls.body(tools=[{"type": "function"} | tool for tool in tools], tool_choice="required")

    @classmethod
    def form(cls, schema):
        return cls.body(text={"format": {"type": "json_schema", "name": "s", "schema": schema}})

    @classmethod
    def image(cls, data):
        image = {"type": "input_image", "image_url": f"data:image/png;base64,{data}"}
        return cls.messages([{"role": "user", "content": [image]}])


class Anthropic(Chat):
    path = "/v1/messages"
    stop = "stop_sequences"
    orphan = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "nobody", "content": "4"}]}

    @classmethod
    def tools(cls, tools):
        tools = [{"input_schema" if name == "parameters" else name: tool[name] for name in tool} for tool in tools]
        return cls.body(tools=tools, tool_choice={"type": "any"})

    @classmethod
    def form(cls, schema):
        return cls.body(output_config={"format": {"type": "json_schema", "schema": schema}})

    @classmethod
    def image(cls, data):
        source = {"type": "base64", "media_type": "image/png", "data": data}
        return cls.messages([{"role": "user", "content": [{"type": "image", "source": source}]}])

    @staticmethod
    def refusal(answer) -> str:
        body = answer.json()
        assert set(body) == {"type", "error", "request_id"}
        assert (body["type"], body["error"]["type"]) == ("error", "invalid_request_error")
        return body["error"]["message"]


class Ollama(Chat):
    path = "/api/chat"
    orphan = {"role": "tool", "tool_name": "nobody", "content": "4"}
    stop = "options.stop"

    @staticmethod
    def body(**fields):
        return {
            "model": allerac.MODEL, "messages": [{"role": "user", "content": "hi"}], "options": {"num_predict": 2},
            "stream": False,
        } | fields  # fmt: skip

    @classmethod
    def tools(cls, tools):
        return cls.body(tools=[{"type": "function", "function": tool} for tool in tools])

    @classmethod
    def form(cls, schema):
        return cls.body(format=schema)

    @classmethod
    def image(cls, data):
        return cls.messages([{"role": "user", "content": "what is it?", "images": [data]}])

    @staticmethod
    def refusal(answer) -> str:
        body = answer.json()
        assert set(body) == {"error"}
        return body["error"]


APIS = [Chat, Responses, Anthropic, Ollama]


@pytest.fixture(autouse=True)
def nobody_is_harmed(server, http):
    """The same engine goes on, and answers."""
    before = server.engine_pids()
    yield
    assert server.engine_pids() == before
    assert http.post(Chat.path, json=Chat.body()).status_code == 200


def refused(http, api, body, *words: str):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = http.post(api.path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    message = api.refusal(answer)
    for word in words:
        assert word in message, message


def nested(depth: int, leaf):
    """Objects in objects: a schema so deep, or a body."""
    for _ in range(depth):
        leaf = {"type": "object", "properties": {"a": leaf}}
    return leaf


@pytest.mark.parametrize("api", APIS)
def test_deep_json(http, api):
    refused(http, api, b'{"model": ' + b"[" * 100_000, "JSON")
    refused(http, api, b'{"a":' * 100_000, "JSON")
    refused(http, api, json.dumps(api.form(0)).replace("0", "[" * 200 + "]" * 200, 1).encode(), "JSON")
    refused(http, api, api.tools([{"name": "f", "parameters": nested(100, {})}]), "JSON")


def exponential(levels: int) -> dict:
    """Each definition has the next one twice: written out, no memory would hold it."""
    definitions = {
        f"d{level}": {"type": "object", "properties": {name: {"$ref": f"#/$defs/d{level + 1}"} for name in "ab"}, "required": ["a", "b"]}
        for level in range(levels)
    }  # fmt: skip
    definitions[f"d{levels}"] = {"type": "string"}
    return {"$defs": definitions, "$ref": "#/$defs/d0"}


BOMBS = {
    "exponential": exponential(30),
    "loop": {"$ref": "#"},
    "loop of two": {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    "reference to nothing": {"$ref": "#/$defs/nothing"},
    "reference elsewhere": {"$ref": "http://127.0.0.1:9/schema.json"},
    "repetition": {"type": "string", "pattern": "^((a{1,999}){1,999}){1,999}$"},
    "length": {"type": "string", "minLength": 4_000_000_000},
    "items": {"type": "array", "items": {"type": "integer"}, "minItems": 1_000_000_000},
    "all of many": {"allOf": [{"anyOf": [{"type": "string", "pattern": f"{n}{m}"} for m in range(12)]} for n in range(12)]},
    "contradiction": {"allOf": [{"type": "string"}, {"type": "integer"}]},
    "nonsense": {"type": "nonsense"},
    "large": {"type": "object", "properties": {f"p{n}": {"type": "string", "description": "x" * 60} for n in range(1000)}},
}


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("name", BOMBS)
def test_schemas_that_are_bombs(http, api, name):
    """Each is compiled within bounds, or refused; never more."""
    answer = http.post(api.path, json=api.form(BOMBS[name]))
    if answer.status_code != 200:
        assert answer.status_code == 400, answer.text
        assert api.refusal(answer)
    if name in {"reference to nothing", "reference elsewhere", "nonsense", "large", "contradiction"}:
        assert answer.status_code == 400, answer.text


@pytest.mark.parametrize("api", APIS)
def test_a_schema_that_refers_to_itself_is_honoured(http, api):
    """A list of lists: what schemas are recursive for."""
    schema = {"$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}, "$ref": "#/$defs/tree"}
    answer = http.post(api.path, json=api.form(schema))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("api", APIS)
def test_two_hundred_tools_of_three_hundred_kilobytes(http, api):
    def tools(size):
        properties = {"a": {"type": "string", "description": "word " * size}}
        return [{"name": f"tool_{n}", "parameters": {"type": "object", "properties": properties}} for n in range(200)]

    body = api.tools(tools(280))
    assert len(json.dumps(body)) > 300_000
    # They are read, and are more than this model's context.
    refused(http, api, body, str(allerac.CONTEXT))
    refused(http, api, api.tools([{"name": "same", "parameters": {"type": "object"}}] * 2), "same")
    refused(http, api, api.tools(tools(2000)), "bytes")


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    "tool",
    [
        {"name": 5}, {"name": ""}, {"name": "a b"}, {"name": "f", "parameters": 5}, {"name": "f", "parameters": {"type": "array"}},
        {"name": "f", "parameters": {"type": "object", "properties": 5}}, {"name": "f", "parameters": {}, "extra": 1},
        {"description": "no name"},
    ],
    ids=str,
)  # fmt: skip
def test_tools_that_are_none(http, api, tool):
    if api is Ollama and tool.get("parameters") == {"type": "object", "properties": 5}:
        # Nothing is forced there, so that no grammar is made of it: the model reads it as it is.
        return
    refused(http, api, api.tools([{"parameters": {"type": "object"}} | tool]))


@pytest.mark.parametrize("api", APIS)
def test_tools_that_are_no_objects(http, api):
    refused(http, api, api.body(tools=[5]), "tools[0]")
    refused(http, api, api.body(tools=[{}]), "tools[0]")
    refused(http, api, api.body(tools={"f": 1}), "tools")


@pytest.mark.parametrize("api", APIS)
def test_pictures_for_a_model_that_reads(http, api):
    refused(http, api, api.image(PIXEL), "image")
    refused(http, api, api.image(GARBAGE))


@pytest.mark.parametrize("api", APIS)
def test_conversations_that_are_none(http, api):
    refused(http, api, api.messages([{"role": "wizard", "content": "hi"}]), "role")
    refused(http, api, api.messages([{"role": 5, "content": "hi"}]), "role")
    refused(http, api, api.messages([{"content": "hi"}]), "`")
    refused(http, api, api.messages(["hi"]), "object")
    refused(http, api, api.messages("hi" if api is not Responses else 5), "array")
    if api is not Ollama:
        # There it asks for nothing but that the model is loaded.
        refused(http, api, api.messages([]))


@pytest.mark.parametrize("api", APIS)
def test_what_a_tool_answered_that_nobody_called(http, api):
    refused(http, api, api.messages([{"role": "user", "content": "hi"}, api.orphan]))
    refused(http, api, api.messages([api.orphan]))


@pytest.mark.parametrize("api", APIS)
def test_a_hundred_stop_strings(http, api):
    stops = [f"stop {n}" for n in range(100)]
    if api.stop is None:
        refused(http, api, api.body(stop=stops), "stop")
    elif api.stop.startswith("options."):
        refused(http, api, api.body(options={"stop": stops}), "stop", "at most")
    else:
        refused(http, api, api.body(**{api.stop: stops}), "stop", "at most")
