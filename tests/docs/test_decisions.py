"""The page about decisions: its example runs and keeps its promise, its requests are read, its table is computed."""

import json
import re
from pathlib import Path

import pytest

from plumbline_models.decisions.best_of_n import certified_gain, largest_certified_n
from plumbline_serve.edge import schemas
from plumbline_serve.edge.rest.requests import read_document
from plumbline_serve.settings import Limits
from tests.docs.pages import DOCS, blocks, text_of

PAGE = DOCS / "decisions.md"
EXAMPLE, CERTIFICATE = (block.text for block in blocks("python") if block.page == PAGE)
JSON = [json.loads(block.text) for block in blocks("json") if block.page == PAGE]


def test_the_example_runs_and_what_is_measured_is_what_was_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLUMBLINE_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("PLUMBLINE_STORE", f"sqlite:///{tmp_path}/store.db")
    monkeypatch.setenv("PLUMBLINE_LIMITS__MAX_ITEMS", "1000")
    exec(EXAMPLE, {})  # noqa: S102 - it is our page's
    promised, measured = capsys.readouterr().out.splitlines()
    coverage, low_point = map(float, re.findall(r"0\.\d+", promised))
    share, num_good, num_passed, num_bad = map(float, re.findall(r"[\d.]+(?= of| are|\Z)|(?<=of )\d+", measured))
    assert coverage >= 0.9
    assert share >= low_point
    assert num_good + num_bad == 1000
    assert num_passed < 0.1 * num_bad


@pytest.mark.parametrize(
    ("index", "schema"),
    [
        (0, schemas.CalibrationRequest),
        (2, schemas.FilterRequest),
        (3, schemas.CalibrationRequest),
        (4, schemas.FilterRequest),
        (5, schemas.SelectRequest),
    ],
)
def test_requests_are_as_the_schema_says(index: int, schema: type[schemas.Request]) -> None:
    read_document(JSON[index], schema, Limits())


@pytest.mark.parametrize(("index", "schema"), [(1, schemas.Calibration), (6, schemas.SelectReply)])
def test_replies_have_the_fields_of_the_schema(index: int, schema: type[schemas.Problem]) -> None:
    assert JSON[index].keys() <= schema.model_fields.keys()


def test_the_table_of_gains_is_computed() -> None:
    lines = re.findall(r"^\| (\d+) \|(.*)\|$", text_of(PAGE), re.MULTILINE)
    assert len(lines) == 5
    for n, gains in lines:
        shown = [float(each) for each in gains.split("|")]
        assert shown == [round(certified_gain(int(n), r), 2) for r in (0.3, 0.5, 0.7, 0.9)]


def test_the_selection_is_certified_as_shown() -> None:
    asked, replied = JSON[5], JSON[6]
    low = asked["correlation_interval"][0]
    assert replied["certified_gain"] == round(certified_gain(len(asked["images"]), low), 2)
    assert replied["max_certified_n"] == largest_certified_n(low)


def test_the_largest_n_is_recomputed_as_shown(capsys: pytest.CaptureFixture[str]) -> None:
    exec(CERTIFICATE, {})  # noqa: S102 - it is our page's
    shown = re.findall(r"^    (r = .*)$", text_of(PAGE), re.MULTILINE)
    assert capsys.readouterr().out.splitlines() == shown
    assert "5 gives 0.0165, 6 gives -0.0768" in shown[1]
