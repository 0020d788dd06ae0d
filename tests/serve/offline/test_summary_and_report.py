"""What is said of scores: numbers that scipy gives too, and a page that loads nothing and believes nobody."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from plumbline_serve.offline.facts import RunFacts, ScorerFacts
from plumbline_serve.offline.outputs import Output, open_scored
from plumbline_serve.offline.progress import LineMeter, metered
from plumbline_serve.offline.readers import open_input
from plumbline_serve.offline.report import collect, page
from plumbline_serve.offline.report.collect import TagRate
from plumbline_serve.offline.report.markup import histogram, marked
from plumbline_serve.offline.report.thumbnails import Thumbnails
from plumbline_serve.offline.rows import Row, RowReading
from plumbline_serve.offline.runners.chunks import Scored
from plumbline_serve.offline.shards import ShardFolder
from plumbline_serve.offline.summary import QUANTILES, Sample, rank_correlation
from tests.services import encoded, picture

HOSTILE = '<script>alert("1")</script> & a red circle'
FACTS = RunFacts(
    scorers={
        "first": ScorerFacts(summary="one <b>", conventions={"scale": "<2>"}, weights={"e": "ab" * 32}),
        "second": ScorerFacts(higher_is_better=False),
    }
)


def test_every_value_counts_and_an_even_part_is_kept() -> None:
    values = np.random.default_rng(1).normal(size=1000)
    sample = Sample(["a", "b"], max_kept=256)
    for index, value in enumerate(values):
        sample.add({"a": value, "b": None if index % 2 else -value})
    first, second = sample.summaries()
    assert (first.num, second.num) == (1000, 500)
    assert first.mean == pytest.approx(values.mean())
    assert (first.low, first.high) == (values.min(), values.max())
    assert (second.low, second.high) == (-values[::2].max(), -values[::2].min())
    assert sample.stride == 4
    np.testing.assert_array_equal(sample.values[:, 0], values[::4])


def test_quantiles_are_those_of_all_values_where_all_are_kept() -> None:
    values = np.random.default_rng(2).normal(size=200)
    sample = Sample(["a"], max_kept=200)
    for value in values:
        sample.add({"a": value})
    assert sample.summaries()[0].quantiles == tuple(np.quantile(values, QUANTILES))


def test_nothing_has_neither_mean_nor_quantiles() -> None:
    sample = Sample(["a"])
    [none] = sample.summaries()
    assert none.num == 0
    assert np.isnan([none.mean, *none.quantiles]).all()


def test_the_correlation_is_spearmans() -> None:
    rng = np.random.default_rng(3)
    first = rng.integers(0, 5, 60).astype(float)
    second = first + rng.normal(size=60)
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first, second).statistic)
    first[:10] = np.nan
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first[10:], second[10:]).statistic)
    assert np.isnan(rank_correlation(np.ones(3), np.arange(3.0)))
    assert np.isnan(rank_correlation(np.array([]), np.array([])))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """An output of 20 rows, the images of which lie beside it; one row failed."""
    folder = ShardFolder(tmp_path / "out", FACTS, {})
    rows = []
    for number in range(20):
        (tmp_path / f"{number:02d}.png").write_bytes(encoded(picture(number), "PNG"))
        words = [{"text": "red", "start": HOSTILE.index("red"), "end": HOSTILE.index("red") + 3, "misaligned": True}]
        scores = {"first": {"value": number / 10, "words": words}, "second": {"value": (number - 9) ** 2}}
        rows.append(Scored(Row(number, f"{number:02d}.png", text=HOSTILE), {"status": "ok", "scores": scores}))
    failed = {"status": "error", "error": {"code": "image_undecodable", "detail": "No <image>."}}
    folder.write([*rows, Scored(Row(20, "x<y>.png"), failed)])
    Output.parse(tmp_path / "out").join(folder)
    return tmp_path


def test_the_best_and_the_worst_are_found_in_the_scorers_direction(written: Path) -> None:
    data = collect(open_scored(written / "out"), written / "out" / "failed.jsonl")
    first, second = data.extremes["first"], data.extremes["second"]
    assert [row.number for row in first.best] == [19, 18, 17, 16, 15, 14]
    assert [row.number for row in first.worst] == [0, 1, 2, 3, 4, 5]
    assert [row.number for row in second.best] == [9, 8, 10, 7, 11, 6]
    assert [row.number for row in second.worst][:3] == [19, 0, 18]
    assert (data.failures.num_rows, data.failures.by_code) == (1, {"image_undecodable": 1})


def test_the_page_needs_nothing_beside_it_and_takes_nobody_at_their_word(written: Path) -> None:
    data = collect(open_scored(written / "out"), written / "out" / "failed.jsonl")
    with Thumbnails() as thumbnails:
        pictures = thumbnails.of_rows(open_input(written, RowReading(written)), data.numbers)
    assert set(pictures) == data.numbers
    html = page(data, pictures)
    assert "default-src 'none'" in html
    assert not re.findall(r"""(?:src|href)=["'](?!data:image/jpeg;base64,)""", html)
    assert "url(" not in html
    assert "@import" not in html
    for hostile in ("<script", "No <image>", "x<y>", "one <b>", "<2>"):
        assert hostile not in html
    assert "a <mark>red</mark> circle" in html
    assert html.count("<svg") == 2
    assert "abababababab" in html
    assert "light-dark(" in html


def test_questions_are_counted_by_tag_over_all_rows_that_have_such(tmp_path: Path) -> None:
    """Element rates: what is missing is the mean share that failed, what is hallucinated the share of rows with any."""
    folder = ShardFolder(tmp_path / "out", FACTS, {})
    given = [{"colour": 1.0, HOSTILE: 0.0}, {"colour": 0.5}, {}, {"colour": 0.0, HOSTILE: 1.0}]
    scores = [{"first": {"value": 0.5, "rates": each}, "second": {"value": 1.0}} for each in given]
    folder.write([Scored(Row(n, f"{n}.png"), {"status": "ok", "scores": each}) for n, each in enumerate(scores)])
    Output.parse(tmp_path / "out").join(folder)
    data = collect(open_scored(tmp_path / "out"), tmp_path / "out" / "failed.jsonl")
    assert data.tags == {"first": [TagRate(HOSTILE, 2, 0.5, 0.5), TagRate("colour", 3, 0.5, 2 / 3)]}
    html = page(data, {})
    assert "<td>colour</td><td>3</td><td>50.0%</td><td>66.7%</td>" in html
    assert "<script" not in html
    assert html.count("By tag") == 1


def test_words_are_marked_where_they_stand() -> None:
    words = [
        {"start": 6, "end": 9, "misaligned": True},
        {"start": 0, "end": 1, "misaligned": True},
        {"start": 2, "end": 5, "misaligned": False},
        {"start": 7, "end": 8, "misaligned": True},  # within another
        {"start": 5, "end": 99, "misaligned": True},  # beyond the end
    ]
    assert marked("a red <b>", words) == "<mark>a</mark> red <mark>&lt;b&gt;</mark>"


def test_bars_are_of_finite_values() -> None:
    assert "No row" in histogram(np.array([np.nan]), "x")
    svg = histogram(np.array([1.0, 1.0, 2.0, np.nan, np.inf]), "x")
    assert svg.count("<rect") == 2


def test_lines_say_how_far_a_run_is() -> None:
    said: list[str] = []
    seconds = iter([0.0, 5.0, 10.0, 15.0, 25.0, 30.0])
    meter = LineMeter(10_000, 2000, write=said.append, clock=lambda: next(seconds))
    for _ in range(4):
        meter.advance(500, 1)
    meter.close()
    assert said == [
        "3,000 of 10,000 rows, 100.0/s, 1 min 10 s left, 2 failed",
        "4,000 of 10,000 rows, 80.0/s, 1 min 15 s left, 4 failed",
        "4,000 of 10,000 rows, 66.7/s, 1 min 30 s left, 4 failed",
    ]
    without_total = LineMeter(None, 0, write=said.append, clock=iter([0.0, 20.0]).__next__)
    without_total.advance(10, 0)
    assert said[-1] == "10 rows, 0.5/s"


@pytest.mark.parametrize("total", [10, None])
def test_a_terminal_gets_a_bar(total: int | None, monkeypatch, capsys) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # by which rich takes stderr for a terminal
    with metered(total, 2) as meter:
        meter.advance(3, 1)
    shown = capsys.readouterr().err
    assert ("5 of 10 rows" if total else "5 rows") in shown
    assert "1 failed" in shown


def test_what_is_no_terminal_gets_lines(capsys, monkeypatch) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with metered(10, 2) as meter:
        meter.advance(3, 0)
    shown = capsys.readouterr().err
    assert shown.startswith("5 of 10 rows")
    assert "\x1b" not in shown
