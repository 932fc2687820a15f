"""The API's own description: what it says holds for whatever a machine thinks of sending."""

import json
import subprocess
import sys

import allerac
import httpx
import pytest

EXAMPLES = 25


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """A server of the module's own: what is generated also claims it."""
    with allerac.Server(allerac.data_dir(tmp_path_factory.mktemp("openapi") / "data")) as running:
        yield running


def requests(document: dict):
    """The schemas of all JSON bodies."""
    for path in document["paths"].values():
        for operation in path.values():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if body:
                yield body["schema"]


def run(server, document, tmp_path, *arguments):
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(document))
    command = [sys.executable, "-m", "schemathesis.cli", "run", str(file), "--url", server.url, "--no-color",
               "--header", f"Authorization: Bearer {server.create_key('schemathesis')}",
               "--max-examples", str(EXAMPLES), "--seed", "1", "--request-timeout", "30",
               "--suppress-health-check", "all", *arguments]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=900)
    assert result.returncode == 0, result.stdout[-20_000:] + result.stderr[-2000:]


def test_what_is_described_holds(described, tmp_path):
    document = httpx.get(f"{described.url}/openapi.json").json()
    run(described, document, tmp_path)


def test_what_is_described_holds_for_an_installed_model(described, tmp_path):
    """As above, with a model that is there, so that requests get beyond its name, and with short answers."""
    document = httpx.get(f"{described.url}/openapi.json").json()
    for schema in requests(document):
        properties = schema.get("properties", {})
        if "model" in properties:
            properties["model"] = {"const": allerac.MODEL}
        for name in ("max_tokens", "max_completion_tokens"):
            if name in properties:
                properties[name] = {"const": 2}
                schema["required"] = [*schema["required"], name]
    # Some fields do not go with others, and a random grammar is none: that is refused, and cannot be said in a schema.
    run(described, document, tmp_path, "--include-path-regex", "completions", "--exclude-checks", "positive_data_acceptance")
