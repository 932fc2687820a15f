"""The official Anthropic client."""

import anthropic
import pydantic
import pytest

from where import AGENT, KEY, MODEL, PERSON, URL, WEATHER, needs_agent

HELLO = [{"role": "user", "content": "Say hello."}]
TOOL = {"name": "get_weather", "description": "The weather of a city.", "input_schema": WEATHER}


class Person(pydantic.BaseModel):
    name: str
    age: int


@pytest.fixture
def client():
    with anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0, timeout=240) as made:
        yield made


def ask(client, **options):
    return client.messages.create(**{"model": MODEL, "messages": HELLO, "max_tokens": 40} | options)


def test_message(client):
    done = ask(client, system="Be brief.")
    assert done.content[0].text and done.stop_reason in ("end_turn", "max_tokens")
    assert done.usage.input_tokens > 0 and done.usage.output_tokens > 0


def test_system_blocks_and_cache_control(client):
    cached = {"type": "ephemeral"}
    system = [{"type": "text", "text": "Be brief.", "cache_control": cached}]
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": cached}]}]
    assert ask(client, system=system, messages=messages, metadata={"user_id": "u"}).content[0].text


def test_streams(client):
    with client.messages.stream(model=MODEL, messages=HELLO, max_tokens=40) as stream:
        text = "".join(stream.text_stream)
        done = stream.get_final_message()
    assert text == done.content[0].text and done.usage.output_tokens > 0


def test_events_are_in_order(client):
    kinds = [event.type for event in ask(client, stream=True)]
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"]
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 1


def test_stop_sequences(client):
    done = ask(client, messages=[{"role": "user", "content": "Count: 1, 2, 3, 4"}], stop_sequences=[","], max_tokens=60)
    assert "," not in done.content[0].text


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
def test_forced_tool(client, choice):
    done = ask(client, tools=[TOOL], tool_choice=choice, max_tokens=200)
    call = next(block for block in done.content if block.type == "tool_use")
    assert done.stop_reason == "tool_use"
    assert isinstance(call.input["city"], str) and isinstance(call.input["days"], int)


def test_forced_tool_streams(client):
    with client.messages.stream(
        model=MODEL, messages=HELLO, max_tokens=200, tools=[TOOL], tool_choice={"type": "any"}
    ) as stream:
        kinds = {event.type for event in stream}
        call = next(block for block in stream.get_final_message().content if block.type == "tool_use")
    assert "input_json" in kinds and isinstance(call.input["city"], str)


def test_tool_results(client):
    messages = [
        *HELLO,
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"},
                                     {"type": "text", "text": "So?"}]},
    ]  # fmt: skip
    assert ask(client, messages=messages, tools=[TOOL]).role == "assistant"


@needs_agent
def test_tool_loop(client):
    messages = [{"role": "user", "content": "How is the weather in Paris?"}]
    asked = ask(client, model=AGENT, messages=messages, tools=[TOOL])
    call = next(block for block in asked.content if block.type == "tool_use")
    messages += [{"role": "assistant", "content": asked.content},
                 {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}]}]  # fmt: skip
    assert ask(client, model=AGENT, messages=messages, tools=[TOOL]).content[0].text == "The tool said: sunny"


@needs_agent
def test_tool_runner(client):
    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """The weather of a city."""
        return f"sunny in {city}"

    runner = client.beta.messages.tool_runner(
        model=AGENT, max_tokens=200, tools=[get_weather], messages=[{"role": "user", "content": "Weather?"}]
    )
    assert runner.until_done().content[0].text == "The tool said: sunny in Paris"


def test_json_schema(client):
    form = {"format": {"type": "json_schema", "schema": PERSON}}
    done = ask(client, output_config=form, max_tokens=200)
    Person.model_validate_json(done.content[0].text)


def test_parse(client):
    done = client.messages.parse(model=MODEL, messages=HELLO, max_tokens=200, output_format=Person)
    assert isinstance(done.parsed_output, Person)


def test_thinking_is_taken(client):
    done = ask(client, thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=1100)
    assert done.content[-1].type == "text"


def test_betas_are_taken(client):
    done = client.beta.messages.create(
        model=MODEL, messages=HELLO, max_tokens=20, betas=["context-management-2025-06-27"],
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    )  # fmt: skip
    assert done.content[0].text


def test_tokens_are_counted(client):
    counted = client.messages.count_tokens(model=MODEL, messages=HELLO, system="Be brief.")
    usage = ask(client, system="Be brief.").usage
    # What was known before is counted apart.
    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)


def test_models(client):
    assert MODEL in [model.id for model in client.models.list()]


def test_model(client):
    assert client.models.retrieve(MODEL).id == MODEL


def test_unknown_model(client):
    with pytest.raises(anthropic.NotFoundError):
        ask(client, model="no-such-model")


def test_wrong_key(client):
    with pytest.raises(anthropic.AuthenticationError):
        ask(client.with_options(api_key="sk-wrong"))


@pytest.mark.parametrize("wrong", [{"extra_body": {"temperature": 9}}, {"messages": []}, {"max_tokens": 0}, {"tools": [{"name": "x"}]}])
def test_bad_request(client, wrong):
    with pytest.raises(anthropic.BadRequestError):
        ask(client, **wrong)


async def test_async_client():
    async with anthropic.AsyncAnthropic(base_url=URL, api_key=KEY, max_retries=0, timeout=240) as client:
        async with client.messages.stream(model=MODEL, messages=HELLO, max_tokens=20) as stream:
            assert "".join([text async for text in stream.text_stream])
