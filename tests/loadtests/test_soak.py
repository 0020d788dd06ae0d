"""How growth is told from noise, and whose memory is counted under which name."""

import subprocess
import sys

import pytest

from loadtests.service.memory import held_mib, process_name
from loadtests.service.soak import TOTAL, Sample, summarise

MINUTE_S = 60.0


def samples(mib_a_minute: float, wobble_mib: float, *, minutes: int = 30) -> list[Sample]:
    return [
        Sample(
            minute * MINUTE_S,
            10,
            {"gateway": 1000 + mib_a_minute * minute + wobble_mib * (minute % 3 - 1), "raylet": 20.0},
        )
        for minute in range(minutes)
    ]


def test_a_leak_shows_in_its_process_and_in_the_total() -> None:
    growth = summarise(samples(mib_a_minute=0.5, wobble_mib=2.0))["growth"]
    assert growth["gateway"]["mib_an_hour"] == pytest.approx(30, rel=0.1)
    assert growth[TOTAL]["low"] > 0
    assert growth["raylet"]["mib_an_hour"] == 0


def test_memory_that_only_wobbles_has_an_interval_around_zero() -> None:
    total = summarise(samples(mib_a_minute=0.0, wobble_mib=5.0))["growth"][TOTAL]
    assert total["low"] <= 0 <= total["high"]


def test_growth_of_the_first_minutes_is_not_held_against_a_service() -> None:
    warming = [Sample(second, 10, {"gateway": 100 + second}) for second in range(0, 300, 15)]
    steady = [Sample(second, 10, {"gateway": 1000.0}) for second in range(360, 1800, 15)]
    assert summarise(warming + steady)["growth"]["gateway"]["mib_an_hour"] == 0


def test_too_short_a_run_is_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        summarise(samples(0, 0, minutes=8))


@pytest.mark.parametrize(
    ("command", "name"),
    [
        pytest.param(["ray::ServeController.listen_for_change"], "ray::ServeController", id="an actor, not its method"),
        pytest.param(["/x/bin/python", "-u", "/y/dashboard.py", "--port=1"], "dashboard.py", id="a script"),
        pytest.param(["/x/python3.11", "-m", "plumbline_serve.cli", "serve"], "plumbline_serve.cli", id="a module"),
        pytest.param(["/ray/core/gcs_server", "--log_dir=/tmp"], "gcs_server", id="a program"),
    ],
)
def test_processes_are_named_by_what_they_are(command: list[str], name: str) -> None:
    assert process_name(command) == name


def test_memory_of_a_process_is_counted() -> None:
    program = "import sys; block = b'x' * 2**26 * int(sys.argv[1]); print(flush=True); sys.stdin.read()"
    held = []
    for num_blocks in (0, 1):
        command = [sys.executable, "-c", program, str(num_blocks)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            held.append(sum(held_mib(process.pid).values()))
            process.communicate()
    assert held[1] - held[0] == pytest.approx(64, abs=8)
