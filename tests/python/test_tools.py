"""Tools through the official Python client: called where they must be, by their schemas, with a small model."""

import json
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import openai
import pytest

import allerac

ASK = [{"role": "user", "content": "What is the weather in Bern tomorrow, in Celsius?"}]

SCHEMAS = {
    "get_weather": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 30},
            "days": {"type": "integer", "minimum": 1, "maximum": 10},
            "unit": {"enum": ["celsius", "fahrenheit"]},
        },
        "required": ["city", "unit"],
    },
    "book_table": {
        "type": "object",
        "properties": {
            "guests": {"type": "array", "items": {"$ref": "#/$defs/guest"}, "minItems": 1, "maxItems": 2},
            "when": {"type": "string", "format": "date"},
            "note": {"anyOf": [{"type": "null"}, {"type": "string", "maxLength": 20}]},
        },
        "required": ["guests", "when", "note"],
        "$defs": {
            "guest": {
                "type": "object",
                "properties": {"name": {"type": "string", "maxLength": 15}, "vegan": {"type": "boolean"}},
                "required": ["name", "vegan"],
                "additionalProperties": False,
            }
        },
    },
    "stop.all-now_1": {"type": "object", "properties": {}},
}


def function(name: str, **more) -> dict:
    described = {"name": name, "description": f"Does {name}.", "parameters": SCHEMAS.get(name, {"type": "object"})}
    return {"type": "function", "function": described | more}


TOOLS = [function(name) for name in SCHEMAS]
OBJECT_FORM = {
    "type": "json_schema",
    "json_schema": {
        "name": "x",
        "schema": {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False},
    },
}  # fmt: skip


def create(client, **options):
    asked = {"model": allerac.MODEL, "messages": ASK, "tools": TOOLS, "max_tokens": 300} | options
    return client.chat.completions.create(**asked)


def check(call):
    """A call is of a tool that was offered, and what it is given is what the tool's schema asks for."""
    assert call.type == "function"
    assert call.id.startswith("call_")
    jsonschema.validate(json.loads(call.function.arguments), SCHEMAS[call.function.name])


def forced(client, **options):
    """The calls of an answer that must have some."""
    choice = create(client, **options).choices[0]
    assert choice.finish_reason == "tool_calls", choice
    assert choice.message.content is None
    for call in choice.message.tool_calls:
        check(call)
    return choice.message.tool_calls


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_named_tool_is_called_by_its_schema_whatever_the_seed(client, name):
    chosen = {"type": "function", "function": {"name": name}}

    def ask(seed: int):
        return forced(client, tool_choice=chosen, seed=seed, temperature=1.2)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(6)))
    assert {tuple(call.function.name for call in calls) for calls in answers} == {(name,)}
    if SCHEMAS[name]["properties"]:
        assert len({calls[0].function.arguments for calls in answers}) > 3, "the model has no say"


def test_a_required_tool_is_one_of_those_offered(client):
    def ask(seed: int):
        return forced(client, tool_choice="required", parallel_tool_calls=False, seed=seed, temperature=1)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(8)))
    assert {len(calls) for calls in answers} == {1}
    assert len({call.id for calls in answers for call in calls}) == 8


def test_several_calls_may_be_made_at_once(client):
    tools = [function("stop.all-now_1")]
    counts = set()
    for seed in range(4):
        ask = {"tools": tools, "tool_choice": "required", "seed": seed, "temperature": 1.5, "max_tokens": 400}
        calls = forced(client, **ask, parallel_tool_calls=True)
        counts.add(len(calls))
        # A small model repeats itself: where nothing is said, one call is enough.
        assert len(forced(client, **ask)) == 1
        assert len({call.id for call in calls}) == len(calls)
    assert max(counts) > 1
    assert max(counts) <= 8


def test_a_call_that_is_cut_says_so(client):
    choice = create(client, tool_choice="required", max_tokens=24, temperature=0).choices[0]
    assert choice.finish_reason == "length"


def test_arguments_stream_as_they_are_written(client):
    options = {"tool_choice": {"type": "function", "function": {"name": "book_table"}}, "temperature": 0}
    (whole,) = forced(client, **options)
    chunks = list(create(client, **options, stream=True))
    deltas = [delta for chunk in chunks for delta in chunk.choices[0].delta.tool_calls or []]
    assert (deltas[0].index, deltas[0].type, deltas[0].function.name) == (0, "function", "book_table")
    assert deltas[0].id.startswith("call_")
    assert {(delta.index, delta.id, delta.function.name) for delta in deltas[1:]} == {(0, None, None)}
    assert "".join(delta.function.arguments or "" for delta in deltas) == whole.function.arguments
    assert len(deltas) > 5, "they come at the end"
    assert [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content] == []
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_without_a_wish_the_model_may_answer_in_words(client):
    hello = [{"role": "user", "content": "Say hello."}]
    plain = create(client, messages=hello, tools=openai.NOT_GIVEN, temperature=0, max_tokens=20).choices[0]
    auto = create(client, messages=hello, temperature=0, max_tokens=20).choices[0]
    none = create(client, messages=hello, tool_choice="none", temperature=0, max_tokens=20).choices[0]
    assert auto.finish_reason in {"stop", "length", "tool_calls"}
    assert none.message == plain.message, "tools that may not be called are not told of"
    assert none.message.tool_calls is None


def test_a_strict_tool_is_called_by_its_schema_or_not_at_all(client):
    strict = [function("get_weather", strict=True)]
    # Calls that were made make a small model call again.
    asked = []
    for number, city in enumerate(["Rome", "Oslo", "Paris"]):
        arguments = json.dumps({"city": city, "days": 1, "unit": "celsius"})
        call = {"id": f"call_{number}", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
        asked += [
            {"role": "user", "content": f"What is the weather in {city}?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "content": "Sunny."},
            {"role": "assistant", "content": "Sunny."},
        ]
    asked.append({"role": "user", "content": "What is the weather in Bern?"})
    choices = [
        create(client, messages=asked, tools=strict, seed=seed, temperature=temperature, max_tokens=150).choices[0]
        for seed, temperature in enumerate([0, 0.5, 1])
    ]
    calls = [call for choice in choices if choice.finish_reason == "tool_calls" for call in choice.message.tool_calls]
    assert calls, "none of these answers has a call"
    for call in calls:
        check(call)
    assert not [choice for choice in choices if "<tool_call>" in (choice.message.content or "")]


def test_an_answer_of_a_form_may_be_a_call_instead(client):
    seen = set()
    for seed in range(6):
        choice = create(client, response_format=OBJECT_FORM, seed=seed, temperature=1.3).choices[0]
        seen.add(choice.finish_reason)
        if choice.finish_reason == "tool_calls":
            for call in choice.message.tool_calls:
                check(call)
            assert choice.message.content is None
        elif choice.finish_reason == "stop":
            assert set(json.loads(choice.message.content)) == {"ok"}
    assert seen & {"stop", "tool_calls"}
    alone = {"tool_choice": "required", "parallel_tool_calls": False}
    forced(client, response_format=OBJECT_FORM, temperature=0, **alone)


def test_calls_and_their_answers_are_told_to_the_model(client):
    (call,) = forced(client, tool_choice={"type": "function", "function": {"name": "get_weather"}}, temperature=0)
    history = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [call.model_dump()]},
        {"role": "tool", "tool_call_id": call.id, "content": "Sunny in Bern, 21 degrees."},
    ]
    told = create(client, messages=history, tool_choice="none", temperature=0, max_tokens=40)
    untold = create(client, tool_choice="none", temperature=0, max_tokens=40)
    assert told.choices[0].message.content != untold.choices[0].message.content
    assert told.usage.prompt_tokens > untold.usage.prompt_tokens + 20
    assert told.choices[0].message.tool_calls is None
    # More calls may follow.
    forced(client, messages=history, tool_choice="required", parallel_tool_calls=False, temperature=0)


def test_several_answers_with_calls(client):
    choices = create(client, tool_choice="required", parallel_tool_calls=False, n=3, temperature=1, seed=5).choices
    assert [choice.finish_reason for choice in choices] == ["tool_calls"] * 3
    ids = {choice.message.tool_calls[0].id for choice in choices}
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("options", "param", "words"),
    [
        ({"tools": [function("f", parameters={"type": "object", "properties": {"x": {"not": {}}}})]}, "tools", "not"),
        ({"tools": [function("f", parameters={"type": "object", "properties": {"x": {"$ref": "#/$defs/y"}}})]}, "tools", "$defs"),
        ({"tools": [function("f", parameters={"type": "object", "properties": {"x": {"type": "nonsense"}}})]}, "tools", "nonsense"),
        ({"tools": [function("f", parameters={"properties": {"x": {"multipleOf": 10**9}}})]}, "tools", "multipleOf"),
        (
            {
                "tool_choice": "auto",
                "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}},
            },
            "response_format.json_schema.schema",
            "nonsense",
        ),
    ],
    ids=str,
)  # fmt: skip
def test_a_schema_that_cannot_be_kept_to_is_refused_by_name(client, options, param, words):
    with pytest.raises(openai.BadRequestError) as caught:
        create(client, **({"tool_choice": "required"} | options))
    assert (caught.value.type, caught.value.param, caught.value.code) == ("invalid_request_error", param, "invalid_value")
    assert words in caught.value.message
    assert param in caught.value.message


def test_many_tools_are_taken(client):
    tools = [function(f"tool_{index}", parameters=SCHEMAS["get_weather"]) for index in range(20)]
    calls = create(client, tools=tools, tool_choice={"type": "function", "function": {"name": "tool_19"}}, temperature=0)
    (call,) = calls.choices[0].message.tool_calls
    assert call.function.name == "tool_19"
    jsonschema.validate(json.loads(call.function.arguments), SCHEMAS["get_weather"])
