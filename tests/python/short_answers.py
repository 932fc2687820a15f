"""What schemathesis sends to models that are there: every request that names one names this one, and wants a short answer.

Loaded into schemathesis by `test_openapi.py`. What is wrong with a request stays wrong.
"""

import os

import schemathesis

MODELS = {"/v1/embeddings": os.environ["SHORT_ANSWERS_ENCODER"], "/v1/rerank": os.environ["SHORT_ANSWERS_ENCODER"]}
LIMITS = {
    "/v1/chat/completions": "max_tokens", "/v1/completions": "max_tokens", "/v1/responses": "max_output_tokens",
    "/v1/messages": "max_tokens",
}  # fmt: skip
TOKENS = 2
LIMIT_MAX = 2**32 - 1


def bound(body: dict, name: str, least: int):
    """Lowers a limit, and sets one where there is none."""
    value = body.get(name)
    if value is None or (type(value) in {int, float} and value == int(value) and least <= value <= LIMIT_MAX):
        body[name] = TOKENS


@schemathesis.hook
def before_call(context, case, kwargs):
    body, path = case.body, case.operation.path
    if not isinstance(body, dict):
        return
    if isinstance(body.get("model"), str):
        body["model"] = MODELS.get(path, os.environ["SHORT_ANSWERS_MODEL"])
    if path in LIMITS and (path != "/v1/messages" or body.get("max_tokens") is not None):
        if body.get("max_completion_tokens") is not None:
            bound(body, "max_completion_tokens", 1)
        bound(body, LIMITS[path], 1)
    if path in {"/api/chat", "/api/generate"}:
        if body.get("options") is None:
            body["options"] = {}
        if isinstance(body["options"], dict):
            bound(body["options"], "num_predict", -2)
        for name in ("max_tokens", "max_output_tokens", "max_completion_tokens"):
            if body.get(name) is not None:
                bound(body, name, -2)
