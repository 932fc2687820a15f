"""Why tests fail that do, by the suite and a part of the test's name. A failure that no line here explains is one to
look into."""

from fnmatch import fnmatch

MODEL = "the model's judgement: "

NOTES = [
    ("langchain-*", "test_agent_loop", MODEL + "it is free to call the tool, and answers in words"),
    ("langchain-*", "test_json_mode", MODEL + "any JSON is asked for, and it opens braces until its tokens are used up"),
    ("langchain-*", "test_structured_output", MODEL + "its joke has no end, and its tokens run out within a string"),
    ("langchain-ollama", "test_", MODEL + "Ollama's API cannot force a call, and it answers in words"),
]


def note(suite: str, test: str) -> str:
    found = (why for of, part, why in NOTES if fnmatch(suite, of) and test.startswith(part))
    return next(found, "not explained yet")
