"""A new configuration is compared with the one that runs, on fixed inputs, before it takes its place."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from loadtests.service.checked_load import CheckedLoad
from loadtests.service.faults import living
from tests.installed_package import installed, path_with
from tests.services import RunningService

pytestmark = pytest.mark.ray
MODULE = Path(__file__).with_name("leaning.py")
SPLIT = """\
replicas: {layout: split}
groups:
  clip: {scorers: [clipscore]}
  other: {scorers: [leaning]}
"""
REPLICAS = {"fused": "ray::ServeReplica:plumbline:Gateway", "split": "ray::ServeReplica:plumbline:other"}


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
    config = f"scorers: {{clipscore: {{}}, leaning: {{file: {lean}}}}}\n" + (SPLIT if layout == "split" else "")
    running = start(config, PYTHONPATH=path_with(site))
    with CheckedLoad(running.url, running.target) as load:
        load.wait_for(40)
        (before,) = living(running.process.pid, REPLICAS[layout])
        lean.write_text("0.01", encoding="utf-8")
        running.reconfigure(f"{config}batching: {{max_linger_ms: 5}}\n")
        running.wait_until_logged("the new configuration is refused, and the one before goes on")
        said = running.log.read_text(encoding="utf-8")
        assert "give other numbers on fixed inputs than those of the configuration before: leaning/image by" in said
        assert before in living(running.process.pid, REPLICAS[layout])
        assert 'plumbline_encoder_comparisons_total{model="leaning/image",verdict="differs"}' in metrics(running)
        lean.write_text("0", encoding="utf-8")
        running.reconfigure(f"{config}batching: {{max_linger_ms: 6}}\n")
        running.wait_until_logged("the new configuration answers callers")
        load.wait_for(60)
    assert (load.counts.wrong, load.counts.failed, load.counts.lost_in_full) == ([], {}, [])
    assert load.counts.retried == {}  # a caller without retries notices nothing either
    assert 'plumbline_encoder_comparisons_total{model="leaning/image",verdict="agrees"}' in metrics(running)


def metrics(service: RunningService) -> str:
    return httpx.get(f"{service.url}/metrics", timeout=60).text
