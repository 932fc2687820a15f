"""Frameworks that programs are built with: instructor, OpenAI's Agents SDK, smolagents, and the program `llm`."""

import os
import subprocess
import sys

import instructor
import openai
import pydantic
import pytest
from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool
from agents import set_tracing_disabled
from smolagents import OpenAIModel, tool

from where import AGENT, KEY, MODEL, URL, needs_agent

set_tracing_disabled(True)
HELLO = [{"role": "user", "content": "Anna is 7 years old."}]


class Person(pydantic.BaseModel):
    name: str
    age: int


# instructor: objects of a class, by each of its ways to ask for them.


# Its other ways leave the form to the model, and are no question to a server.
@pytest.mark.parametrize("mode", ["TOOLS", "TOOLS_STRICT", "JSON_SCHEMA", "RESPONSES_TOOLS"])
def test_instructor_gets_objects(mode):
    client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY)
    patched = instructor.from_openai(client, mode=getattr(instructor.Mode, mode))
    limit = {"max_output_tokens": 200} if mode.startswith("RESPONSES") else {"max_tokens": 200}
    person = patched.create(model=MODEL, messages=HELLO, response_model=Person, temperature=0, max_retries=2, **limit)
    assert isinstance(person, Person)


def test_instructor_streams_parts_of_an_object():
    patched = instructor.from_openai(openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY), mode=instructor.Mode.TOOLS)
    parts = list(patched.create_partial(model=MODEL, messages=HELLO, response_model=Person, temperature=0, max_tokens=200))
    assert parts[-1].name is not None and parts[-1].age is not None


# OpenAI's Agents SDK, over both of OpenAI's APIs.


@pytest.fixture(params=[OpenAIResponsesModel, OpenAIChatCompletionsModel], ids=["responses", "chat"])
def model(request):
    client = openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY)
    return lambda name: request.param(model=name, openai_client=client)


SETTINGS = ModelSettings(temperature=0, max_tokens=200)


@function_tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


async def test_agents_sdk_answers(model):
    agent = Agent(name="brief", instructions="Be brief.", model=model(MODEL), model_settings=SETTINGS)
    assert (await Runner.run(agent, "Say hello.")).final_output


async def test_agents_sdk_gets_objects(model):
    agent = Agent(name="brief", model=model(MODEL), model_settings=SETTINGS, output_type=Person)
    assert isinstance((await Runner.run(agent, "Anna is 7 years old.")).final_output, Person)


@needs_agent
async def test_agents_sdk_calls_tools(model):
    agent = Agent(name="caller", model=model(AGENT), model_settings=SETTINGS, tools=[get_weather])
    assert (await Runner.run(agent, "Weather?")).final_output == "The tool said: sunny in Paris"


@needs_agent
async def test_agents_sdk_streams_and_hands_over(model):
    weather = Agent(name="weather", model=model(MODEL), model_settings=SETTINGS, instructions="Be brief.")
    agent = Agent(name="first", model=model(AGENT), model_settings=SETTINGS, handoffs=[weather])
    streamed = Runner.run_streamed(agent, "Weather?")
    events = [event async for event in streamed.stream_events()]
    assert streamed.last_agent is weather and streamed.final_output
    assert any(event.type == "agent_updated_stream_event" for event in events)


async def test_agents_sdk_goes_on_from_a_response():
    client = openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY)
    agent = Agent(name="brief", model=OpenAIResponsesModel(model=MODEL, openai_client=client), model_settings=SETTINGS)
    first = await Runner.run(agent, "My name is Zoe.")
    second = await Runner.run(agent, "What is my name?", previous_response_id=first.last_response_id)
    assert second.last_response_id != first.last_response_id and second.final_output


# smolagents


def test_smolagents_speaks():
    model = OpenAIModel(model_id=MODEL, api_base=f"{URL}/v1", api_key=KEY, max_tokens=60)
    answered = model.generate([{"role": "user", "content": [{"type": "text", "text": "Say hello."}]}])
    assert answered.content and answered.token_usage.input_tokens > 0
    stream = model.generate_stream([{"role": "user", "content": "Say hello."}], stop_sequences=["Observation:"])
    assert "".join(delta.content or "" for delta in stream)


@needs_agent
def test_smolagents_is_told_of_calls():
    @tool
    def weather(city: str) -> str:
        """The weather of a city.

        Args:
            city: Where.
        """
        return f"sunny in {city}"

    model = OpenAIModel(model_id=AGENT, api_base=f"{URL}/v1", api_key=KEY)
    asked = [{"role": "user", "content": "Weather?"}]
    (call,) = model.generate(asked, tools_to_call_from=[weather]).tool_calls
    assert call.function.name == "weather"


# The program llm


@pytest.fixture
def llm(tmp_path):
    models = f"""
- model_id: box
  model_name: {MODEL}
  api_base: {URL}/v1
  api_key_name: box
  supports_schema: true
  supports_tools: true
"""
    (tmp_path / "extra-openai-models.yaml").write_text(models)
    environment = os.environ | {"LLM_USER_PATH": str(tmp_path)}

    def run(*arguments):
        command = [sys.executable, "-m", "llm", *arguments, "--key", KEY]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


def test_llm_asks_and_goes_on(llm):
    assert llm("prompt", "-m", "box", "-o", "max_tokens", "20", "Say hello.")
    assert llm("prompt", "-c", "-m", "box", "-o", "max_tokens", "20", "--no-stream", "And again.")


def test_llm_gets_objects(llm):
    text = llm("prompt", "-m", "box", "-o", "max_tokens", "200", "--schema", "name, age int", "--no-stream", "Anna is 7.")
    assert Person.model_validate_json(text)
