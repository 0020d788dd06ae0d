"""Shares of CPU time, worked out from threads and samples made up here."""

import pytest

from loadtests.service.stages import INSIDE, StageSeconds, divide, show


def test_a_threads_time_is_divided_as_its_samples_are():
    found = divide({1: 9.0, 2: 1.0, 3: 0.5}, {1: {"decode": 2, "scorers": 1}, 2: {"decode": 7}})
    assert found == pytest.approx({"decode": 7.0, "scorers": 3.0, INSIDE: 0.5})


def test_no_time_is_lost_or_made_up():
    threads = {1: 3.25, 2: 0.75, 9: 1.5}
    assert divide(threads, {2: {"decode": 5, "checks": 6}}).total() == pytest.approx(sum(threads.values()))


def test_the_table_has_a_row_for_every_stage_of_any_load():
    found = {"one": StageSeconds(60.0, {"decode": 0.75, "scorers": 0.25}), "two": StageSeconds(8.5, {"checks": 1.0})}
    lines = show(found).splitlines()
    cells = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in lines[2:]}
    assert cells == {
        "decode": ["75.0%", "0.0%"],
        "scorers": ["25.0%", "0.0%"],
        "checks": ["0.0%", "100.0%"],
        "CPU ms an item": ["60.0", "8.5"],
    }
