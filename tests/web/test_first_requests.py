"""What the reference offers to try is answered with scores, as it stands."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from plumbline_serve.edge.rest.examples import examples, form_examples
from plumbline_serve.settings import Settings
from tests.web.conftest import Served

ROUTES = tuple(examples(Settings().scorer_names))
FORMS = tuple(form_examples(Settings().scorer_names))


@pytest.fixture(scope="module")
def document(service: Served) -> Any:
    return httpx.get(f"{service.url}/openapi.json").json()


def content_of(document: Mapping[str, Any], route: str) -> Any:
    return document["paths"][route]["post"]["requestBody"]["content"]


def check(reply: httpx.Response) -> None:
    assert reply.status_code == 200, reply.text
    assert '"error"' not in reply.text


@pytest.mark.parametrize("route", ROUTES)
def test_the_example_in_json_is_answered(service: Served, document: Any, route: str) -> None:
    content = content_of(document, route)["application/json"]
    check(httpx.post(service.url + route, json=content["example"], timeout=60))
    schema = content["schema"] | {"components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(content["example"])


@pytest.mark.parametrize("route", FORMS)
def test_the_example_in_a_form_is_answered_with_any_image(
    service: Served, document: Any, gallery: Path, route: str
) -> None:
    properties = content_of(document, route)["multipart/form-data"]["schema"]["properties"]
    [example] = properties["request"]["examples"]
    assert properties["image"]["format"] == "binary"
    file = {"image": ("a.png", (gallery / "red_circle.png").read_bytes())}
    check(httpx.post(service.url + route, data={"request": json.dumps(example)}, files=file, timeout=60))


def test_the_example_says_what_it_is_about(service: Served, document: Any) -> None:
    body = content_of(document, "/v1/score")["application/json"]["example"]
    for result in httpx.post(f"{service.url}/v1/score", json=body, timeout=60).json()["results"]:
        assert result["scores"]["vqascore"]["value"] > 0.5
        assert not [word["text"] for word in result["scores"]["fclipscore"]["words"] if word["misaligned"]]


def test_nothing_that_may_be_left_out_has_a_default_of_null(document: Any) -> None:
    assert '"default": null' not in json.dumps(document)


@pytest.mark.parametrize("scorers", [(), ("integrity",), ("aesthetic", "nsfw"), ("org-scorer",)])
def test_there_are_examples_whatever_is_configured(scorers: tuple[str, ...]) -> None:
    assert set(examples(scorers)) == set(ROUTES)
    assert set(form_examples(scorers)) == set(FORMS) <= set(ROUTES)
