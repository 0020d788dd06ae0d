"""The tiny CLIP-FlanT5 with the authors' numbers, its images, and checkpoints made of it."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image

from plumbline_models.core.arrays import Pixels
from plumbline_models.networks.flant5.checkpoint import FlanT5Checkpoint

sys.path.append(str(Path(__file__).parent))  # for causal_golden, which tests of the causal families import

TINY = Path(__file__).parents[2] / "golden" / "vqascore" / "clip_flant5_tiny"


@pytest.fixture(scope="session")
def tiny() -> Path:
    return TINY


@pytest.fixture(scope="session")
def golden(tiny: Path) -> dict[str, Any]:
    return json.loads((tiny / "golden.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def stages(tiny: Path) -> dict[str, np.ndarray]:
    with np.load(tiny / "intermediates.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def images(golden: dict[str, Any]) -> dict[str, Pixels]:
    """The golden images by name, as RGB; transparency is dropped and not composited, as the authors do."""
    return {entry["name"]: _make(entry) for entry in golden["images"]}


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


def _make(entry: dict[str, Any]) -> Pixels:
    if entry["source"] == "gradient":
        height, width = entry["hw"]
        row, column = np.mgrid[:height, :width]
        planes = (column * 255 // (width - 1), row * 255 // (height - 1), (column + row) * 7 % 256)
        pixels = np.stack(planes, axis=-1).astype(np.uint8)
    else:
        pixels = getattr(skimage.data, entry["source"].removeprefix("skimage:"))()
    for operation in entry.get("ops", ()):
        pixels = {"transpose": lambda p: p.swapaxes(0, 1), "flip_lr": lambda p: p[:, ::-1]}[operation](pixels)
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB"))
