"""nvJPEG on a GPU: it passes the comparison at its start, and stays within the stated bound on other files too."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from plumbline_models.core.errors import ImageError
from plumbline_models.images.decode import DecodePolicy
from plumbline_models.images.image_decoder import ImageDecoder
from plumbline_models.images.nvjpeg import NvJpegDecoder
from plumbline_models.images.nvjpeg.agreement import MAX_DIFFERENCE, MAX_MEAN_DIFFERENCE


@pytest.fixture(scope="module")
def decoder() -> Iterator[ImageDecoder]:
    pytest.importorskip("nvidia.nvimgcodec")
    nvjpeg = NvJpegDecoder()
    assert nvjpeg.settle()
    decoder = ImageDecoder(DecodePolicy(), nvjpeg=nvjpeg)
    yield decoder
    assert nvjpeg.is_ready  # no file has broken it
    decoder.close()


def jpeg(seed: int, size: tuple[int, int], **options: Any) -> bytes:
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 256, (9 + seed % 40, 11 + seed % 30, 3), dtype=np.uint8)).resize(size)
    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)
    return stream.getvalue()


@pytest.mark.parametrize("size", [(256, 256), (1024, 1024), (801, 603), (4000, 2251)])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [30, 75, 95, 100])
@pytest.mark.parametrize("progressive", [False, True])
def test_pixels_are_within_the_bound(
    decoder: ImageDecoder, size: tuple[int, int], subsampling: int, quality: int, progressive: bool
) -> None:
    data = jpeg(quality, size, subsampling=subsampling, quality=quality, progressive=progressive)
    off = np.abs(decoder.decode(data).astype(np.int16) - decoder.decode(data, exactly=True))
    assert off.max() <= MAX_DIFFERENCE
    assert off.mean() <= MAX_MEAN_DIFFERENCE


def test_neighbours_in_a_batch_change_nothing(decoder: ImageDecoder) -> None:
    files = [jpeg(seed, (300 + 37 * seed, 517 - 11 * seed), quality=80) for seed in range(16)]
    alone = [decoder.decode(data) for data in files]
    with ThreadPoolExecutor(32) as threads:
        for index, pixels in enumerate(threads.map(decoder.decode, files * 8)):
            np.testing.assert_array_equal(pixels, alone[index % len(files)])


def test_what_the_cpu_refuses_is_refused(decoder: ImageDecoder) -> None:
    data = jpeg(1, (640, 480))
    rng = np.random.default_rng(2)
    for _ in range(300):
        damaged = bytearray(data)
        for place in rng.integers(2, len(data), 3):
            damaged[place] = rng.integers(256)
        outcomes: list[object] = []
        for exactly in (True, False):
            try:
                outcomes.append(decoder.decode(bytes(damaged), exactly=exactly).shape)
            except ImageError as error:
                outcomes.append(error.code)
        assert outcomes[0] == outcomes[1]
