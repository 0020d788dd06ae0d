"""What decoding and resizing cost, beside what else could do it: `python -m loadtests.engine.decoding`.

One photograph in several sizes and formats, one thread, all programs in one process in turn, medians of CPU seconds.
The baseline is Pillow's own `convert("RGB")`. OpenCV is measured where `opencv-python-headless` is installed. Beside
each ratio stands how far the pixels are from Pillow's, since only equal pixels give equal scores. `shortcuts` are what
decodes or resizes less exactly, with how far they move a CLIPScore; among them rounding as another decoder may.
"""

import argparse
import importlib
import io
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import simplejpeg
import skimage
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.io import ImageReadMode, decode_image

from loadtests.engine.shortcuts import measure_shortcuts
from loadtests.scorers.interleaved import Program, add_out, interleave, ratios, report
from plumbline_models.images.decode import DecodePolicy, decode
from plumbline_models.images.image_decoder import ImageDecoder
from plumbline_models.images.nvjpeg import NvJpegDecoder

Pixels: TypeAlias = NDArray[np.uint8]
Decoder: TypeAlias = Callable[[bytes], Pixels]

PHOTOGRAPH = Path(skimage.__file__).parent / "data" / "astronaut.png"
FILES: Mapping[str, tuple[int, str, Mapping[str, Any]]] = {
    "jpeg 256": (256, "JPEG", {"quality": 90}),
    "jpeg 512": (512, "JPEG", {"quality": 90}),
    "jpeg 1024": (1024, "JPEG", {"quality": 90}),
    "jpeg 1024 4:4:4": (1024, "JPEG", {"quality": 90, "subsampling": 0}),
    "jpeg 1024 progressive": (1024, "JPEG", {"quality": 90, "progressive": True}),
    "png 512": (512, "PNG", {}),
    "png 1024": (1024, "PNG", {}),
    "webp 1024": (1024, "WEBP", {"quality": 90}),
    "webp 512 lossless": (512, "WEBP", {"lossless": True}),
}
PIXELS_A_ROUND = 16 * 10**6
POLICY = DecodePolicy()


def open_decoders(kind: str) -> dict[str, Decoder]:
    """Every decoder of one format that is installed, Pillow first."""
    decode_pool: dict[str, Decoder] = {
        "pillow": lambda data: np.asarray(Image.open(io.BytesIO(data)).convert("RGB")),
        "plumbline": lambda data: decode(data, POLICY),
        "torchvision": _decode_by_torchvision,
    }
    if kind == "JPEG":
        decode_pool["simplejpeg"] = simplejpeg.decode_jpeg
        decode_pool["handed to another process"] = _open_other_process().decode
        decode_pool["simplejpeg, fast"] = lambda data: simplejpeg.decode_jpeg(data, fastdct=True, fastupsample=True)
    try:
        cv2 = importlib.import_module("cv2")
    except ImportError:
        return decode_pool
    cv2.setNumThreads(1)
    decode_pool["opencv"] = lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    return decode_pool


def measure_files(num_rounds: int) -> dict[str, Any]:
    """Each file by each decoder."""
    image = Image.open(PHOTOGRAPH).convert("RGB")
    cases: dict[str, Any] = {}
    for name, (side_px, kind, options) in FILES.items():
        buffer = io.BytesIO()
        image.resize((side_px, side_px), Image.Resampling.BICUBIC).save(buffer, kind, **options)
        data, decode_pool = buffer.getvalue(), open_decoders(kind)
        repeats = max(1, PIXELS_A_ROUND // side_px**2)
        measured = interleave({n: _repeat(d, data, repeats) for n, d in decode_pool.items()}, num_rounds=num_rounds)
        truth = decode_pool["pillow"](data).astype(np.int16)
        cases[name] = {
            "ratio": ratios(measured, "pillow"),
            "largest_difference": {n: int(np.abs(d(data) - truth).max()) for n, d in decode_pool.items()},
            "pillow_ms": round(measured["pillow"]["median_cpu_s"] / repeats * 1000, 3),
        }
    return cases


@cache
def _open_other_process() -> ImageDecoder:
    """As with nvJPEG, by nvImageCodec on the CPU: what is counted is what this process still has to do."""
    nvjpeg = NvJpegDecoder(device=None)
    if not nvjpeg.settle():
        raise RuntimeError("nvImageCodec's pixels are others than ours.")
    return ImageDecoder(POLICY, nvjpeg=nvjpeg)


def _decode_by_torchvision(data: bytes) -> Pixels:
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    pixels: Pixels = decode_image(encoded, mode=ImageReadMode.RGB).permute(1, 2, 0).contiguous().numpy()
    return pixels


def _repeat(decoder: Decoder, data: bytes, repeats: int) -> Program:
    def decode_all(_: int) -> None:
        for _ in range(repeats):
            decoder(data)  # let go of at once: pages of many images would cost more than their pixels

    return decode_all


def main() -> None:
    """Measure, print, and write where told."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    add_out(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases = {"decode": measure_files(options.rounds), "shortcuts": measure_shortcuts(options.rounds)}
    report("decoding", cases, out=options.out)


if __name__ == "__main__":
    main()
