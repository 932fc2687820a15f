"""Where the server under test is, from the environment that the runner makes."""

import os

import pytest

URL = os.environ["COMPATIBILITY_URL"]
KEY = os.environ["COMPATIBILITY_KEY"]
MODEL = os.environ["COMPATIBILITY_MODEL"]
# A model behind the router that calls tools unasked, and one for embeddings; the other server has neither.
AGENT = os.environ.get("COMPATIBILITY_AGENT", "")
EMBEDDING = os.environ.get("COMPATIBILITY_EMBEDDING", "")

needs_agent = pytest.mark.skipif(not AGENT, reason="there is no model that wants a tool")
needs_embedding = pytest.mark.skipif(not EMBEDDING, reason="there is no model for embeddings")

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 30}, "days": {"type": "integer", "maximum": 100}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 30}, "age": {"type": "integer", "maximum": 150}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
