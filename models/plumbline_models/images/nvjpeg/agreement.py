"""Which JPEGs nvJPEG decodes in our place, and the comparison that it must pass before it does.

The two decoders round differently. Whoever rounds the inverse transform otherwise and interpolates chroma in floats is
at most 1 off a luma sample of libjpeg-turbo's and 1.5 off a chroma sample, which BT.601's factor of 1.772 makes 3.7 in
blue, and 4.7 where the sum is rounded otherwise too: less than `MAX_DIFFERENCE`. NVIDIA's own test of nvJPEG's
interpolation allows a mean of 1 (DALI, `test_image.py`, `test_fancy_upsampling`). Without interpolation, the default of
nvJPEG and of torchvision, colours differ by tens.
"""

import io
from collections.abc import Callable
from itertools import islice
from typing import Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL.Image import fromarray
from PIL.JpegImagePlugin import JpegImageFile

from plumbline_models.core.arrays import Pixels
from plumbline_models.images.file_checks import MAX_JPEG_SEGMENTS, jpeg_segments
from plumbline_models.images.nvjpeg.process import MAX_BATCH_PIXELS, Codec, JpegFile

MAX_DIFFERENCE: Final = 5
"""Of any sample of any pixel, of 255."""
MAX_MEAN_DIFFERENCE: Final = 1.0
"""Of all samples of an image."""

MIN_PIXELS: Final = 2**16
"""Smaller images are decoded in about the time that it takes to send them to another process."""
MAX_PIXELS: Final = MAX_BATCH_PIXELS // 2
"""Larger ones would take memory that the engines count on."""

_SAMPLINGS: Final = (
    ((1, 1, 1),),  # grey
    ((1, 1, 1), (2, 1, 1), (3, 1, 1)),
    ((1, 2, 1), (2, 1, 1), (3, 1, 1)),
    ((1, 2, 2), (2, 1, 1), (3, 1, 1)),
)
"""4:4:4, 4:2:2 and 4:2:0: the number of each component, and its samples across and down. Other numbers may mean RGB."""
_FRAMES: Final = frozenset({0xC0, 0xC2})
"""Baseline and progressive, with Huffman's code."""
_IN_SCANS: Final = frozenset({0xC4, 0xDA, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)})
"""Tables, scans, restarts, comments: what may follow a frame header."""
_START_OF_SCAN: Final = 0xDA
_MARK: Final = 0xFF
_END_OF_IMAGE: Final = 0xD9
_MAY_FOLLOW: Final = np.isin(np.arange(256), [0, *range(0xD0, 0xD8), *_IN_SCANS])
"""By the byte behind one of 255 in a scan."""
_YCBCR: Final = (None, 1)
"""What Adobe's segment may say of the colours: nothing, or YCbCr."""
_SIZE: Final = (275, 333)
"""Of the samples: odd, so that the last blocks are cut, and their chroma's last samples are of one pixel."""


def is_for_nvjpeg(data: bytes, header: JpegImageFile) -> bool:
    """Whether all decoders see the same in a file: the usual kinds, one frame, and no end before the last byte.

    Args:
        data: The file, whose segments were checked.
        header: Pillow's reading of its header.
    """
    components = tuple((number, across, down) for number, across, down, _ in header.layer)
    return (
        MIN_PIXELS <= header.width * header.height <= MAX_PIXELS
        and header.bits == 8  # noqa: PLR2004 - bits of a sample
        and components in _SAMPLINGS
        and header.info.get("adobe_transform") in _YCBCR
        and _has_one_frame(data)
    )


def _has_one_frame(data: bytes) -> bool:
    num_frames = 0
    for marker, start, _ in islice(jpeg_segments(data), MAX_JPEG_SEGMENTS):
        if marker == _START_OF_SCAN:
            return num_frames == 1 and _has_scans_only(np.frombuffer(data, np.uint8, offset=start))
        if marker in _FRAMES:
            num_frames += 1
        elif marker not in _IN_SCANS:
            return False
    return False


def _has_scans_only(rest: NDArray[np.uint8]) -> bool:
    """Whether each byte of 255 stands for itself or begins a table, a scan or a comment, up to the end at the end."""
    marks = np.flatnonzero(rest == _MARK)
    if marks[-1] != len(rest) - 2 or rest[-1] != _END_OF_IMAGE:
        return False
    return bool(_MAY_FOLLOW[rest[marks[:-1] + 1]].all())


def find_disagreement(decode: Codec) -> str | None:
    """Compare a decoder with libjpeg-turbo on JPEGs of every kind that it would be given.

    Args:
        decode: Decodes a batch.

    Returns:
        What is wrong with it; None: nothing.
    """
    samples = _samples()
    files = [JpegFile(data, *_SIZE) for data in samples.values()]
    together = decode(files)
    for (kind, data), pixels, file in zip(samples.items(), together, files, strict=True):
        if pixels is None:
            return f"it does not decode {kind}"
        off = np.abs(pixels.astype(np.int16) - simplejpeg.decode_jpeg(data))
        if off.max() > MAX_DIFFERENCE or off.mean() > MAX_MEAN_DIFFERENCE:
            return f"pixels of {kind} are off by {off.max()} of 255, {off.mean():.2f} on average"
        (alone,) = decode([file])
        if alone is None or not np.array_equal(alone, pixels):
            return f"pixels of {kind} depend on what else is decoded"
    return None


def _samples() -> dict[str, bytes]:
    """JPEGs of one image of strong colours, by what they are."""
    rng = np.random.default_rng(15)
    coarse = fromarray(rng.integers(0, 256, (22, 27, 3), dtype=np.uint8))
    noise = rng.integers(-12, 13, (*_SIZE, 3))
    image = np.clip(np.asarray(coarse.resize((_SIZE[1], _SIZE[0]))).astype(np.int16) + noise, 0, 255).astype(np.uint8)
    encode: Callable[..., bytes] = simplejpeg.encode_jpeg
    found = {f"4:{kind[1]}:{kind[2]}": encode(image, 90, "RGB", kind) for kind in ("444", "422", "420")}
    found["grey"] = encode(np.ascontiguousarray(image[..., :1]), 90, "GRAY", "Gray")
    for name, subsampling in (("progressive 4:4:4", 0), ("progressive 4:2:0", 2)):
        found[name] = _progressive(image, subsampling)
    return found


def _progressive(image: Pixels, subsampling: int) -> bytes:
    stream = io.BytesIO()
    fromarray(image).save(stream, "JPEG", quality=90, subsampling=subsampling, progressive=True)
    return stream.getvalue()
