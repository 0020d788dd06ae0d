"""Folders of images to calibrate with."""

from pathlib import Path

import numpy as np
from PIL import Image


def draw_calibration_images(folder: Path, num_images: int, *, seed: int = 0) -> Path:
    """Smooth fields of colour, all different, as PNG files."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(num_images):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        coarse.resize((48, 48), Image.Resampling.BICUBIC).save(folder / f"{number:03}.png")
    return folder
