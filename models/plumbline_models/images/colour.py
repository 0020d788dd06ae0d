"""Any Pillow image to RGB bytes.

No colour management: an embedded profile is ignored, as by the papers' own programs. All modes are converted as
Pillow's `convert("RGB")` does, with one exception. Pillow clips 16-bit grey at 255, which makes nearly all of it
white; here such samples keep their upper eight bits (`>> 8`), as Pillow itself does for 16-bit colour.
Samples whose range nobody can know are refused: of 0.0 to 1.0, 0 to 255 or 0 to 65535, a guess would score black or
white.
"""

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.errors import ImageUndecodableError
from plumbline_models.images.samples import Grey16

_WHITE = 255
_MAX_PIXELS_AT_ONCE = 8 * 10**6  # above, bands are faster, and need half the memory
_BAND_PIXELS = 2**18


READ_MODES: Final = {
    "1": "black and white",
    "L": "grey",
    "LA": "grey with transparency",
    "La": "grey with transparency, multiplied by it",
    "I;16": "16-bit grey: the upper 8 bits count",
    "P": "palette, entries may be transparent",
    "PA": "palette with transparency",
    "RGB": "colour; of 16 bits the upper 8 count",
    "RGBA": "colour with transparency",
    "CMYK": "print colour, without its profile",
    "YCbCr": "luma and chroma",
    "LAB": "CIELAB, seen under D50",
}
"""Pillow's modes that are read, and what they hold; the table in docs/images.md is this one."""
REFUSED_MODES: Final = {
    "I": "Samples of 32 bits, or signed ones, are not supported: their range is not agreed on.",
    "F": "Images of floating-point samples are not supported: their range is not agreed on.",
}
"""Pillow's modes that files come in and that are refused, with the reason."""
_AS_WRITTEN: Final = Grey16()
_GREY_16: Final = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})


def to_pixels(image: Image.Image, *, alpha: Literal["white", "drop"], grey16: Grey16 = _AS_WRITTEN) -> Pixels:
    """Convert a loaded image.

    Args:
        image: In any mode. Its `info` may be changed.
        alpha: `white` composites transparency on white, each sample rounded to the nearest; `drop` keeps the
            colour that lies under it.
        grey16: How the samples are to be read, if they are 16-bit grey.

    Returns:
        `[H, W, 3]`; not writeable where Pillow's bytes are used as they are.

    Raises:
        ImageUndecodableError: The mode is not one of `READ_MODES`: floating point, 32 bits.
    """
    width, height = image.size
    if width * height <= _MAX_PIXELS_AT_ONCE:
        return _convert(image, alpha=alpha, grey16=grey16)
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    num_rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, num_rows):
        bottom = min(top + num_rows, height)
        pixels[top:bottom] = _convert(image.crop((0, top, width, bottom)), alpha=alpha, grey16=grey16)
    return pixels


def _convert(image: Image.Image, *, alpha: Literal["white", "drop"], grey16: Grey16) -> Pixels:
    if image.mode in _GREY_16:
        return _grey16_to_pixels(image, is_on_white=alpha == "white", grey16=grey16)
    if image.mode not in READ_MODES:
        reason = REFUSED_MODES.get(image.mode, "Images of this kind are not supported.")
        raise ImageUndecodableError(reason, mode=image.mode)
    if image.mode == "La":
        image = image.convert("LA")
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


def _grey16_to_pixels(image: Image.Image, *, is_on_white: bool, grey16: Grey16) -> Pixels:
    samples: NDArray[np.integer] = np.asarray(image)
    grey = (samples >> (grey16.num_bits - 8)).astype(np.uint8)
    if grey16.white_is_zero:
        grey = _WHITE - grey
    transparent = image.info.get("transparency")
    if is_on_white and isinstance(transparent, int):
        grey[samples == transparent] = _WHITE
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)
