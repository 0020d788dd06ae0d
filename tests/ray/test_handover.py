"""A new configuration is compared with the one that runs, on fixed inputs, before it takes its place."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from loadtests.service.checked_load import CheckedLoad
from loadtests.service.faults import living
from tests.installed_package import installed, path_with
from tests.services import LOG_TIMEOUT_S, RunningService

pytestmark = pytest.mark.ray
MODULE = Path(__file__).with_name("leaning.py")
SPLIT = """\
replicas: {layout: split}
groups:
  clip: {scorers: [clipscore]}
  other: {scorers: [leaning]}
"""
REPLICAS = {
    "fused": "ray::ServeReplica:plumbline:Gateway",
    "split": "ray::ServeReplica:plumbline:other",
    "split, renamed": "ray::ServeReplica:plumbline:other",
}


@pytest.fixture
def lean(tmp_path: Path) -> Path:
    """The file that says by how much the encoder leans."""
    file = tmp_path / "lean"
    file.write_text("0", encoding="utf-8")
    return file


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The scorer's package."""
    return installed(tmp_path, MODULE, {"leaning": "leaning:Leaning"})


@pytest.mark.parametrize("layout", REPLICAS)
def test_encoders_that_give_other_numbers_are_refused_and_no_request_fails(
    start: Callable[..., RunningService], site: Path, lean: Path, layout: str
) -> None:
    config = f"scorers: {{clipscore: {{}}, leaning: {{file: {lean}}}}}\n" + ("" if layout == "fused" else SPLIT)
    changed = config.replace("other:", "another:") if layout == "split, renamed" else config
    running = start(config, PYTHONPATH=path_with(site))
    with CheckedLoad(running.url, running.target) as load:
        load.wait_for(40)
        (before,) = living(running.process.pid, REPLICAS[layout])
        lean.write_text("0.01", encoding="utf-8")
        running.reconfigure(f"{changed}batching: {{max_linger_ms: 5}}\n")
        running.wait_until_logged("the new configuration is refused, and the one before goes on")
        said = running.log.read_text(encoding="utf-8")
        assert "give other numbers on fixed inputs than those of the configuration before: leaning/image by" in said
        assert before in living(running.process.pid, REPLICAS[layout])
        assert 'plumbline_encoder_comparisons_total{model="leaning/image",verdict="differs"}' in metrics(running)
        lean.write_text("0", encoding="utf-8")
        running.reconfigure(f"{changed}batching: {{max_linger_ms: 6}}\n")
        running.wait_until_logged("the new configuration answers callers")
        load.wait_for(60)
    assert (load.counts.wrong, load.counts.failed, load.counts.lost_in_full) == ([], {}, [])
    assert load.counts.retried == {}  # a caller without retries notices nothing either
    assert 'plumbline_encoder_comparisons_total{model="leaning/image",verdict="agrees"}' in metrics(running)


PLACES = (
    "replicas: {layout: split}\ngroups: {a: {scorers: [qualiclip]}, b: {scorers: [clipscore]}}\n",
    "replicas: {layout: split}\n",
    "",
)
"""Groups of another content, a group of another name, and no group."""


def test_scorers_move_between_groups_and_no_attempt_fails(start: Callable[..., RunningService]) -> None:
    scorers = "scorers: {clipscore: {}, qualiclip: {}}\n"
    groups = "groups: {a: {scorers: [clipscore]}, b: {scorers: [qualiclip]}}\n"
    running = start(f"{scorers}replicas: {{layout: split}}\n{groups}")
    with CheckedLoad(running.url, running.target) as load:
        load.wait_for(20)
        for number, place in enumerate(PLACES, start=1):
            running.reconfigure(scorers + place)
            running.wait_until_logged("the new configuration answers callers", times=number)
            load.wait_for(40)
        counts = load.counts
    assert (counts.wrong, counts.failed, counts.lost_in_full, counts.retried) == ([], {}, [], {})
    compared = running.log.read_text(encoding="utf-8").count("compared with the configuration before: 3 encoders agree")
    assert compared == len(PLACES) - 1  # by the group and by the gateway that hold all three
    (gateway,) = living(running.process.pid, REPLICAS["fused"])
    os.kill(gateway, signal.SIGKILL)
    wait_until_ready(running)  # it asks nobody of groups that have ended


def wait_until_ready(service: RunningService) -> None:
    for _ in range(LOG_TIMEOUT_S // 3):
        with suppress(httpx.TransportError):
            if httpx.get(f"{service.url}/readyz", timeout=60).status_code == httpx.codes.OK:
                return
        time.sleep(0.5)
    raise AssertionError(service.log.read_text(encoding="utf-8")[-4000:])


def metrics(service: RunningService) -> str:
    return httpx.get(f"{service.url}/metrics", timeout=60).text
