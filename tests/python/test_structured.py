"""Answers that must be of a form: `response_format`, `grammar`, `structured_outputs`."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from enum import Enum

import jsonschema
import openai
import pytest
from pydantic import BaseModel, Field

import allerac

HELLO = [{"role": "user", "content": "Describe Anna, who is 34 and lives in Berlin, as JSON."}]
LARK = '%llguidance {}\nstart: "the " WORD "!"\nWORD: /[a-z]{3,8}/\n'
ARITHMETIC = r"""
root ::= sum
sum ::= item ([-+*/] item)*   # without spaces
item ::= [1-9] [0-9]{0,2} | "(" sum ")"
"""


class Mood(Enum):
    CALM = "calm"
    CROSS = "cross"


class Person(BaseModel):
    name: str = Field(max_length=30)
    age: int = Field(ge=0, le=150)
    mood: Mood
    towns: list[str] = Field(max_length=3)


SCHEMAS = {
    "flat": {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}, "ok": {"type": "boolean"}},
        "required": ["name", "age", "ok"], "additionalProperties": False,
    },
    "nested": {
        "type": "object",
        "properties": {
            "person": {"$ref": "#/$defs/person"},
            "friends": {"type": "array", "items": {"$ref": "#/$defs/person"}, "minItems": 1, "maxItems": 2},
        },
        "required": ["person", "friends"], "additionalProperties": False,
        "$defs": {
            "person": {
                "type": "object",
                "properties": {"name": {"type": "string", "maxLength": 12}, "born": {"type": ["integer", "null"]}},
                "required": ["name", "born"], "additionalProperties": False,
            }
        },
    },
    "choice": {"type": "object", "properties": {"colour": {"enum": ["red", "green", 3]}}, "required": ["colour"],
               "additionalProperties": False},
    "pattern": {"type": "object", "properties": {"when": {"type": "string", "format": "date"},
                "code": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"}}, "required": ["when", "code"],
                "additionalProperties": False},
    "any of": {"type": "array", "items": {"anyOf": [{"type": "integer", "minimum": 5, "maximum": 20}, {"type": "null"}]},
               "minItems": 2, "maxItems": 4},
    "recursive": {"type": "object", "properties": {"value": {"type": "integer", "minimum": 0, "maximum": 9},
                  "next": {"$ref": "#"}}, "required": ["value"],
                  "additionalProperties": False},
}  # fmt: skip


def create(client, **options):
    asked = {"model": allerac.MODEL, "messages": HELLO, "max_tokens": 200} | options
    return client.chat.completions.create(**asked)


def schema_format(schema: dict) -> dict:
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def check(choice, schema: dict) -> bool:
    """Whether it came to its end; what ended is what the schema asks for."""
    assert choice.finish_reason in {"stop", "length"}
    if choice.finish_reason == "stop":
        jsonschema.validate(json.loads(choice.message.content), schema)
    return choice.finish_reason == "stop"


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_answer_that_ends_is_what_the_schema_asks_for(client, name):
    schema = SCHEMAS[name]

    def ask(seed: int) -> bool:
        # Greedy, as the model recommends, and hot enough for nonsense.
        temperature = (0, 0.2, 1.0, 1.8)[seed % 4]
        answer = create(client, response_format=schema_format(schema), seed=seed, temperature=temperature)
        return check(answer.choices[0], schema)

    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(ask, range(8)))
    # A small model may nest without end; then the token limit ends it.
    assert sum(ended) >= (1 if name == "recursive" else 6), ended


def test_parse_of_the_client_gives_its_model(client):
    for seed in range(3):
        answer = client.chat.completions.parse(
            model=allerac.MODEL, messages=HELLO, response_format=Person, seed=seed, temperature=1.0, max_tokens=300
        )
        person = answer.choices[0].message.parsed
        assert isinstance(person, Person)
        assert list(json.loads(answer.choices[0].message.content)) == ["name", "age", "mood", "towns"]


def test_any_json_object(client):
    for seed in range(4):
        choice = create(client, response_format={"type": "json_object"}, seed=seed, temperature=0.8).choices[0]
        if choice.finish_reason == "stop":
            assert isinstance(json.loads(choice.message.content), dict)
        else:
            assert choice.message.content.startswith("{")


@pytest.mark.parametrize("field", ["structured_outputs", "guided_regex"])
def test_a_regular_expression(client, field):
    pattern = r"\+49 [0-9]{3}/[0-9]{4,6}\."
    body = {"structured_outputs": {"regex": pattern}} if field == "structured_outputs" else {field: pattern}
    for seed in range(4):
        choice = create(client, extra_body=body, temperature=1.5, seed=seed).choices[0]
        assert re.fullmatch(pattern, choice.message.content), choice.message.content
        assert choice.finish_reason == "stop"


@pytest.mark.parametrize("field", ["structured_outputs", "guided_choice"])
def test_a_choice(client, field):
    options = ["positive", "negative", 'neither "nor"\n']
    body = {"structured_outputs": {"choice": options}} if field == "structured_outputs" else {field: options}
    answers = [create(client, extra_body=body, temperature=2, top_p=1, seed=seed).choices[0] for seed in range(8)]
    assert {answer.message.content for answer in answers} <= set(options)
    assert {answer.finish_reason for answer in answers} == {"stop"}
    assert len({answer.message.content for answer in answers}) > 1


@pytest.mark.parametrize("body", [{"grammar": ARITHMETIC}, {"structured_outputs": {"grammar": ARITHMETIC}}], ids=list)
def test_a_grammar_of_llama_cpp(client, body):
    for seed in range(4):
        choice = create(client, extra_body=body, temperature=1.2, seed=seed, max_tokens=40).choices[0]
        text = choice.message.content
        assert re.fullmatch(r"[-+*/0-9()]+", text), text
        if choice.finish_reason == "stop":
            compile(text, "answer", "eval")


def test_a_grammar_in_lark(client):
    choice = create(client, extra_body={"grammar": LARK}, temperature=1.0, seed=1).choices[0]
    assert re.fullmatch(r"the [a-z]{3,8}!", choice.message.content)
    assert choice.finish_reason == "stop"


def test_plain_completions_too(client):
    answer = client.completions.create(
        model=allerac.MODEL, prompt=["The year of the French Revolution was ", "Two and two is "], max_tokens=12, n=2,
        temperature=1.0, seed=5, extra_body={"structured_outputs": {"regex": "[0-9]{4}"}},
    )  # fmt: skip
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert all(re.fullmatch("[0-9]{4}", choice.text) for choice in answer.choices)
    assert {choice.finish_reason for choice in answer.choices} == {"stop"}
    answer = client.completions.create(
        model=allerac.MODEL, prompt="{", max_tokens=60, temperature=0,
        extra_body={"response_format": schema_format(SCHEMAS["choice"])},
    )  # fmt: skip
    jsonschema.validate(json.loads(answer.choices[0].text), SCHEMAS["choice"])


def test_a_schema_may_stand_where_other_servers_have_it(client):
    schema = {"type": "object", "properties": {"colour": {"const": "green"}}, "required": ["colour"], "additionalProperties": False}
    form = {"type": "json_object", "schema": schema}
    answer = client.chat.completions.create(
        model=allerac.MODEL, messages=HELLO, max_tokens=30, temperature=0, response_format=form
    )
    assert json.loads(answer.choices[0].message.content) == {"colour": "green"}


def test_a_stream_adds_up_to_the_answer(client):
    options = {"response_format": schema_format(SCHEMAS["nested"]), "temperature": 0, "max_tokens": 150}
    whole = create(client, **options).choices[0]
    chunks = list(create(client, **options, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.message.content
    assert chunks[-1].choices[0].finish_reason == whole.finish_reason
    check(whole, SCHEMAS["nested"])


def test_several_choices_with_seeds_and_log_probabilities(client):
    options = {
        "response_format": schema_format(SCHEMAS["flat"]), "temperature": 1.5, "seed": 11, "n": 2, "logprobs": True,
        "top_logprobs": 3,
    }  # fmt: skip
    first, again = create(client, **options), create(client, **options)
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in again.choices]
    assert texts[0] != texts[1]
    for choice in first.choices:
        check(choice, SCHEMAS["flat"])
        tokens = choice.logprobs.content
        assert b"".join(bytes(token.bytes) for token in tokens).decode() == choice.message.content
        # The model's own distribution: what the schema leaves out is likely in it too.
        assert any(token.token != token.top_logprobs[0].token for token in tokens)
    assert first.usage.completion_tokens == sum(len(choice.logprobs.content) for choice in first.choices)


def test_the_token_limit_and_stop_strings_come_first(client):
    cut = create(client, response_format=schema_format(SCHEMAS["nested"]), max_tokens=5).choices[0]
    assert cut.finish_reason == "length"
    stopped = create(client, response_format=schema_format(SCHEMAS["flat"]), stop='"age"', temperature=0).choices[0]
    assert (stopped.finish_reason, '"age"' in stopped.message.content) == ("stop", False)
    assert stopped.message.content.startswith("{")


def test_a_ban_of_all_that_could_come_fails_the_request(http):
    # 28 is `,`: the only text there is.
    body = {"model": allerac.MODEL, "messages": HELLO, "logit_bias": {"28": -100}, "structured_outputs": {"choice": [","]}}
    answer = http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 500
    assert "logit_bias" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"response_format": schema_format({"type": "nonsense"})}, "response_format.json_schema.schema", "nonsense"),
        ({"response_format": schema_format({"not": {}})}, "response_format.json_schema.schema", "not"),
        ({"response_format": schema_format({"$ref": "#/$defs/x"})}, "response_format.json_schema.schema", "$defs"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json", "EOF"),
        ({"structured_outputs": {"regex": "(a"}}, "structured_outputs.regex", "unclosed group"),
        ({"guided_regex": "(?=a)"}, "guided_regex", "look-around"),
        ({"grammar": "root ::= missing"}, "grammar", "missing"),
        ({"grammar": "%llguidance {}\nstart: missing"}, "grammar", "missing"),
        ({"structured_outputs": {"json": {"multipleOf": 10**9}}}, "structured_outputs.json", "multipleOf"),
    ],
    ids=str,
)
def test_what_cannot_be_compiled_is_refused_by_name(server, client, body, param, words):
    with allerac_totals_unchanged(server), pytest.raises(openai.BadRequestError) as caught:
        create(client, extra_body=body)
    assert (caught.value.type, caught.value.param, caught.value.code) == ("invalid_request_error", param, "invalid_value")
    assert words in caught.value.message
    assert param in caught.value.message


class allerac_totals_unchanged:
    """Nothing is reserved or charged for a request that is refused."""

    def __init__(self, server):
        self.server = server

    def totals(self) -> dict:
        books = allerac.Books(self.server.data)
        allerac.wait_for("nothing open", lambda: books.open_reservations() == 0)
        books.close()
        return self.server.totals()

    def __enter__(self):
        self.before = self.totals()

    def __exit__(self, *_):
        assert self.totals() == self.before


def test_a_crash_before_the_first_token_costs_no_constraint(fresh):
    """The next process compiles the schema anew."""
    with fresh.client(fresh.create_key()) as client:
        # The engine is killed while it reads the prompt.
        long = [{"role": "user", "content": "word " * 3000 + "Now answer as JSON."}]
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(
                create, client, messages=long, response_format=schema_format(SCHEMAS["choice"]), max_tokens=40
            )
            (engine,) = allerac.wait_for("an engine at work", lambda: busy_engine(fresh))
            allerac.os.kill(engine, allerac.signal.SIGKILL)
            assert check(asked.result().choices[0], SCHEMAS["choice"])


def busy_engine(server) -> list[int]:
    books = allerac.Books(server.data)
    try:
        return server.engine_pids() if books.open_reservations() else []
    finally:
        books.close()
