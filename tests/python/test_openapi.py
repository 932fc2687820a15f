"""The API's own description: what it says holds for whatever a machine thinks of sending."""

import json
import os
import subprocess
import sys
from pathlib import Path

import allerac
import httpx
import pytest
from test_embeddings import MODEL as ENCODER
from test_embeddings import data_dir

# Requests of each kind that are thought of for an operation.
EXAMPLES = 8
# What computes something, where a model is named.
COMPUTES = "(chat/completions|completions|responses|input_tokens|messages|count_tokens|embeddings|rerank|chat|generate|show)$"


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """A server of the module's own: what is generated also claims it."""
    with allerac.Server(data_dir(tmp_path_factory.mktemp("openapi") / "data")) as running:
        yield running


def requests(document: dict):
    """All JSON bodies."""
    for operations in document["paths"].values():
        for operation in operations.values():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if body:
                yield body


def run(server, document, tmp_path, *arguments, **environment):
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(document))
    command = [sys.executable, "-m", "schemathesis.cli", "run", str(file), "--url", server.url, "--no-color",
               "--header", f"Authorization: Bearer {server.create_key('schemathesis')}",
               "--max-examples", str(EXAMPLES), "--seed", "1", "--request-timeout", "120",
               "--suppress-health-check", "all", *arguments]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=900, env=os.environ | environment)
    assert result.returncode == 0, result.stdout[-20_000:] + result.stderr[-2000:]


@pytest.mark.timeout(900)
def test_what_is_described_holds(described, tmp_path):
    """For a model that is not there, so that nothing is computed: answers of models are for the next test."""
    document = httpx.get(f"{described.url}/openapi.json").json()
    # With these it takes its own key away, and is let in nowhere after that.
    for path in ("/v1/account/keys/{id}", "/v1/account/keys/{id}/rotate"):
        del document["paths"][path]
    for body in requests(document):
        if "model" in body["schema"].get("properties", {}):
            body["schema"]["properties"]["model"] = {"const": "nobody"}
            body.pop("example", None)
    run(described, document, tmp_path)


@pytest.mark.timeout(900)
def test_what_is_described_holds_for_an_installed_model(described, tmp_path):
    """As above, with a model that is there, so that requests get beyond its name, and with short answers."""
    document = httpx.get(f"{described.url}/openapi.json").json()
    # Some fields do not go with others, and a random grammar is none: that is refused, and cannot be said in a schema.
    hooks = {"PYTHONPATH": str(Path(__file__).parent), "SCHEMATHESIS_HOOKS": "short_answers",
             "SHORT_ANSWERS_MODEL": allerac.MODEL, "SHORT_ANSWERS_ENCODER": ENCODER}  # fmt: skip
    run(described, document, tmp_path, "--include-path-regex", COMPUTES,
        "--exclude-checks", "positive_data_acceptance", **hooks)  # fmt: skip
