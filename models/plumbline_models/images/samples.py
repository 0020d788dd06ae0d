"""Samples that Pillow reads wrongly without saying so: put right where that is exact, refused where it is not.

What Pillow 13 does, found by writing every kind of sample and reading it back:

- a PNG's transparent grey of 2 or 4 bits is compared with samples that were scaled to 8 bits, and a transparent 16-bit
  colour with samples cut to 8 bits: other pixels become clear, or none;
- a TIFF of 12 bits is read as one of 16, so that white is nearly black; one of 16 whose white is zero as a negative;
- a TIFF of signed bytes is read as unsigned ones; of 16-bit samples in separate planes, without compression, each byte
  is taken for a sample.
"""

from dataclasses import dataclass
from typing import Literal

from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from plumbline_models.core.errors import ImageUndecodableError

_BITS_PER_SAMPLE, _COMPRESSION, _PHOTOMETRIC, _PLANES, _SAMPLE_FORMAT = 258, 259, 262, 284, 339
_WHITE_IS_ZERO = 0
_UNCOMPRESSED = 1
_SEPARATE = 2
_UNSIGNED = 1
_BYTE = 8
_STEPS = {"L;2": 85, "L;4": 17}  # from a sample of few bits to eight, by Pillow's name of the layout


@dataclass(frozen=True, slots=True)
class Grey16:
    """How samples of mode `I;16` are to be read."""

    num_bits: int = 16
    white_is_zero: bool = False


def correct_samples(image: ImageFile, *, alpha: Literal["white", "drop"]) -> Grey16:
    """Put right what Pillow would read wrongly; before the image is loaded.

    Args:
        image: Its header is read; its `info` may be changed.
        alpha: As in the policy; whether a transparent colour counts.

    Returns:
        How its samples are to be read, if it turns out to be 16-bit grey.

    Raises:
        ImageUndecodableError: The samples would be read wrongly.
    """
    if isinstance(image, PngImageFile):
        _correct_clear_colour(image, is_on_white=alpha == "white")
    if isinstance(image, TiffImageFile):
        return _check_tiff(image)
    return Grey16()


def _correct_clear_colour(image: PngImageFile, *, is_on_white: bool) -> None:
    layout = image.tile[0].args if image.tile else None
    clear = image.info.get("transparency")
    if isinstance(clear, int) and isinstance(layout, str) and layout in _STEPS:
        image.info["transparency"] = clear * _STEPS[layout]
    if isinstance(clear, tuple) and layout == "RGB;16B" and is_on_white:
        raise ImageUndecodableError("PNGs of 16-bit colour with one transparent colour are not read.")


def _check_tiff(image: TiffImageFile) -> Grey16:
    tags = image.tag_v2
    bits = _first(tags.get(_BITS_PER_SAMPLE), 1)
    if image.mode != "F" and _first(tags.get(_SAMPLE_FORMAT), _UNSIGNED) != _UNSIGNED:
        raise ImageUndecodableError("TIFFs of signed samples are not read: their range is not agreed on.")
    is_raw = tags.get(_COMPRESSION, _UNCOMPRESSED) == _UNCOMPRESSED
    if bits > _BYTE and is_raw and tags.get(_PLANES) == _SEPARATE:
        raise ImageUndecodableError("TIFFs of 16-bit samples in separate planes are read only if compressed.")
    white_is_zero = image.mode.startswith("I;16") and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    return Grey16(bits if image.mode.startswith("I;16") else 16, white_is_zero=white_is_zero)


def _first(value: object, default: int) -> int:
    first = value[0] if isinstance(value, tuple) and value else value
    return first if isinstance(first, int) else default
