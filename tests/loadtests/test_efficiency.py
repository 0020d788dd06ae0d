"""Efficiency: ratios of wires to engines, cells that are left out, and the table."""

import pytest

from loadtests.service.efficiency import GRID, Cell, ratios, summarise, why_refused, why_too_long
from loadtests.service.report import table
from plumbline_serve.settings import Settings

SERVED = "served"


def test_summaries_are_medians_of_rates_and_costs():
    found = summarise([(0.1, 0.02), (0.05, 0.04), (0.2, 0.03)])  # seconds of clock and CPU an item
    assert (found["items_a_second"], found["cpu_ms"]) == (pytest.approx(10.0), pytest.approx(30.0))
    assert found["rounds_items_a_second"] == pytest.approx([10.0, 20.0, 5.0])


def test_ratios_above_one_are_faster():
    measured = {
        "engines": {"items_a_second": 40.0, "cpu_ms": 45.0},
        "rest": {"items_a_second": 32.0, "cpu_ms": 50.0},
        "grpc": {"items_a_second": 36.0, "cpu_ms": 48.0},
    }
    assert ratios(measured) == {
        "rest": {"rate": 0.8, "cpu": 0.9},
        "grpc": {"rate": 0.9, "cpu": 45 / 48},
        "grpc_over_rest": {"rate": 1.125, "cpu": 50 / 48},
    }


def test_the_grid_is_what_it_says():
    assert len(GRID) == 16
    assert (Cell(1, 1), Cell(64, 256)) == (min(GRID), max(GRID))


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        pytest.param(Cell(64, 16), SERVED, id="within all bounds"),
        pytest.param(Cell(64, 64), SERVED, id="as many as may wait"),
        pytest.param(Cell(64, 65), "4160 items in flight, of which 4096 may wait", id="too many wait"),
        pytest.param(Cell(257, 1), "256 items (limits.max_items)", id="too many in one request"),
    ],
)
def test_cells_that_the_service_would_refuse_are_left_out(cell, reason):
    assert reason in (why_refused(cell, Settings()) or SERVED)


def test_cells_that_take_longer_than_is_left_are_left_out():
    assert why_too_long(Cell(8, 64), takes_s=30.0, left_s=31.0) is None
    assert (
        why_too_long(Cell(8, 64), takes_s=31.0, left_s=30.0)
        == "512 items in flight take 31 s or more, and 30 s are left"
    )
    assert "0 s are left" in (why_too_long(Cell(1, 1), takes_s=1.0, left_s=-5.0) or "")


@pytest.mark.parametrize(
    ("cell", "num_requests"),
    [
        pytest.param(Cell(1, 16), 64, id="as many as make the items"),
        pytest.param(Cell(1, 256), 256, id="one per client at least"),
        pytest.param(Cell(32, 1), 2, id="several items each"),
        pytest.param(Cell(48, 1), 2, id="never fewer items"),
    ],
)
def test_a_round_has_enough_requests(cell, num_requests):
    assert cell.num_requests(64) == num_requests


def test_a_table_is_markdown_and_reads_in_a_terminal():
    assert table(["a", "long"], [["wide cell", "1"]]) == (
        "| a         | long |\n| --------- | ---- |\n| wide cell | 1    |"
    )
    assert table(["a"], []) == "| a |\n| - |"
