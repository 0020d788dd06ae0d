"""What decoding costs beside what it is expected to, by kind of file: `python -m loadtests.engine.decode_cost`.

Files of 2,600 x 2,600 pixels, drawn to be dear: photographs, noise and one colour; PNGs of every kind of pixel, without
a filter and with Paeth's, with and without Adam7; JPEGs of three qualities, baseline and progressive; WebPs. On one
thread, the least CPU time of so many rounds.
"""

import argparse
import io
import struct
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import skimage
from numpy.typing import NDArray
from PIL import Image, ImageFile

from loadtests.scorers.interleaved import add_out, report
from plumbline_models.images.decode import DecodePolicy, decode
from plumbline_models.images.decode_cost import expected_decode_s
from plumbline_models.images.headers import read_header

Bytes: TypeAlias = NDArray[np.uint8]
SIDE_PX: Final = 2600
PHOTOGRAPH = Path(skimage.__file__).parent / "data" / "astronaut.png"
PNG_KINDS: Final[Mapping[str, tuple[int, int, int]]] = {
    "L": (1, 8, 0),
    "LA": (2, 8, 4),
    "L16": (2, 16, 0),
    "RGB": (3, 8, 2),
    "RGBA": (4, 8, 6),
    "RGB16": (6, 16, 2),
    "RGBA16": (8, 16, 6),
}
"""Bytes of a pixel, bits of a sample, colour type."""
ADAM7: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
NO_FILTER, PAETH = 0, 4
POLICY = DecodePolicy(max_bytes=2**28)


def draw_sources() -> dict[str, Bytes]:
    """Pictures of eight bytes a pixel, of which each kind takes the first."""
    size = SIDE_PX, SIDE_PX
    photo = np.asarray(Image.open(PHOTOGRAPH).convert("RGB").resize(size, Image.Resampling.BICUBIC))
    noise = np.random.default_rng(0).integers(0, 256, (*size, 8), dtype=np.uint8)
    return {"photo": photo[..., [0, 1, 2, 0, 1, 2, 0, 1]], "noise": noise, "flat": np.zeros((*size, 8), np.uint8)}


def write_png(pixels: Bytes, depth: int, colour: int, *, row_filter: int, is_interlaced: bool) -> bytes:
    """A PNG whose rows all have one filter."""
    passes = [pixels[y::dy, x::dx] for x, y, dx, dy in ADAM7] if is_interlaced else [pixels]
    rows = zlib.compress(b"".join(_filtered(each, row_filter) for each in passes), 1)
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(is_interlaced))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _filtered(pixels: Bytes, row_filter: int) -> bytes:
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    return np.insert(rows, 0, row_filter, axis=1).tobytes()


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def files() -> Iterator[tuple[str, bytes]]:
    """Every file by a name."""
    for source, pixels in draw_sources().items():
        for kind, (num_bytes, depth, colour) in PNG_KINDS.items():
            for row_filter in (NO_FILTER, PAETH):
                for is_interlaced in (False, True):
                    how = f"filter {row_filter}{' adam7' * is_interlaced}"
                    chosen = pixels[..., :num_bytes]
                    yield (
                        f"png {kind} {source} {how}",
                        write_png(chosen, depth, colour, row_filter=row_filter, is_interlaced=is_interlaced),
                    )
        image = Image.fromarray(pixels[..., :3])
        for quality in (75, 95, 100):
            for name, options in (("baseline", {}), ("progressive", {"progressive": True})):
                for subsampling in (0, 2):
                    said = f"jpeg {source} {name} quality {quality} subsampling {subsampling}"
                    yield said, _saved(image, "JPEG", quality=quality, subsampling=subsampling, **options)
        yield f"jpeg {source} cmyk", _saved(image.convert("CMYK"), "JPEG", quality=95)
        yield f"webp {source} lossy", _saved(image, "WEBP", quality=95, method=0)
        yield f"webp {source} lossless", _saved(image, "WEBP", lossless=True, quality=0, method=0)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def measure(num_rounds: int) -> dict[str, Any]:
    """Nanoseconds for each pixel, measured and expected."""
    found: dict[str, Any] = {}
    for name, data in files():
        seconds = []
        for _ in range(num_rounds):
            started = time.thread_time()
            decode(data, POLICY)
            seconds.append(time.thread_time() - started)
        expected = expected_decode_s(data, read_header(data))
        per_pixel = {"measured_ns": min(seconds) * 1e9 / SIDE_PX**2, "expected_ns": expected * 1e9 / SIDE_PX**2}
        found[name] = {each: round(value, 1) for each, value in per_pixel.items()}
        found[name] |= {"over_expected": round(min(seconds) / expected, 2), "megabytes": round(len(data) / 1e6, 1)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    add_out(parser)
    options = parser.parse_args()
    ImageFile.MAXBLOCK = 2**28  # of what Pillow writes: a JPEG of noise is larger than it expects
    cases = measure(options.rounds)
    worst = max(cases.values(), key=lambda case: case["over_expected"])["over_expected"]
    report("decode_cost", {"worst_over_expected": worst, **cases}, out=options.out)


if __name__ == "__main__":
    main()
