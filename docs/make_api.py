"""The page of the REST API on the docs site, made from the OpenAPI document each time the site is built."""

import json
from collections.abc import Iterator
from typing import Any

HEAD = """# REST API

Every route of {title} {version}, and every field, made from the service's own OpenAPI document when this site is built:
the same [as JSON](openapi.json) is `GET /openapi.json` of a service, and `GET /docs` sends requests from a form. Errors
are [problems](problems.md), and gRPC has [the same fields](architecture.md#one-request).
"""
FIELDS = "| field | type | default | meaning |\n| --- | --- | --- | --- |"
PARAMETERS = "| parameter | in | meaning |\n| --- | --- | --- |"
NULL = {"type": "null"}
BOUNDS = {
    "minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters", "maxLength": "at most {} characters",
    "minItems": "at least {} entries", "maxItems": "at most {} entries",
}  # fmt: skip
SCHEMA = "#/components/schemas/"

Node = dict[str, Any]
"""A part of the document, whose members depend on what it describes."""


def page(document: Node) -> str:
    """The page: routes by subject, then the schemas that they name."""
    parts = [HEAD.format(**document["info"]).rstrip()]
    subject = ""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if (tag := operation["tags"][0]) != subject:
                subject = tag
                parts.append(f"## {subject.capitalize()}")
            parts.append("\n\n".join(_operation(document, f"{method.upper()} {path}", operation)))
    parts.append("## Schemas")
    parts += ["\n\n".join(_schema(name, each)) for name, each in document["components"]["schemas"].items()]
    return "\n\n".join(parts) + "\n"


def _operation(document: Node, title: str, operation: Node) -> Iterator[str]:
    yield f"### {title}"
    yield operation["description"]
    parameters = [_followed(document, each) for each in operation.get("parameters", ())]
    if parameters:
        yield "\n".join((PARAMETERS, *(_row(f"`{p['name']}`", p["in"], p.get("description", "")) for p in parameters)))
    if (body := operation.get("requestBody")) is not None:
        kinds = ", ".join(f"`{kind}`" for kind in body["content"])
        yield f"Request: {_kind(body['content']['application/json']['schema'])}, as {kinds}."
    replies = ((code, _followed(document, each)) for code, each in operation["responses"].items())
    yield f"Replies: {'; '.join(_reply(code, each) for code, each in replies)}."


def _reply(code: str, response: Node) -> str:
    kinds = [_kind(each["schema"]) for each in response.get("content", {}).values() if "schema" in each]
    return f"{code} {' or '.join(dict.fromkeys(kinds)) or 'without a schema'}"


def _schema(name: str, schema: Node) -> Iterator[str]:
    yield f"### {name}"
    if "description" in schema:
        yield " ".join(schema["description"].split())
    if "properties" in schema:
        yield _fields(schema)
    for variant in schema.get("oneOf", ()):
        if "title" in variant:
            yield f"{variant['title']}:"
            yield _fields(variant)
    if "properties" in schema and (one_of := [each["required"] for each in schema.get("oneOf", ())]):
        yield f"Exactly one of {', '.join(f'`{field}`' for required in one_of for field in required)} is given."


def _fields(schema: Node) -> str:
    """The table of what an object holds."""
    fields = schema["properties"].items()
    return "\n".join((FIELDS, *(_field(name, field, schema) for name, field in fields if field != NULL)))


def _field(name: str, field: Node, schema: Node) -> str:
    default = "required" if name in schema.get("required", ()) else "none"
    if "default" in field:
        default = f"`{json.dumps(field['default'], ensure_ascii=False)}`"
    return _row(f"`{name}`", _kind(field), default, field.get("description", ""))


def _kind(schema: Node) -> str:
    """The type in words, with its bounds; named schemas as links within the page."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(SCHEMA)
        return f"[{name}](#{name.lower()})"
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(dict.fromkeys(_kind(each) for each in schema[union] if each != NULL))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{each}`" for each in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type", "anything")
    bounds = ", ".join(words.format(schema[bound]) for bound, words in BOUNDS.items() if bound in schema)
    if kind == "array":
        return f"list{f' ({bounds})' if bounds else ''} of {_kind(schema.get('items', {}))}"
    if kind == "object" and isinstance(inner := schema.get("additionalProperties"), dict):
        return f"mapping to {_kind(inner)}"
    return f"{'mapping' if kind == 'object' else kind}{f', {bounds}' if bounds else ''}"


def _followed(document: Node, node: Node) -> Node:
    """What a reference leads to."""
    found = node
    for step in node.get("$ref", "").removeprefix("#/").split("/"):
        found = document if step == "components" else found
        found = found[step] if step else found
    return found


def _row(*cells: str) -> str:
    return f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |"
