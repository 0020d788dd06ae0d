"""The tiny CLIP-FlanT5 with the authors' numbers, its images, and checkpoints made of it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtests.goldens.vqascore import FLANT5, draw
from plumbline_models.core.arrays import Pixels
from plumbline_models.networks.flant5.checkpoint import FlanT5Checkpoint


@pytest.fixture(scope="session")
def tiny() -> Path:
    return FLANT5


@pytest.fixture(scope="session")
def golden(tiny: Path) -> dict[str, Any]:
    return json.loads((tiny / "golden.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def stages(tiny: Path) -> dict[str, np.ndarray]:
    with np.load(tiny / "intermediates.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def images(golden: dict[str, Any]) -> dict[str, Pixels]:
    """The golden images by name."""
    return {entry["name"]: draw(entry) for entry in golden["images"]}


@pytest.fixture(scope="session")
def checkpoint(tiny: Path) -> FlanT5Checkpoint:
    return FlanT5Checkpoint(str(tiny))


@pytest.fixture
def copied(tiny: Path, tmp_path: Path) -> Path:
    """The tiny checkpoint without its golden files, to be changed by a test."""
    folder = tmp_path / "copied"
    shutil.copytree(tiny, folder, ignore=shutil.ignore_patterns("golden.json", "*.npz"))
    return folder


@pytest.fixture
def edit_config(copied: Path) -> Callable[..., None]:
    """Set keys of the copied checkpoint's configuration."""

    def edit(**values: Any) -> None:
        file = copied / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **values}), encoding="utf-8")

    return edit
