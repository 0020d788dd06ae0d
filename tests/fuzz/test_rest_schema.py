"""REST by its own schema: whatever is sent, the reply is one that the schema describes."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.fuzz.inputs import SCORERS, image_bytes
from tests.fuzz.served import NUM_CASES, Served, cases, check_problems

POSTS = (
    *("/v1/score", "/v1/rank", "/v1/filter", "/v1/embed", "/v1/select", "/v1/calibrations"),
    *("/v1/sets/diversity", "/v1/sets/distance", "/v1/sets/audit", "/v1/sets/references"),
    *("/v1/classifiers", "/v1/references"),
)
GETS = (
    *("/v1/scorers", "/v1/models", "/v1/calibrations", "/v1/classifiers", "/v1/references", "/v1/drift"),
    "/v1/sets/references",
    *("/livez", "/readyz", "/metrics"),
)
NAMED = (
    *((method, "/v1/calibrations/{name}") for method in ("GET", "DELETE")),
    *(("DELETE", f"/v1/{kind}/{{name}}") for kind in ("classifiers", "references", "sets/references")),
)
BODILESS = (("POST", "/v1/admin/reload"), *(("GET", path) for path in GETS), *NAMED)
CHECKS: list[Any] = [
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]
BEYOND_SCHEMAS = (
    "a min below its max",
    "a min that is not above its max",
    "entries for",
    "the correlation between its ends",
    "one entry for each",
    "must have exactly one of images, embeddings, hashes",
    "each once",
    "must be one of the declared groups",
    "must be two of the groups",
    "must come with images",
    "as those of the prompts have",
    "as the first encoding has",
    "as a has",
    "of two encoders have no distance",
    "must not be zero",
    "must have finite numbers",
    "must be numbers, or base64",
    "must be whole float32 numbers",
    "must have 1 to 1536 numbers",
    "the same names in classes and prompts",
    "hold the same image again and again",
    "are all the same",
    "hardly differ",
    "at least 100 are needed",
)
"""What is refused of what the schema allows: JSON Schema compares no two values, and reads no base64."""
load_all_checks()


def test_every_operation_is_tried(served: Served) -> None:
    operations: list[Any] = [each.ok() for each in served.schema.get_all_operations()]  # type: ignore[union-attr]
    found = {(each.method.upper(), each.path) for each in operations}
    assert found == {("POST", path) for path in POSTS} | {*BODILESS}


def check(served: Served, case: Any) -> None:
    """Send a case as it is, and hold its reply against the schema."""
    arguments = case.as_transport_kwargs(base_url="http://test")
    prepared = requests.Request(**{key: value for key, value in arguments.items() if key != "cookies"}).prepare()
    body: Any = prepared.body or b""
    headers = {str(name): _text(value) for name, value in prepared.headers.items()}
    content = body.encode() if isinstance(body, str) else body
    reply = served.rest(str(prepared.method), str(prepared.path_url), content, headers)
    NUM_CASES[f"REST by its schema {'answered' if reply.is_success else 'refused'}"] += 1
    case.validate_response(reply, checks=CHECKS, transport_kwargs=arguments)
    if reply.headers["content-type"].endswith("json"):
        document = reply.json()
        check_problems(document)
        if case.meta.generation.mode is GenerationMode.POSITIVE:
            faults = document.get("errors", ()) if document.get("code") == "invalid_field" else ()
            unsaid = [fault for fault in faults if not any(each in fault["detail"] for each in BEYOND_SCHEMAS)]
            assert not unsaid, "what the schema allows is of the schema"


def _make_sound(document: Any, image: str) -> None:
    """Leave out what the schema allows and this service does not have, and put an image where one is sent."""
    for part in _parts_of(document):
        if "b64" in part:
            part["b64"] = image
        for name in ("scorers", "combine", "timeout_ms", "timeout"):
            part.pop(name, None)
        if "scorer" in part or "direction" in part:  # a calibration may have had a combination in its place
            part["scorer"] = SCORERS[0]
        if "labels" in part and isinstance(part.get("scores"), list):
            part["labels"] = [index % 2 == 0 for index in range(len(part["scores"]))]
            part.pop("groups", None)
        if part.get("items") == []:
            part["items"] = [{"image": {"b64": image}, "text": "a red circle"}]


def _make_combinations_sound(document: Any) -> None:
    """Hold to what no schema can say: each scorer once, and bounds in order."""
    for part in _parts_of(document):
        for index, term in enumerate(part["terms"] if isinstance(part.get("terms"), list) else ()):
            term["scorer"] = str(index)
            if term.get("min") is not None and term.get("max") is not None:
                term["min"], term["max"] = 0, 1


def _parts_of(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _parts_of(each)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("path", POSTS)
def test_a_reply_to_anything_is_as_the_schema_says(served: Served, path: str, mode: GenerationMode) -> None:
    @cases(0.5)
    @given(
        case=served.schema[path]["POST"].as_strategy(generation_mode=mode), image=image_bytes(), kept=st.integers(0, 3)
    )
    def each(case: Any, image: bytes, kept: int) -> None:
        if mode is GenerationMode.POSITIVE and isinstance(case.body, dict):
            _make_combinations_sound(case.body.get("request", case.body))
        if mode is GenerationMode.POSITIVE and kept and isinstance(case.body, dict):
            case.headers.pop("x-request-timeout-seconds", None)
            _make_sound(case.body.get("request", case.body), base64.b64encode(image).decode())
        check(served, case)

    each()


@cases(0.1)
@given(data=st.data())
def test_what_is_loaded_is_told_as_the_schema_says(served: Served, data: st.DataObject) -> None:
    method, path = data.draw(st.sampled_from(BODILESS))
    check(served, data.draw(served.schema[path][method].as_strategy()))
