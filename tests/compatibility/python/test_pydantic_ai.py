"""pydantic-ai's agents over the three ways it can speak to the box."""

import pydantic
import pytest
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from where import AGENT, KEY, MODEL, URL, needs_agent

SETTINGS = {"max_tokens": 300, "temperature": 0, "timeout": 240}


class Person(pydantic.BaseModel):
    name: str
    age: int


def openai_chat(name):
    return OpenAIChatModel(name, provider=OpenAIProvider(base_url=f"{URL}/v1", api_key=KEY))


def openai_responses(name):
    return OpenAIResponsesModel(name, provider=OpenAIProvider(base_url=f"{URL}/v1", api_key=KEY))


def anthropic(name):
    return AnthropicModel(name, provider=AnthropicProvider(base_url=URL, api_key=KEY))


@pytest.fixture(params=[openai_chat, openai_responses, anthropic])
def model(request):
    return request.param


def test_text(model):
    assert Agent(model(MODEL), model_settings=SETTINGS, system_prompt="Be brief.").run_sync("Say hello.").output


async def test_streams(model):
    async with Agent(model(MODEL), model_settings=SETTINGS).run_stream("Say hello.") as result:
        assert "".join([text async for text in result.stream_text(delta=True)])


def test_output_by_tool(model):
    agent = Agent(model(MODEL), model_settings=SETTINGS, output_type=ToolOutput(Person), retries=3)
    assert isinstance(agent.run_sync("Anna is 7 years old.").output, Person)


def test_output_by_schema(model):
    if model is anthropic:
        pytest.skip("pydantic-ai offers this for names of Claude models only")
    agent = Agent(model(MODEL), model_settings=SETTINGS, output_type=NativeOutput(Person), retries=3)
    assert isinstance(agent.run_sync("Anna is 7 years old.").output, Person)


@needs_agent
def test_tools(model):
    agent = Agent(model(AGENT), model_settings=SETTINGS)

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """The weather of a city."""
        return f"sunny in {city}"

    result = agent.run_sync("Weather?")
    assert result.output == "The tool said: sunny in Paris" and result.usage().requests == 2


@needs_agent
async def test_tools_in_a_stream(model):
    agent = Agent(model(AGENT), model_settings=SETTINGS)

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """The weather of a city."""
        return f"sunny in {city}"

    async with agent.run_stream("Weather?") as result:
        assert await result.get_output() == "The tool said: sunny in Paris"
