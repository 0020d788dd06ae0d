"""What a report of faults says of a run whose answers are known."""

import pytest

from loadtests.service.checked_load import Counts, away_s, kind_of, rate_per_s
from loadtests.service.fault_soak import FAULTS, Report, Struck, markdown
from loadtests.service.faults import ENDING, HEALING, Fault
from plumbline_client import CapacityError, ConnectError, Problem

EVERY_S = 0.1


def answers(*stretches: tuple[float, float]) -> list[float]:
    """Ten answers per second between each two moments."""
    return [begin + EVERY_S * i for begin, end in stretches for i in range(round((end - begin) / EVERY_S))]


def test_an_outage_lasts_until_half_of_the_rate_is_back() -> None:
    assert away_s(answers((0, 20), (27, 40)), 20.0, before_s=10.0) == 7.0


def test_a_fault_that_nobody_notices_lasts_no_time() -> None:
    assert away_s(answers((0, 40)), 20.0, before_s=10.0) == 0.0
    assert rate_per_s(answers((0, 40)), 10.0, 20.0) == pytest.approx(10, abs=0.2)


def test_every_fault_of_either_kind_takes_its_turn() -> None:
    assert set(FAULTS) == {*HEALING, *ENDING}


def test_the_report_names_faults_causes_errors_and_what_was_lost() -> None:
    found = Report(minutes=1.0)
    found.counts = Counts(answered_at=answers((0, 20), (27, 40)))
    found.counts.retried["not_ready"] = 12
    found.counts.lost["ConnectError: gone"] = 1
    found.struck = [Struck(Fault("raylet"), 10.0, 20.0, "The service ends: it does.")]
    found.held_mib = [{"gateway": 100.0}, {"gateway": 110.0}]
    text = markdown(found)
    for words in ("0 wrong, 1 lost", "SIGKILL of raylet", "| 7 ", "it does.", "not_ready", "12", "110"):
        assert words in text


def test_errors_of_all_addresses_are_of_one_kind() -> None:
    detail = "was not reached: refused"
    kinds = {kind_of(ConnectError(f"{address} {detail}")) for address in ("http://127.0.0.1:8000", "127.0.0.1:9000")}
    assert kinds == {f"ConnectError: {detail}"}
    assert kind_of(CapacityError(Problem(status=503, code="not_ready"))) == "not_ready"
