"""Machines that lack something: the service starts without it, says so, and its scores are the same."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from plumbline_client import Client, Image, Item
from plumbline_serve.cli.checks import MIN_DESCRIPTORS
from tests.services import RunningService, encoded, picture

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts file systems, in a namespace of their own"),
]
SHARED_MEMORY = "/dev/shm"  # noqa: S108


def scores_of(service: RunningService) -> dict[str, float | None]:
    item = Item(image=Image.data(encoded(picture(3), "PNG")), text="a red circle")
    with Client(service.url, timeout_ms=120_000) as client:
        (result,) = client.score([item]).results
    return {name: score.value for name, score in result.scores.items()}


@pytest.fixture(scope="module")
def expected(fused: RunningService) -> dict[str, float | None]:
    return scores_of(fused)


def mounted(*mounts: str) -> list[str]:
    """A command before another one, which sees these file systems."""
    return ["unshare", "--mount", "sh", "-ec", f'{"; ".join(f"mount {each}" for each in mounts)}; exec "$@"', "sh"]


def test_a_full_cache_no_shared_memory_and_few_open_files(
    start: Callable[..., RunningService], expected: dict[str, float | None], tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    mounts = mounted(f"-t tmpfs -o size=16k none {tmp_path / 'full'}", f"-t tmpfs -o size=1m none {SHARED_MEMORY}")
    limit = ["prlimit", f"--nofile=256:{MIN_DESCRIPTORS}"]
    service = start(within=[*mounts, *limit], PLUMBLINE_CACHE_DIR=str(tmp_path / "full"))
    assert scores_of(service) == pytest.approx(expected, abs=0)
    assert "The engine cache cannot be written" in service.log.read_text(encoding="utf-8")


def test_a_cache_that_is_read_only(
    start: Callable[..., RunningService], expected: dict[str, float | None], tmp_path: Path
) -> None:
    (tmp_path / "read-only").mkdir()
    service = start(
        within=mounted(f"-t tmpfs -o ro none {tmp_path / 'read-only'}"), PLUMBLINE_CACHE_DIR=str(tmp_path / "read-only")
    )
    assert scores_of(service) == pytest.approx(expected, abs=0)


def test_a_cache_whose_every_file_lost_its_middle(
    start: Callable[..., RunningService], expected: dict[str, float | None], engine_cache: str
) -> None:
    files = [path for path in Path(engine_cache).rglob("*") if path.is_file() and path.stat().st_size]
    assert files
    for path in files:
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            file.write(b"\xa5")
    service = start()
    assert scores_of(service) == pytest.approx(expected, abs=0)
    assert "Removing a stored engine" in service.log.read_text(encoding="utf-8")
