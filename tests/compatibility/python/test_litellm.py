"""litellm, which speaks all three APIs."""

import json

import litellm
import pytest

from where import EMBEDDING, KEY, MODEL, PERSON, URL, WEATHER, needs_embedding

HELLO = [{"role": "user", "content": "Say hello."}]
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "The weather.", "parameters": WEATHER}}
WAYS = {
    "openai": {"model": f"openai/{MODEL}", "api_base": f"{URL}/v1"},
    "hosted_vllm": {"model": f"hosted_vllm/{MODEL}", "api_base": f"{URL}/v1"},
    "anthropic": {"model": f"anthropic/{MODEL}", "api_base": URL},
    "ollama_chat": {"model": f"ollama_chat/{MODEL}", "api_base": URL},
}
litellm.suppress_debug_info = True


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param] | {"api_key": KEY, "max_tokens": 40, "timeout": 240, "num_retries": 0}


def test_completion(way):
    done = litellm.completion(messages=HELLO, **way)
    assert done.choices[0].message.content and done.usage.total_tokens > 0


def test_streams(way):
    chunks = litellm.completion(messages=HELLO, stream=True, **way)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def test_json_schema(way):
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
    done = litellm.completion(messages=HELLO, response_format=form, **way | {"max_tokens": 300})
    assert isinstance(json.loads(done.choices[0].message.content)["age"], int)


@pytest.mark.parametrize("name", ["openai", "hosted_vllm", "anthropic"])
def test_forced_tool(name):
    way = WAYS[name] | {"api_key": KEY, "max_tokens": 200, "timeout": 240}
    done = litellm.completion(messages=HELLO, tools=[TOOL], tool_choice="required", **way)
    assert isinstance(json.loads(done.choices[0].message.tool_calls[0].function.arguments)["city"], str)


def test_response():
    done = litellm.responses(model=f"openai/{MODEL}", input="Say hello.", api_base=f"{URL}/v1", api_key=KEY, max_output_tokens=40)
    assert done.output


@needs_embedding
def test_embedding():
    done = litellm.embedding(model=f"openai/{EMBEDDING}", input=["a", "b"], api_base=f"{URL}/v1", api_key=KEY)
    assert len(done.data) == 2


def test_unknown_model():
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(messages=HELLO, model="openai/no-such-model", api_base=f"{URL}/v1", api_key=KEY, num_retries=0)
