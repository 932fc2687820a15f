"""LangChain's standard tests of a chat model, through its OpenAI integration."""

import os

from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class TestStandard(ChatModelIntegrationTests):
    @property
    def chat_model_class(self):
        return ChatOpenAI

    @property
    def chat_model_params(self):
        return {
            "model": os.environ["COMPATIBILITY_MODEL"],
            "base_url": os.environ["COMPATIBILITY_URL"] + "/v1",
            "api_key": os.environ["COMPATIBILITY_KEY"],
            "temperature": 0,
            "max_tokens": 300,
            "max_retries": 0,
            "timeout": 240,
        }

    @property
    def has_tool_choice(self):
        return True

    @property
    def supports_json_mode(self):
        return True

    @property
    def supports_anthropic_inputs(self):
        return False

    @property
    def model_override_value(self):
        return os.environ["COMPATIBILITY_MODEL"]
