"""One small image, a ramp, in every format that is read."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from plumbline_models.core.arrays import Pixels

Encode = Callable[..., bytes]


@pytest.fixture(scope="session")
def ramp() -> Pixels:
    """40 rows, 50 columns, a ramp with noise."""
    noise = np.random.default_rng(7).integers(0, 20, (40, 50, 3))
    slope = np.add.outer(np.arange(40) * 3, np.arange(50) * 2)[..., np.newaxis]
    return (slope + noise).astype(np.uint8)


@pytest.fixture(scope="session")
def encode() -> Encode:
    """Encode a Pillow image with Pillow."""

    def _encode(image: Image.Image, kind: str, **options: Any) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    return _encode


@pytest.fixture(scope="session")
def lossless_files(ramp: Pixels, encode: Encode) -> dict[str, bytes]:
    """Files that decode to exactly the image."""
    image = Image.fromarray(ramp)
    return {
        "png": encode(image, "PNG"),
        "webp": encode(image, "WEBP", lossless=True),
        "bmp": encode(image, "BMP"),
        "tiff": encode(image, "TIFF"),
        "tiff-deflate": encode(image, "TIFF", compression="tiff_deflate"),
        "tiff-lzw": encode(image, "TIFF", compression="tiff_lzw"),
    }


@pytest.fixture(scope="session")
def files(lossless_files: dict[str, bytes], ramp: Pixels, encode: Encode) -> dict[str, bytes]:
    """The image in every format, lossy ones too."""
    image = Image.fromarray(ramp)
    return lossless_files | {
        "jpeg": encode(image, "JPEG"),
        "jpeg-progressive": encode(image, "JPEG", progressive=True),
        "jpeg-cmyk": encode(image.convert("CMYK"), "JPEG"),
        "webp-lossy": encode(image, "WEBP"),
        "gif": encode(image.quantize(64), "GIF"),
        "tiff-jpeg": encode(image, "TIFF", compression="jpeg"),
        "avif": encode(image, "AVIF"),
    }
