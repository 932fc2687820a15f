"""Holds answers to a description: every key that must be there is, none is there that is not described."""

import json
from collections.abc import Iterator

from jsonschema import Draft202012Validator
from pydantic import BaseModel, TypeAdapter
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

ROOT = "urn:description"
COMBINING = ("$ref", "anyOf", "oneOf", "allOf")


def parts_of(schema) -> Iterator[dict]:
    """A schema, and all within it."""
    if isinstance(schema, dict):
        yield schema
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else []:
        yield from parts_of(part)


def closed(schema):
    """The same schema where no object may have more than it says."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: closed(part) for name, part in schema.items()}
    # What says of what may be there besides has said it.
    if isinstance(made.get("properties"), dict) and "additionalProperties" not in made:
        combined = {name: schema[name] for name in COMBINING if name in schema}
        made |= combined
        made["unevaluatedProperties" if combined else "additionalProperties"] = False
    return made


def in_3_1(schema):
    """The same schema without the word for null that OpenAPI has given up."""
    if isinstance(schema, list):
        return [in_3_1(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: in_3_1(part) for name, part in schema.items()}
    return {"anyOf": [made, {"type": "null"}]} if made.pop("nullable", None) is True else made


def all_closed(components: dict) -> dict:
    """The same of named schemas, but for those that are part of a larger one."""
    parts = {part["$ref"].rsplit("/")[-1] for part in parts_of(components) if "properties" in part and "$ref" in part}
    return {name: schema if name in parts else closed(schema) for name, schema in components.items()}


class Description:
    """An OpenAPI document; answers are held to the schemas in it."""

    def __init__(self, document: dict, *, close: bool):
        self.document = in_3_1(document)
        if close:
            self.document = document | {"components": {"schemas": all_closed(document["components"]["schemas"])}}
        resource = Resource(contents=self.document, specification=DRAFT202012)
        self._registry = Registry().with_resource(ROOT, resource)

    def _mismatches(self, pointer: str, value) -> list[str]:
        validator = Draft202012Validator({"$ref": f"{ROOT}#{pointer}"}, registry=self._registry)
        return [line for error in validator.iter_errors(value) for line in told(error)]

    def component(self, name: str, value):
        """Holds a value to a named schema."""
        wrong = self._mismatches(f"/components/schemas/{name}", value)
        assert not wrong, f"{name}: " + "\n".join([*wrong, json.dumps(value)[:2000]])

    def _pointer(self, method: str, path: str, status: str, kind: str) -> str:
        parts = ["paths", path, method, "responses", status, "content", kind, "schema"]
        return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)

    def answer(self, method: str, path: str, answer):
        """Holds an answer to what is described of its path; the events of a stream, and its lines, each."""
        kind = answer.headers["content-type"].split(";")[0]
        described = self.document["paths"][path][method]["responses"]
        status = str(answer.status_code)
        status = status if status in described else f"{status[0]}XX"
        pointer = self._pointer(method, path, status, kind)
        values = list(events(answer.text)) if kind == "text/event-stream" else None
        if kind == "application/x-ndjson":
            values = [json.loads(line) for line in answer.text.splitlines()]
        for value in [answer.json()] if values is None else values:
            wrong = self._mismatches(pointer, value)
            assert not wrong, f"{method} {path} {status}: " + "\n".join([*wrong, json.dumps(value)[:2000]])
        if kind == "text/event-stream":
            self._data(described[status]["content"][kind]["schema"], values)

    def _data(self, schema: dict, values: list[dict]):
        """JSON text in an event is held to its own schema, which validators pass over."""
        data = schema["properties"]["data"]
        kinds = [one["contentSchema"] for one in data.get("anyOf", [data]) if "contentSchema" in one]
        (inner,) = kinds
        inner = absolute(inner)
        for value in values:
            if value["data"] == "[DONE]":
                continue
            wrong = [
                line
                for error in Draft202012Validator(inner, registry=self._registry).iter_errors(json.loads(value["data"]))
                for line in told(error)
            ]
            assert not wrong, "\n".join([*wrong, value["data"][:2000]])


def absolute(schema):
    """The same schema, with references that hold outside of its document."""
    if isinstance(schema, list):
        return [absolute(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: ROOT + part if name == "$ref" and part.startswith("#") else absolute(part) for name, part in schema.items()
    }


def told(error) -> Iterator[str]:
    """What is wrong where; of alternatives, what is wrong with the one that fits best."""
    if error.context:
        kinds = {}
        for inner in error.context:
            kinds.setdefault(inner.schema_path[0], []).append(inner)
        best = min(kinds.values(), key=lambda inner: (min(-len(e.path) for e in inner), len(inner)))
        for inner in best:
            yield from told(inner)
    else:
        yield f"{'/'.join(map(str, error.absolute_path))}: {error.message[:300]}"


def events(text: str) -> Iterator[dict]:
    """The events of a stream by their fields, without its comments."""
    for block in text.split("\n\n"):
        fields = [line.partition(": ")[::2] for line in block.split("\n") if line and not line.startswith(":")]
        if fields:
            assert len({name for name, _ in fields}) == len(fields), block
            yield dict(fields)


def exact(kind, value) -> set[str]:
    """Holds a value to a type of a client: nothing is missing or coerced. What is there besides is returned."""
    return set(besides(TypeAdapter(kind).validate_json(json.dumps(value), strict=True)))


def besides(value) -> Iterator[str]:
    """The fields that a type of a client does not know."""
    if isinstance(value, BaseModel):
        for name in value.model_extra or {}:
            yield f"{type(value).__name__}.{name}"
        for name in type(value).model_fields:
            yield from besides(getattr(value, name))
    elif isinstance(value, dict):
        for part in value.values():
            yield from besides(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from besides(part)
