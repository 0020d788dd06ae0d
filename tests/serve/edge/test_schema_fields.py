from typing import Any

import pytest

from plumbline_models.core.errors import InvalidFieldError, TooManyItemsError
from plumbline_serve.edge import schemas
from plumbline_serve.edge.rest.requests import read_document
from plumbline_serve.settings import Limits

LIMITS = Limits(max_items=3)
B64 = {"b64": "aGFsbG8="}


def faults(document: Any, schema: Any = schemas.ScoreRequest) -> dict[str, str]:
    with pytest.raises(InvalidFieldError) as caught:
        read_document(document, schema, LIMITS)
    found: Any = caught.value.facts["errors"]
    return {fault["pointer"]: fault["detail"] for fault in found}


def item(**fields: Any) -> dict[str, Any]:
    return {"items": [fields]}


CHOICE = "must have exactly one of b64, url, part"
SCORE_CASES = [
    pytest.param([], {"": "must be an object"}, id="an array"),
    pytest.param("x", {"": "must be an object"}, id="a string"),
    pytest.param(None, {"": "must be an object"}, id="null"),
    pytest.param({}, {"/items": "is required"}, id="nothing"),
    pytest.param({"items": {}}, {"/items": "must be an array"}, id="items as object"),
    pytest.param({"items": "abc"}, {"/items": "must be an array"}, id="items as string"),
    pytest.param({"items": [1]}, {"/items/0": "must be an object"}, id="item as number"),
    pytest.param({"items": [], "x": 1}, {"/x": "is not a known field"}, id="unknown field"),
    pytest.param(item(prompt="a"), {"/items/0/prompt": "is not a known field (did you mean text?)"}, id="other name"),
    pytest.param(item(txt="a"), {"/items/0/txt": "is not a known field"}, id="unknown field of an item"),
    pytest.param(item(id=1), {"/items/0/id": "must be a string"}, id="id as number"),
    pytest.param(item(text=1), {"/items/0/text": "must be a string"}, id="text as number"),
    pytest.param(item(text=["a"]), {"/items/0/text": "must be a string"}, id="text as array"),
    pytest.param(item(text=True), {"/items/0/text": "must be a string"}, id="text as boolean"),
    pytest.param(item(references="a"), {"/items/0/references": "must be an array"}, id="references as string"),
    pytest.param(item(phrases=["a", 1]), {"/items/0/phrases/1": "must be a string"}, id="phrase as number"),
    pytest.param(item(reference_image={}), {"/items/0/reference_image": CHOICE}, id="reference image without a source"),
    pytest.param(item(questions="a"), {"/items/0/questions": "must be an array"}, id="questions as string"),
    pytest.param(item(questions=["a"]), {"/items/0/questions/0": "must be an object"}, id="question as string"),
    pytest.param(item(questions=[{}]), {"/items/0/questions/0/text": "is required"}, id="question without text"),
    pytest.param(
        item(questions=[{"text": "a", "expect": "maybe", "tag": "x" * 129, "depends_on": [-1, 0.5]}]),
        {
            "/items/0/questions/0/expect": "must be 'yes' or 'no'",
            "/items/0/questions/0/tag": "must have at most 128 characters",
            "/items/0/questions/0/depends_on/0": "must be at least 0",
            "/items/0/questions/0/depends_on/1": "must be an integer",
        },
        id="question of wrong values",
    ),
    pytest.param(item(frames=[]), {"/items/0/frames": "must not be empty"}, id="no frames"),
    pytest.param(item(frames=["a"] * 65), {"/items/0/frames": "must have at most 64 entries"}, id="many frames"),
    pytest.param(item(frames=["a", {}]), {"/items/0/frames/1": CHOICE}, id="frame without a source"),
    pytest.param(item(frames=["a", 1]), {"/items/0/frames/1": "must be a string or an object"}, id="frame as number"),
    pytest.param(
        item(frames=["a"], image="a"), {"/items/0": "must have image or frames, not both"}, id="frames beside an image"
    ),
    pytest.param(
        item(frames=["a"], pool="max"),
        {"/items/0/pool": "must be 'mean', 'min' or 'clip4clip'"},
        id="frames pooled in another way",
    ),
    pytest.param(item(image=1), {"/items/0/image": "must be a string or an object"}, id="image as number"),
    pytest.param(item(image=[]), {"/items/0/image": "must be a string or an object"}, id="image as array"),
    pytest.param(item(image={}), {"/items/0/image": CHOICE}, id="image without a source"),
    pytest.param(item(image={"b64": "", "url": ""}), {"/items/0/image": CHOICE}, id="image with two sources"),
    pytest.param(item(image={"b64": 5}), {"/items/0/image/b64": "must be a string"}, id="base64 as number"),
    pytest.param(
        item(image={"base64": ""}),
        {"/items/0/image/base64": "is not a known field (did you mean b64?)"},
        id="other source",
    ),
    pytest.param(
        item(image=B64 | {"raw": {"height": 1, "width": 1}}),
        {"/items/0/image": "may have raw only beside part"},
        id="raw base64",
    ),
    pytest.param(
        item(image={"part": "a", "raw": {"height": 0, "width": "4"}}),
        {"/items/0/image/raw/height": "must be at least 1", "/items/0/image/raw/width": "must be an integer"},
        id="raw of no size",
    ),
    pytest.param(
        item(image={"part": "a", "raw": {"height": 2.5, "width": True}}),
        {"/items/0/image/raw/height": "must be an integer", "/items/0/image/raw/width": "must be an integer"},
        id="raw of broken size",
    ),
    *(
        pytest.param(
            item(image={"part": "a", "raw": {"height": 1, "width": 1, "channels": channels}}),
            {"/items/0/image/raw/channels": "must be 3 or 4"},
            id=f"raw of {channels!r} channels",
        )
        for channels in (0, 1, 5, 3.5, "4", True, None)
    ),
    pytest.param(
        {"items": [], "images": {"a/b~c": {"url": 1}}},
        {"/images/a~1b~0c/url": "must be a string"},
        id="pointer is escaped",
    ),
    pytest.param({"items": [], "images": []}, {"/images": "must be an object"}, id="images as array"),
    pytest.param({"items": [], "images": {"a": "b"}}, {"/images/a": "must be an object"}, id="image names image"),
    pytest.param({"items": [], "scorers": "clipscore"}, {"/scorers": "must be an array"}, id="scorers as string"),
    pytest.param({"items": [], "scorers": [1]}, {"/scorers/0": "must be a string"}, id="scorer as number"),
    pytest.param(
        {"items": [], "scorers": ["a"] * 65}, {"/scorers": "must have at most 64 entries"}, id="scorers without end"
    ),
    pytest.param({"items": [], "combine": []}, {"/combine": "must be an object"}, id="combinations as array"),
    pytest.param(
        {"items": [], "combine": {"r": {"method": "mean", "terms": [{"scorer": "a", "weight": "1", "to": 1}]}}},
        {
            "/combine/r/method": "must be 'sum' or 'harmonic'",
            "/combine/r/terms/0/weight": "must be a number",
            "/combine/r/terms/0/to": "is not a known field",
        },
        id="a combination of wrong types",
    ),
    pytest.param(
        {"items": [], "combine": {"r": {"method": "sum", "terms": [{"scorer": "a", "weight": 1e10, "min": -1e10}]}}},
        {"/combine/r/terms/0/weight": "must be at most 1e+09", "/combine/r/terms/0/min": "must be at least -1e+09"},
        id="numbers without end",
    ),
    pytest.param({"items": [], "timeout_ms": "5"}, {"/timeout_ms": "must be a number"}, id="timeout as string"),
    pytest.param({"items": [], "timeout_ms": 0}, {"/timeout_ms": "must be greater than 0"}, id="timeout of zero"),
    pytest.param({"items": [], "timeout_ms": -1.5}, {"/timeout_ms": "must be greater than 0"}, id="negative timeout"),
    pytest.param({"items": [], "timeout_ms": True}, {"/timeout_ms": "must be a number"}, id="timeout as boolean"),
    pytest.param(
        {"items": [], "priority": "urgent"},
        {"/priority": "must be 'interactive', 'normal' or 'batch'"},
        id="another priority",
    ),
    pytest.param({"items": [], "deterministic": 1}, {"/deterministic": "must be true or false"}, id="1 for true"),
    pytest.param(
        {"items": [], "timeout_ms": float("inf")}, {"/timeout_ms": "must be a finite number"}, id="endless timeout"
    ),
    pytest.param({"items": [], "timeout_ms": 10**400}, {"/timeout_ms": "must be a number"}, id="huge integer"),
]


@pytest.mark.parametrize(("document", "expected"), SCORE_CASES)
def test_a_faulty_score_request_is_refused_with_pointers(document: Any, expected: dict[str, str]) -> None:
    assert faults(document) == expected


SIDES = "must have either text and images, or image and texts"
LABELLED = {"name": "a", "scorer": "a", "alpha": 0.5, "direction": "keep_good", "scores": [0.5], "labels": [True]}
COMBINE = {"reward": {"method": "sum", "terms": [{"scorer": "a"}]}}
OTHER_CASES = [
    pytest.param(schemas.RankRequest, {}, {"": SIDES}, id="rank nothing"),
    pytest.param(schemas.RankRequest, {"text": "a"}, {"": SIDES}, id="rank nothing for a text"),
    pytest.param(schemas.RankRequest, {"text": "a", "texts": ["b"]}, {"": SIDES}, id="rank texts for a text"),
    pytest.param(
        schemas.RankRequest,
        {"text": "a", "images": [], "image": B64, "texts": []},
        {"": SIDES},
        id="rank both ways",
    ),
    pytest.param(
        schemas.RankRequest,
        {"text": "a", "images": [B64], "top_k": 0},
        {"/top_k": "must be at least 1"},
        id="rank no places",
    ),
    pytest.param(
        schemas.RankRequest,
        {"text": "a", "images": ["key"]},
        {"/images/0": "must be an object"},
        id="rank by key",
    ),
    pytest.param(schemas.EmbedRequest, {}, {"": "must have exactly one of images, texts"}, id="embed nothing"),
    pytest.param(
        schemas.EmbedRequest,
        {"texts": [], "images": []},
        {"": "must have exactly one of images, texts"},
        id="embed both",
    ),
    pytest.param(
        schemas.EmbedRequest,
        {"texts": ["a"], "encoding": "hex"},
        {"/encoding": "must be 'float' or 'base64'"},
        id="embed in hex",
    ),
    pytest.param(schemas.FilterRequest, {"items": []}, {"/policy": "is required"}, id="filter without policy"),
    pytest.param(
        schemas.FilterRequest,
        {"items": [], "policy": {"all": []}},
        {"/policy/all": "must not be empty"},
        id="no policy",
    ),
    pytest.param(
        schemas.FilterRequest,
        {"items": [], "policy": {"any": []}},
        {"/policy/all": "is required", "/policy/any": "is not a known field"},
        id="another policy",
    ),
    pytest.param(
        schemas.FilterRequest,
        {"items": [], "policy": {"all": [{"scorer": "a"}]}},
        {"/policy/all/0": "must have min, max or both, or calibration alone"},
        id="threshold without bounds",
    ),
    pytest.param(
        schemas.FilterRequest,
        {"items": [{"group": 1}], "policy": {"all": [{"scorer": "a", "min": 0.5, "calibration": "launch"}]}},
        {"/items/0/group": "must be a string", "/policy/all/0": "must have min, max or both, or calibration alone"},
        id="calibration beside a bound",
    ),
    pytest.param(
        schemas.FilterRequest,
        {"items": [], "policy": {"all": [{"scorer": "a", "min": 1, "max": 1}, {"scorer": "a", "min": 1, "max": 0.5}]}},
        {"/policy/all/1": "must have a min that is not above its max"},
        id="bounds that no value is within",
    ),
    pytest.param(
        schemas.SelectRequest,
        {"text": "a", "images": [B64], "correlation": 2, "correlation_interval": [0.1], "temperature": 0, "seed": -1},
        {
            "/correlation": "must be at most 1",
            "/correlation_interval": "must have at least 2 entries",
            "/temperature": "must be greater than 0",
            "/seed": "must be at least 0",
        },
        id="selection of wrong values",
    ),
    pytest.param(
        schemas.CalibrationRequest,
        {
            "name": "A b",
            "scorer": "a",
            "alpha": 0,
            "direction": "keep",
            "scores": [],
            "labels": [1],
            "groups": ["x" * 129],
        },
        {
            "/name": "must match ^[a-z0-9][a-z0-9._-]{0,63}$",
            "/alpha": "must be at least 1e-06",
            "/direction": "must be 'keep_good' or 'reject_bad'",
            "/scores": "must not be empty",
            "/labels/0": "must be true or false",
            "/groups/0": "must have at most 128 characters",
        },
        id="calibration of wrong values",
    ),
    pytest.param(
        schemas.CalibrationRequest,
        LABELLED | {"combine": COMBINE},
        {"": "must have either scorer or combine"},
        id="calibration of a scorer and of a combination",
    ),
    pytest.param(
        schemas.CalibrationRequest,
        LABELLED | {"scorer": None, "combine": COMBINE | {"other": COMBINE["reward"]}},
        {"": "must have one combination in combine"},
        id="calibration of two combinations",
    ),
    pytest.param(
        schemas.CalibrationRequest,
        LABELLED | {"scorer": None},
        {"": "must have either scorer or combine"},
        id="calibration of nothing",
    ),
    pytest.param(
        schemas.FilterRequest,
        {"items": [], "policy": {"all": [{"scorer": "a", "min": "0.5"}]}, "explain": 1},
        {"/policy/all/0/min": "must be a number", "/explain": "must be true or false"},
        id="wrong types",
    ),
]


@pytest.mark.parametrize(("schema", "document", "expected"), OTHER_CASES)
def test_other_faulty_requests_are_refused_with_pointers(schema: Any, document: Any, expected: dict[str, str]) -> None:
    assert faults(document, schema) == expected


@pytest.mark.parametrize("name", ["items", "images"])
def test_more_than_the_limit_is_refused_before_it_is_read(name: str) -> None:
    entries = {str(i): 0 for i in range(4)} if name == "images" else [0] * 4
    with pytest.raises(TooManyItemsError) as caught:
        read_document({name: entries}, schemas.ScoreRequest, LIMITS)
    assert caught.value.detail == "The request has 4 items; at most 3 are allowed."


def test_a_refusal_lists_the_first_faults_only_and_echoes_no_long_name() -> None:
    listed = faults({"items": [], **{f"{i:03}" + "x" * 1000: 1 for i in range(100)}})
    assert len(listed) == 16
    assert max(map(len, listed)) == 120


def test_thousands_of_faults_are_counted_and_not_listed() -> None:
    with pytest.raises(InvalidFieldError) as caught:
        read_document({"items": [], **{str(i): 1 for i in range(5000)}}, schemas.ScoreRequest, LIMITS)
    assert caught.value.detail == "The request is not as the schema says: it is wrong in 5000 places."
    assert caught.value.facts["errors"] == []


def test_null_stands_for_a_field_that_is_not_given() -> None:
    body = read_document(
        {"items": [{"id": None, "image": None, "text": None}], "scorers": None, "timeout_ms": None},
        schemas.ScoreRequest,
        LIMITS,
    )
    assert body == read_document({"items": [{}]}, schemas.ScoreRequest, LIMITS)
