"""Machines that lack something: the service starts without it, says so, and its scores are the same."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from plumbline_client import Client, Image, Item
from plumbline_models.weights.embedded import embedded_folder
from plumbline_serve.cli.checks import MIN_DESCRIPTORS
from tests.services import RunningService, encoded, picture, start_service

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


@dataclass(frozen=True)
class Known:
    """A configuration whose engines are kept, since its weights are not those of the package, and what it gives."""

    config: str
    cache_dir: Path
    scores: dict[str, float | None]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    folder, cache_dir = tmp_path_factory.mktemp("known"), tmp_path_factory.mktemp("cache")
    embedded = embedded_folder("mini-clip")
    assert embedded is not None
    shutil.copytree(embedded, folder / "clip", ignore=shutil.ignore_patterns("graphs"))
    config = f"scorers: {{clipscore: {{checkpoint: {folder / 'clip'}}}}}\n"
    service = start_service(folder, config, PLUMBLINE_CACHE_DIR=str(cache_dir))
    scores = scores_of(service)
    assert service.terminate() == 0
    return Known(config, cache_dir, scores)


def mounted(*mounts: str) -> list[str]:
    """A command before another one, which sees these file systems."""
    return ["unshare", "--mount", "sh", "-ec", f'{"; ".join(f"mount {each}" for each in mounts)}; exec "$@"', "sh"]


def test_a_full_cache_no_shared_memory_and_few_open_files(
    start: Callable[..., RunningService], known: Known, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    mounts = mounted(f"-t tmpfs -o size=16k none {tmp_path / 'full'}", f"-t tmpfs -o size=1m none {SHARED_MEMORY}")
    limit = ["prlimit", f"--nofile=256:{MIN_DESCRIPTORS}"]
    service = start(known.config, within=[*mounts, *limit], PLUMBLINE_CACHE_DIR=str(tmp_path / "full"))
    assert scores_of(service) == known.scores
    assert "The engine cache cannot be written" in service.log.read_text(encoding="utf-8")


def test_a_cache_that_is_read_only(start: Callable[..., RunningService], known: Known, tmp_path: Path) -> None:
    (tmp_path / "read-only").mkdir()
    service = start(
        known.config,
        within=mounted(f"-t tmpfs -o ro none {tmp_path / 'read-only'}"),
        PLUMBLINE_CACHE_DIR=str(tmp_path / "read-only"),
    )
    assert scores_of(service) == known.scores


def test_a_cache_whose_every_file_lost_its_middle(start: Callable[..., RunningService], known: Known) -> None:
    files = [path for path in known.cache_dir.rglob("*") if path.is_file() and path.stat().st_size]
    assert files
    for path in files:
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            file.write(b"\xa5")
    service = start(known.config, PLUMBLINE_CACHE_DIR=str(known.cache_dir))
    assert scores_of(service) == known.scores
    assert "Removing a stored engine" in service.log.read_text(encoding="utf-8")
