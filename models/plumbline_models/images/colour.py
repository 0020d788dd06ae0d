"""Any Pillow image to RGB bytes.

No colour management: an embedded profile is ignored, as by the papers' own programs. All modes are converted as
Pillow's `convert("RGB")` does, with one exception. Pillow clips 16-bit grey at 255, which makes nearly all of it
white; here such samples keep their upper eight bits (`>> 8`), as Pillow itself does for 16-bit colour.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.errors import ImageUndecodableError

_WHITE = 255
_MAX_16_BIT = 65535
_MAX_PIXELS_AT_ONCE = 8 * 10**6  # above, bands are faster, and need half the memory
_BAND_PIXELS = 2**18


def to_pixels(image: Image.Image, *, alpha: Literal["white", "drop"]) -> Pixels:
    """Convert a loaded image.

    Args:
        image: In any mode. Its `info` may be changed.
        alpha: `white` composites transparency on white, each sample rounded to the nearest; `drop` keeps the
            colour that lies under it.

    Returns:
        `[H, W, 3]`; not writeable where Pillow's bytes are used as they are.

    Raises:
        ImageUndecodableError: The samples have no agreed range (floating point, or beyond 16 bits).
    """
    width, height = image.size
    if width * height <= _MAX_PIXELS_AT_ONCE:
        return _convert(image, alpha=alpha)
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    num_rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, num_rows):
        bottom = min(top + num_rows, height)
        pixels[top:bottom] = _convert(image.crop((0, top, width, bottom)), alpha=alpha)
    return pixels


def _convert(image: Image.Image, *, alpha: Literal["white", "drop"]) -> Pixels:
    if image.mode == "F":
        raise ImageUndecodableError("Images of floating-point samples are not supported.", mode=image.mode)
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _grey16_to_pixels(image, is_on_white=alpha == "white")
    if alpha == "white" and image.has_transparency_data:
        return np.asarray(_on_white(image))
    image.info.pop("transparency", None)  # else Pillow works out what becomes of it, and may warn
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _on_white(image: Image.Image) -> Image.Image:
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    alpha = rgba.getchannel("A")
    if alpha.getextrema() == (_WHITE, _WHITE):
        return rgba.convert("RGB")
    canvas = Image.new("RGB", rgba.size, (_WHITE, _WHITE, _WHITE))
    canvas.paste(rgba, mask=alpha)
    return canvas


def _grey16_to_pixels(image: Image.Image, *, is_on_white: bool) -> Pixels:
    samples: NDArray[np.integer] = np.asarray(image)
    if image.mode == "I" and (samples.min() < 0 or samples.max() > _MAX_16_BIT):
        raise ImageUndecodableError("Grey samples beyond 16 bits are not supported.", mode=image.mode)
    grey = (samples >> 8).astype(np.uint8)
    transparent = image.info.get("transparency")
    if is_on_white and isinstance(transparent, int):
        grey[samples == transparent] = _WHITE
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)
