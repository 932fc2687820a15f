"""The official OpenAI client: every method of the APIs that a local server is asked for."""

import json
import time

import openai
import pydantic
import pytest

from where import AGENT, EMBEDDING, KEY, MODEL, PERSON, URL, WEATHER, needs_agent, needs_embedding

HELLO = [{"role": "user", "content": "Say hello."}]
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}
FLAT_TOOL = {"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": True}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}


class Person(pydantic.BaseModel):
    name: str
    age: int


@pytest.fixture
def client():
    with openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0, timeout=240) as made:
        yield made


def chat(client, **options):
    return client.chat.completions.create(**{"model": MODEL, "messages": HELLO, "max_tokens": 40} | options)


def test_chat(client):
    done = chat(client)
    assert done.choices[0].message.content and done.choices[0].finish_reason in ("stop", "length")
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens > 0


def test_chat_streams(client):
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert chunks[-1].usage.completion_tokens > 0 and chunks[-1].choices == []
    assert len({chunk.id for chunk in chunks}) == 1


def test_chat_several_choices(client):
    done = chat(client, n=3, seed=1, temperature=1)
    assert [choice.index for choice in done.choices] == [0, 1, 2]


def test_chat_logprobs(client):
    done = chat(client, logprobs=True, top_logprobs=3)
    first = done.choices[0].logprobs.content[0]
    assert len(first.top_logprobs) == 3 and first.logprob <= 0 and bytes(first.bytes).decode() == first.token


def test_chat_stop(client):
    done = chat(client, messages=[{"role": "user", "content": "Count: 1, 2, 3, 4, 5"}], stop=[","], max_tokens=60)
    assert "," not in done.choices[0].message.content


def test_chat_developer_and_parts(client):
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "text", "text": "Say "}, {"type": "text", "text": "hello."}]},
    ]
    assert chat(client, messages=messages).choices[0].message.content


def test_chat_json_object(client):
    done = chat(client, response_format={"type": "json_object"}, max_tokens=200, temperature=0)
    assert isinstance(json.loads(done.choices[0].message.content), dict)


def test_chat_json_schema(client):
    done = chat(client, response_format=SCHEMA, max_tokens=200)
    Person.model_validate_json(done.choices[0].message.content)


def test_chat_parse(client):
    done = client.chat.completions.parse(model=MODEL, messages=HELLO, response_format=Person, max_tokens=200)
    assert isinstance(done.choices[0].message.parsed, Person)


def test_chat_stream_helper(client):
    with client.chat.completions.stream(
        model=MODEL, messages=HELLO, response_format=Person, max_tokens=200
    ) as stream:
        kinds = {event.type for event in stream}
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Person)
    assert {"chunk", "content.delta", "content.done"} <= kinds


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_chat_forced_tool(client, choice):
    done = chat(client, tools=[TOOL], tool_choice=choice, max_tokens=200)
    call = done.choices[0].message.tool_calls[0]
    given = json.loads(call.function.arguments)
    assert call.function.name == "get_weather" and isinstance(given["city"], str) and isinstance(given["days"], int)
    assert done.choices[0].finish_reason == ("tool_calls" if choice == "required" else done.choices[0].finish_reason)


def test_chat_forced_tool_streams(client):
    chunks = chat(client, tools=[TOOL], tool_choice="required", max_tokens=200, stream=True)
    calls = [call for chunk in chunks if chunk.choices for call in chunk.choices[0].delta.tool_calls or []]
    assert calls[0].id and calls[0].function.name == "get_weather"
    given = "".join(call.function.arguments or "" for call in calls if call.index == 0)
    assert isinstance(json.loads(given)["city"], str)


def test_chat_tool_results(client):
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    messages = [*HELLO, {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}]  # fmt: skip
    assert chat(client, messages=messages, tools=[TOOL]).choices[0].message.role == "assistant"


def test_chat_custom_tool(client):
    tool = {"type": "custom", "custom": {"name": "note", "description": "Takes a note.",
            "format": {"type": "grammar", "grammar": {"syntax": "regex", "definition": "[a-z]{3,8}"}}}}  # fmt: skip
    choice = {"type": "custom", "custom": {"name": "note"}}
    call = chat(client, tools=[tool], tool_choice=choice, max_tokens=200).choices[0].message.tool_calls[0]
    assert call.type == "custom" and call.custom.name == "note"
    assert 3 <= len(call.custom.input) <= 8 and call.custom.input.isalpha()


@needs_agent
def test_chat_tool_loop(client):
    messages = [{"role": "user", "content": "How is the weather in Paris?"}]
    asked = chat(client, model=AGENT, messages=messages, tools=[TOOL]).choices[0]
    assert asked.finish_reason == "tool_calls"
    call = asked.message.tool_calls[0]
    messages += [asked.message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    done = chat(client, model=AGENT, messages=messages, tools=[TOOL]).choices[0]
    assert done.message.content == "The tool said: sunny"


def test_chat_common_fields(client):
    """Fields that popular programs send whatever the model."""
    done = chat(
        client, user="u", metadata={"a": "b"}, service_tier="auto", store=False, seed=1, frequency_penalty=0,
        presence_penalty=0, parallel_tool_calls=True, prompt_cache_key="k", safety_identifier="s", verbosity="low",
        reasoning_effort="low", tools=[TOOL], tool_choice="none",
    )  # fmt: skip
    assert done.choices[0].message.content


def test_completion(client):
    done = client.completions.create(model=MODEL, prompt=["One, two,", "Red, green,"], max_tokens=5)
    assert [choice.index for choice in done.choices] == [0, 1] and done.choices[0].text


def test_completion_streams(client):
    chunks = list(client.completions.create(model=MODEL, prompt="One, two,", max_tokens=5, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)


def test_models(client):
    assert MODEL in [model.id for model in client.models.list()]


def test_model(client):
    assert client.models.retrieve(MODEL).id == MODEL


@needs_embedding
@pytest.mark.parametrize("form", ["float", "base64"])
def test_embeddings(client, form):
    done = client.embeddings.create(model=EMBEDDING, input=["a", "b"], encoding_format=form)
    assert len(done.data) == 2 and done.usage.prompt_tokens > 0
    assert form == "base64" or len(done.data[0].embedding) == 384


def test_response(client):
    done = client.responses.create(model=MODEL, input="Say hello.", max_output_tokens=40)
    assert done.output_text and done.object == "response" and done.usage.total_tokens > 0


def test_response_instructions_and_items(client):
    items = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"},
             {"role": "user", "content": [{"type": "input_text", "text": "Say it again."}]}]  # fmt: skip
    assert client.responses.create(model=MODEL, instructions="Be brief.", input=items, max_output_tokens=40).output_text


def test_response_streams(client):
    events = list(client.responses.create(model=MODEL, input="Say hello.", max_output_tokens=40, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created" and events[-1].type in ("response.completed", "response.incomplete")
    told = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert told == events[-1].response.output_text


def test_response_stream_helper(client):
    with client.responses.stream(
        model=MODEL, input="Who are you?", text_format=Person, max_output_tokens=200
    ) as stream:
        for _ in stream:
            pass
        assert isinstance(stream.get_final_response().output_parsed, Person)


def test_response_parse(client):
    done = client.responses.parse(model=MODEL, input="Who are you?", text_format=Person, max_output_tokens=200)
    assert isinstance(done.output_parsed, Person)


def test_response_forced_tool(client):
    done = client.responses.create(
        model=MODEL, input="Weather?", tools=[FLAT_TOOL], tool_choice="required", max_output_tokens=200
    )
    call = next(item for item in done.output if item.type == "function_call")
    assert isinstance(json.loads(call.arguments)["days"], int) and done.status == "completed"


def test_response_custom_tool(client):
    tool = {"type": "custom", "name": "note", "format": {"type": "grammar", "syntax": "regex", "definition": "[a-z]{3,8}"}}
    done = client.responses.create(
        model=MODEL, input="Note it.", tools=[tool], tool_choice={"type": "custom", "name": "note"}, max_output_tokens=200
    )
    call = next(item for item in done.output if item.type == "custom_tool_call")
    assert call.name == "note" and 3 <= len(call.input) <= 8


def test_response_goes_on(client):
    first = client.responses.create(model=MODEL, input="My name is Anna.", max_output_tokens=20)
    second = client.responses.create(
        model=MODEL, input="What is my name?", previous_response_id=first.id, max_output_tokens=20
    )
    assert second.previous_response_id == first.id and second.usage.input_tokens > first.usage.input_tokens


def test_response_is_kept(client):
    made = client.responses.create(model=MODEL, input="Say hello.", max_output_tokens=20)
    assert client.responses.retrieve(made.id).output_text == made.output_text
    items = list(client.responses.input_items.list(made.id))
    assert items[0].content[0].text == "Say hello."
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_response_in_background(client):
    made = client.responses.create(model=MODEL, input="Say hello.", max_output_tokens=20, background=True)
    deadline = time.monotonic() + 60
    found = made
    while found.status in ("queued", "in_progress") and time.monotonic() < deadline:
        time.sleep(0.1)
        found = client.responses.retrieve(made.id)
    assert found.status in ("completed", "incomplete")


def test_response_tokens_are_counted(client):
    counted = client.responses.input_tokens.count(model=MODEL, input="Say hello.")
    made = client.responses.create(model=MODEL, input="Say hello.", max_output_tokens=16)
    assert counted.input_tokens == made.usage.input_tokens


@needs_agent
def test_response_tool_loop(client):
    asked = client.responses.create(model=AGENT, input="Weather in Paris?", tools=[FLAT_TOOL])
    call = next(item for item in asked.output if item.type == "function_call")
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    done = client.responses.create(model=AGENT, input=[output], previous_response_id=asked.id, tools=[FLAT_TOOL])
    assert done.output_text == "The tool said: sunny"


def test_files(client):
    file = client.files.create(file=("a.jsonl", b'{"custom_id": "a"}\n'), purpose="batch")
    assert client.files.content(file.id).text == '{"custom_id": "a"}\n'
    assert file.id in [found.id for found in client.files.list()]
    assert client.files.delete(file.id).deleted


def test_batch(client):
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 5}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    file = client.files.create(file=("a.jsonl", json.dumps(line).encode()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    deadline = time.monotonic() + 60
    while batch.status not in ("completed", "failed") and time.monotonic() < deadline:
        time.sleep(0.2)
        batch = client.batches.retrieve(batch.id)
    answers = client.files.content(batch.output_file_id).text.splitlines()
    assert json.loads(answers[0])["response"]["status_code"] == 200


def test_chat_is_kept(client):
    made = chat(client, store=True, metadata={"topic": "hello"})
    assert client.chat.completions.retrieve(made.id).choices[0].message.content == made.choices[0].message.content
    client.chat.completions.delete(made.id)


def test_unknown_model(client):
    with pytest.raises(openai.NotFoundError):
        chat(client, model="no-such-model")


def test_wrong_key(client):
    with pytest.raises(openai.AuthenticationError):
        chat(client.with_options(api_key="sk-wrong"))


@pytest.mark.parametrize(
    "wrong", [{"temperature": 9}, {"messages": []}, {"tools": [{"type": "function"}]}, {"max_tokens": -5}]
)
def test_bad_request(client, wrong):
    with pytest.raises(openai.BadRequestError):
        chat(client, **wrong)


async def test_async_client():
    async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0, timeout=240) as client:
        stream = await client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=20, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
