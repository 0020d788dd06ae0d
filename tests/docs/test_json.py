"""Every JSON document of a page is held against what reads or writes it; what the embedded networks answer is sent."""

import base64
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from plumbline_client import Item, Question
from plumbline_serve.demo import exhibits
from plumbline_serve.edge import schemas
from plumbline_serve.edge.rest.requests import read_document
from plumbline_serve.local import Plumbline
from plumbline_serve.settings import Limits
from tests.docs.pages import blocks, name

ELSEWHERE = {"README.md": "test_readme.py sends it", "docs/decisions.md": "test_decisions.py"}
REQUESTS: dict[tuple[str, int], tuple[type[schemas.Request], str | None]] = {
    ("docs/classifiers.md", 0): (schemas.ClassifierRequest, None),
    ("docs/drift.md", 0): (schemas.ReferenceRequest, None),
    ("docs/guards.md", 0): (schemas.ScoreRequest, "/v1/score"),
    ("docs/integrity.md", 0): (schemas.FilterRequest, None),
    ("docs/scorers.md", 0): (schemas.ScoreRequest, "/v1/score"),
    ("docs/scorers.md", 1): (schemas.ScoreRequest, None),
    ("docs/scorers.md", 3): (schemas.RankRequest, None),
    ("docs/sets.md", 0): (schemas.DiversityRequest, "/v1/sets/diversity"),
    ("docs/sets.md", 2): (schemas.ReferenceSetRequest, None),
    ("docs/sets.md", 3): (schemas.AuditRequest, None),
    ("docs/urls.md", 0): (schemas.ScoreRequest, None),
}
"""By page and place on it: the schema, and the route, unless it needs what the service of these tests has not: other
scorers, URLs, audits, a store, scores that came before."""
REPLIES: dict[tuple[str, int], type[BaseModel]] = {
    ("docs/classifiers.md", 1): schemas.ClassifierEntry,
    ("docs/drift.md", 1): schemas.DriftReply,
    ("docs/problems.md", 0): schemas.Problem,
    ("docs/sets.md", 1): schemas.DiversityReply,
}
GUARDED, QUESTIONED = ("docs/guards.md", 1), ("docs/scorers.md", 2)
"""What stands within a reply."""
POLICY_ONLY = ("docs/integrity.md", 0)
PLACED = {
    (page, index): block
    for page, group in itertools.groupby(blocks("json"), key=lambda block: name(block.page))
    for index, block in enumerate(group)
    if page not in ELSEWHERE
}


def with_images(document: Any, images: Iterator[str]) -> Any:
    """The document with real images in the place of those that the page leaves out."""
    if isinstance(document, dict):
        if "b64" in document:
            return {"b64": next(images)}
        return {key: with_images(each, images) for key, each in document.items()}
    return [with_images(each, images) for each in document] if isinstance(document, list) else document


def sent(served: Any, place: tuple[str, int]) -> dict[str, Any]:
    """The reply to the request that a page shows."""
    images = itertools.cycle(base64.b64encode(each.path.read_bytes()).decode() for each in exhibits())
    _, route = REQUESTS[place]
    assert route is not None
    response = served.request("POST", route, json=with_images(json.loads(PLACED[place].text), images))
    assert response.status_code == 200, response.text
    reply: dict[str, Any] = response.json()
    return reply


def test_every_document_is_held_against_something() -> None:
    assert PLACED.keys() == REQUESTS.keys() | REPLIES.keys() | {GUARDED, QUESTIONED}


@pytest.mark.parametrize("place", REQUESTS, ids=str)
def test_a_request_is_as_the_schema_says(place: tuple[str, int]) -> None:
    document = json.loads(PLACED[place].text)
    beside = {"items": [{"image": {"b64": "…"}, "text": "a"}]} if place == POLICY_ONLY else {}
    read_document({**document, **beside}, REQUESTS[place][0], Limits())


@pytest.mark.parametrize("place", [each for each, (_, route) in REQUESTS.items() if route], ids=str)
def test_a_request_is_answered(served: Any, place: tuple[str, int]) -> None:
    reply = sent(served, place)
    assert all(each["status"] == "ok" for each in reply.get("results", []))


@pytest.mark.parametrize("place", REPLIES, ids=str)
def test_a_reply_has_fields_of_the_schema(place: tuple[str, int]) -> None:
    assert json.loads(PLACED[place].text).keys() <= REPLIES[place].model_fields.keys()


def test_what_drifts_has_fields_of_the_schema() -> None:
    [entry] = json.loads(PLACED["docs/drift.md", 1].text)["scorers"].values()
    assert entry.keys() <= schemas.DriftEntry.model_fields.keys()
    assert all(each.keys() <= schemas.StatisticShift.model_fields.keys() for each in entry["images"].values())


def test_the_reply_of_diversity_is_whole(served: Any) -> None:
    shown = json.loads(PLACED["docs/sets.md", 1].text)
    true = sent(served, ("docs/sets.md", 0))
    assert shown.keys() <= true.keys()
    assert shown["sce"].keys() == true["sce"].keys()


def test_what_guards_say_has_the_members_that_are_shown(served: Any) -> None:
    shown = json.loads(PLACED[GUARDED].text)
    del shown["explained"]  # of artefacts, which tests/serve/requests/test_guarding.py builds
    assert shown.keys() <= sent(served, ("docs/guards.md", 0))["results"][0]["guards"].keys()


def test_answers_to_questions_have_the_members_that_are_shown(tmp_path: Path) -> None:
    [asked] = json.loads(PLACED["docs/scorers.md", 1].text)["items"]
    shown = json.loads(PLACED[QUESTIONED].text)
    config = {"backend": "torch", "precision": "fp32", "cache_dir": str(tmp_path), "scorers": {"questions": {}}}
    with Plumbline(config) as plumbline:
        item = Item(exhibits()[0].path, questions=[Question(**each) for each in asked["questions"]])
        [result] = plumbline.score([item]).results
    true = result.scores["questions"].model_dump()
    assert shown.keys() <= true.keys()
    assert len(shown["answers"]) == len(true["answers"])
    assert all(each.keys() <= true["answers"][0].keys() for each in shown["answers"])
