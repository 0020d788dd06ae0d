"""Pixels of a JPEG by libjpeg-turbo straight into an array, where that gives Pillow's pixels.

Pillow decodes with the same library, but row by row, into four bytes a pixel, and copies them out as three. simplejpeg
fills the array in one call, in half the time (`loadtests/engine/decoding.py`). It is asked for what it surely does
alike: grey and three-channel files of which the library complains in no way. All others remain Pillow's, so what is
accepted, refused and seen does not depend on who decodes.
"""

import numpy as np
import simplejpeg
from PIL.JpegImagePlugin import JpegImageFile

from plumbline_models.core.arrays import Pixels

_MODES = frozenset({"L", "RGB"})  # CMYK is converted by rounding of Pillow's own


def read_jpeg(data: bytes, header: JpegImageFile) -> Pixels | None:
    """Decode a whole JPEG; without the interpreter lock.

    Args:
        data: The file.
        header: Pillow's reading of its header; its size has been held against the limits.

    Returns:
        `[H, W, 3]`, as stored; None where the file is to be read by Pillow, which may refuse it.
    """
    if header.mode not in _MODES:
        return None
    # Allocated here, by the size that was checked: libjpeg reads the header again, and might see another.
    pixels = np.empty((header.height, header.width, 3), dtype=np.uint8)
    try:
        decoded = simplejpeg.decode_jpeg(data, buffer=pixels, strict=True)
    except ValueError:  # damaged, cut short, twelve bits, an odd subsampling
        return None
    return pixels if decoded.shape == pixels.shape else None
