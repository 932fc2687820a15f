"""LangChain's standard tests of a chat model, through its Anthropic integration."""

from langchain_anthropic import ChatAnthropic

from standard import Standard
from where import KEY, MODEL, URL


class TestChat(Standard):
    chat_model_class = ChatAnthropic
    chat_model_params = {
        "model": MODEL, "base_url": URL, "api_key": KEY, "temperature": 0, "max_tokens": 300, "max_retries": 0,
        "timeout": 240,
    }  # fmt: skip
    supports_anthropic_inputs = True
