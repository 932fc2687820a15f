"""LangChain's standard tests of a chat model and of embeddings, through its Ollama integration."""

from langchain_ollama import ChatOllama, OllamaEmbeddings
from langchain_tests.integration_tests import EmbeddingsIntegrationTests

from standard import Standard
from where import EMBEDDING, KEY, MODEL, URL, needs_embedding

CLIENT = {"headers": {"Authorization": f"Bearer {KEY}"}, "timeout": 240}


class TestChat(Standard):
    chat_model_class = ChatOllama
    chat_model_params = {
        "model": MODEL, "base_url": URL, "client_kwargs": CLIENT, "temperature": 0, "num_predict": 300,
    }  # fmt: skip
    supports_json_mode = True
    # The client sends no such field: Ollama's API has none.
    has_tool_choice = False


@needs_embedding
class TestEmbeddings(EmbeddingsIntegrationTests):
    embeddings_class = OllamaEmbeddings
    embedding_model_params = {"model": EMBEDDING, "base_url": URL, "client_kwargs": CLIENT}
