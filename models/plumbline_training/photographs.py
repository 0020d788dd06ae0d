"""The photographs bundled with scikit-image, by name; nothing is downloaded."""

from functools import cache
from pathlib import Path

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image

BACKDROPS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "rocket.jpg",
)
THUMBNAIL_PX = 32


@cache
def photograph(name: str) -> NDArray[np.uint8]:
    """One photograph, `[H, W, 3]` RGB uint8, as stored in scikit-image's wheel."""
    path = Path(skimage.data.__file__).parent / name
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@cache
def thumbnail(name: str) -> NDArray[np.float32]:
    """The same, squashed to 32 by 32 float32: enough to tell how bright a corner of it is."""
    size = (THUMBNAIL_PX, THUMBNAIL_PX)
    small = Image.fromarray(photograph(name)).resize(size, Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)
