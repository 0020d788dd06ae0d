"""The README's request is sent, and its reply is the true one; its tables list what there is."""

import json
import re
import shlex

import pytest

from plumbline_models.scorers import SCORERS
from plumbline_wire.v1 import scoring_pb2
from tests.docs.pages import README, ROOT, Block, blocks, text_of

TOLERANCE = 1e-4  # the README shows five digits
(REPLY,) = (block for block in blocks("json") if block.page == README)
(CURL,) = (block for block in blocks("sh") if block.page == README and "curl" in block.text)


def same_shape(shown, true, place="") -> None:
    """Whether both have the same members in the same order, equal texts, and numbers that differ by little."""
    assert type(shown) is type(true), place
    if isinstance(true, dict):
        assert list(shown) == list(true), place
        for key in true:
            same_shape(shown[key], true[key], f"{place}/{key}")
    elif isinstance(true, list):
        assert len(shown) == len(true), place
        for index, each in enumerate(true):
            same_shape(shown[index], each, f"{place}/{index}")
    elif isinstance(true, float):
        assert shown == pytest.approx(true, abs=TOLERANCE), place
    else:
        assert shown == true, place


def test_the_request_has_the_reply_that_is_shown(served):
    words = shlex.split(CURL.text.replace("\\\n", " "))
    parts = dict(words[index + 1].split("=", 1) for index, word in enumerate(words) if word == "-F")
    files = {
        part: ((ROOT / value[1:]).read_bytes() if value.startswith("@") else (None, value))
        for part, value in parts.items()
    }
    (address,) = (word for word in words if word.startswith("localhost"))
    response = served.request("POST", address.removeprefix("localhost:8000"), files=files)
    true, shown = response.json(), json.loads(REPLY.text)
    for part in ("request_id", "timing_ms"):  # of one run
        assert type(shown.pop(part)) is type(true.pop(part))
    same_shape(shown, true)


def test_the_first_screen_is_a_sentence_two_commands_and_a_request():
    lines = text_of(README).splitlines()
    head = "\n".join(lines[:40])
    assert all(part in head for part in ("make demo", "make test", "curl", '"results"'))


def test_every_scorer_has_a_row_and_no_other(served):
    table = text_of(README).partition("## Scorers")[2].partition("## ")[0]
    listed = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert listed == [scorer.info.name for scorer in SCORERS]
    assert {scorer.info.name for scorer in SCORERS if scorer.info.has_embedded_weights} == set(served.assembly.scorers)
    assert len(served.assembly.scorers) == 4  # as the sentence below the table says


def test_every_route_and_every_method_has_a_row_and_no_other(served):
    document = served.request("GET", "/openapi.json").json()
    routes = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    beside = ("/openapi.json", "/docs", "/")
    assert all(served.request("GET", path).is_success for path in beside)
    routes |= {f"GET {path}" for path in beside}
    table = text_of(README).partition("## API")[2].partition("## ")[0]
    spans = re.findall(r"`([^`]+)`", table)
    assert {each for each in spans if re.match(r"[A-Z]+ /", each)} == routes
    methods = {method.name for method in scoring_pb2.DESCRIPTOR.services_by_name["Scoring"].methods}
    assert {each for each in spans if re.fullmatch(r"[A-Z][A-Za-z]+", each)} == methods


@pytest.mark.parametrize("block", [each for each in blocks("json") if each is not REPLY], ids=str)
def test_json_is_json(block: Block):
    json.loads(block.text)
