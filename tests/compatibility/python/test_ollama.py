"""The official Ollama client, and how Home Assistant uses it."""

import json

import ollama
import pydantic
import pytest

from where import AGENT, EMBEDDING, KEY, MODEL, URL, WEATHER, needs_agent, needs_embedding

HEADERS = {"Authorization": f"Bearer {KEY}"}
HELLO = [{"role": "user", "content": "Say hello."}]
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "The weather.", "parameters": WEATHER}}


class Person(pydantic.BaseModel):
    name: str
    age: int


@pytest.fixture
def client():
    return ollama.Client(host=URL, headers=HEADERS, timeout=240)


def test_list(client):
    names = [model.model.removesuffix(":latest") for model in client.list().models]
    assert MODEL in names


def test_show(client):
    assert "completion" in client.show(MODEL).capabilities


def test_chat(client):
    done = client.chat(model=MODEL, messages=HELLO, options={"num_predict": 20})
    assert done.message.content and done.done and done.eval_count > 0 and done.total_duration > 0


def test_chat_streams(client):
    parts = list(client.chat(model=MODEL, messages=HELLO, stream=True, options={"num_predict": 20, "num_ctx": 2048}))
    assert "".join(part.message.content for part in parts) and parts[-1].done and parts[-1].prompt_eval_count > 0


def test_chat_format(client):
    done = client.chat(model=MODEL, messages=HELLO, format=Person.model_json_schema(), options={"num_predict": 200})
    Person.model_validate_json(done.message.content)


def test_chat_json(client):
    done = client.chat(model=MODEL, messages=HELLO, format="json", options={"num_predict": 200, "temperature": 0})
    assert isinstance(json.loads(done.message.content), dict)


def test_chat_tool_results(client):
    messages = [
        *HELLO,
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "get_weather", "arguments": {}}}]},
        {"role": "tool", "tool_name": "get_weather", "content": "sunny"},
    ]
    assert client.chat(model=MODEL, messages=messages, tools=[TOOL], options={"num_predict": 20}).done


@needs_agent
def test_chat_tool_loop(client):
    def get_weather(city: str) -> str:
        """The weather of a city.

        Args:
            city: The city.
        """
        return f"sunny in {city}"

    messages = [{"role": "user", "content": "Weather?"}]
    asked = client.chat(model=AGENT, messages=messages, tools=[get_weather])
    call = asked.message.tool_calls[0].function
    messages += [asked.message, {"role": "tool", "tool_name": call.name, "content": get_weather(**call.arguments)}]
    assert client.chat(model=AGENT, messages=messages).message.content == "The tool said: sunny in Paris"


def test_generate(client):
    done = client.generate(model=MODEL, prompt="Say hello.", system="Be brief.", options={"num_predict": 20, "stop": ["\n\n"]})
    assert done.response and done.done_reason in ("stop", "length")


def test_generate_streams(client):
    assert "".join(part.response for part in client.generate(model=MODEL, prompt="Hi", stream=True, options={"num_predict": 20}))


def test_generate_raw(client):
    assert client.generate(model=MODEL, prompt="One, two,", raw=True, options={"num_predict": 5}).response


def test_model_is_loaded(client):
    assert client.generate(model=MODEL, prompt="", keep_alive="5m").done


def test_ps(client):
    client.generate(model=MODEL, prompt="Hi", options={"num_predict": 1})
    assert MODEL in [model.model.removesuffix(":latest") for model in client.ps().models]


@needs_embedding
def test_embed(client):
    done = client.embed(model=EMBEDDING, input=["a", "b"])
    assert len(done.embeddings) == 2 and len(done.embeddings[0]) == 384


@needs_embedding
def test_embeddings(client):
    assert len(client.embeddings(model=EMBEDDING, prompt="a").embedding) == 384


def test_unknown_model(client):
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat(model="no-such-model", messages=HELLO)
    assert caught.value.status_code == 404


async def test_home_assistant_finds_the_box():
    """Its config flow: the list of models is its check that the server is there."""
    client = ollama.AsyncClient(host=URL, headers=HEADERS, timeout=10)
    assert [model["model"] for model in (await client.list())["models"]]


async def test_home_assistant_talks():
    """Its conversation agent: tools, a long keep_alive, a context size, thoughts switched off, in a stream."""
    client = ollama.AsyncClient(host=URL, headers=HEADERS, timeout=240)
    messages = [ollama.Message(role="system", content="You are a voice assistant for Home Assistant."),
                ollama.Message(role="user", content="Turn on the light.")]  # fmt: skip
    stream = await client.chat(
        model=MODEL, messages=messages, tools=[TOOL], stream=True, keep_alive="-1s", think=False,
        options={"num_ctx": 8192, "num_predict": 40},
    )  # fmt: skip
    parts = [part async for part in stream]
    assert parts[-1]["done"]


async def test_home_assistant_makes_data():
    """Its AI task: data of a schema."""
    client = ollama.AsyncClient(host=URL, headers=HEADERS, timeout=240)
    stream = await client.chat(
        model=MODEL, messages=HELLO, stream=True, keep_alive="-1s", format=Person.model_json_schema(),
        options={"num_ctx": 8192, "num_predict": 200},
    )  # fmt: skip
    Person.model_validate_json("".join([part["message"]["content"] async for part in stream]))
