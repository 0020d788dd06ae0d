"""Image files that mean harm, or are something else as well; and what is to become of each.

A code of an error, or the most levels by which a sample may differ from `IMAGE`.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

GIB = 2**30
SIDE_PX = 64
IMAGE = np.add.outer(np.arange(SIDE_PX) * 2, np.arange(SIDE_PX))[..., np.newaxis].repeat(3, 2).astype(np.uint8)
"""What those files show that are to be read in spite of all."""
ROWS = np.pad(IMAGE.reshape(SIDE_PX, -1), ((0, 0), (1, 0))).tobytes()
"""The same as the rows of a PNG, none of them filtered."""
AVIF_LEVELS = 4
Case: TypeAlias = tuple[str, str | int, bytes]
"""Name, what is to become of it, file."""


def zeros(num_bytes: int, *, is_raw: bool = False) -> bytes:
    """A zlib stream, or a raw deflate stream, of so many zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15 if is_raw else 15)
    block = bytes(2**20)
    parts = [packer.compress(block[: min(2**20, num_bytes - start)]) for start in range(0, num_bytes, 2**20)]
    return b"".join(parts) + packer.flush()


def saved(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:
    """An image in a format, `IMAGE` by default."""
    buffer = io.BytesIO()
    (image or Image.fromarray(IMAGE)).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, rows: bytes, *, before: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + before + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def with_chunk(name: bytes, body: bytes) -> bytes:
    """A sound PNG with one more chunk before its data."""
    sound = saved("PNG")
    return sound[:33] + chunk(name, body) + sound[33:]


def tiff(tags: dict[int, tuple[int, int, int]], behind: bytes = b"") -> bytes:
    """A TIFF of one directory; tags map to type, count and value or offset. `behind` lies at offset 8."""
    directory = 8 + len(behind)
    entries = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(tags.items()))
    return b"II*\0" + struct.pack("<I", directory) + behind + struct.pack("<H", len(tags)) + entries + bytes(4)


def grey_tiff(strip: bytes, **changed: tuple[int, int, int]) -> bytes:
    """A grey TIFF of 10 x 10 in one deflated strip, with some tags changed, such as `t273`."""
    one = {256: 10, 257: 10, 258: 8, 259: 8, 262: 1, 273: 8, 277: 1, 278: 10, 279: len(strip)}
    tags = {tag: (4, 1, value) for tag, value in one.items()}
    return tiff(tags | {int(name[1:]): entry for name, entry in changed.items()}, strip)


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def frames(kind: str, count: int, side_px: int = 64, **options: Any) -> bytes:
    """A film whose first frame is `IMAGE`, with others that are one colour each."""
    rest = [Image.new("RGB", (side_px, side_px), (n % 251, n // 251 % 251, 0)) for n in range(1, count)]
    return saved(kind, save_all=True, append_images=rest, **options)


def avif_of_size(width: int, height: int) -> bytes:
    """A small AVIF that says that it is large."""
    data = bytearray(saved("AVIF"))
    place = data.index(b"ispe") + 8
    data[place : place + 8] = struct.pack(">II", width, height)
    return bytes(data)


def jpeg_with(marker: int, *bodies: bytes) -> bytes:
    sound = saved("JPEG", quality=100, subsampling=0)
    segments = b"".join(struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body for body in bodies)
    return sound[:2] + segments + sound[2:]


def zip_of(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, "evil")
    return buffer.getvalue()


def bombs() -> Iterator[Case]:
    """They would take gigabytes or minutes if anyone believed them."""
    yield "png image data behind its image", 0, png(SIDE_PX, SIDE_PX, zlib.compress(ROWS + bytes(GIB // 4)))
    for name, head in ((b"zTXt", b"k\0\0"), (b"iTXt", b"k\0\1\0\0\0"), (b"iCCP", b"k\0\0")):
        yield f"png {name.decode()}", "image_undecodable", with_chunk(name, head + zeros(GIB // 4))
    texts = (chunk(b"zTXt", b"%d\0\0" % n + zeros(2**20)) for n in range(80))
    yield "png texts that add up", "image_undecodable", saved("PNG")[:33] + b"".join(texts) + saved("PNG")[33:]
    yield (
        "webp of one colour",
        "image_too_large",
        saved("WEBP", Image.new("RGB", (9000, 9000)), lossless=True, method=0),
    )
    small = struct.pack("<IHBHB", 0, 99, 0, 99, 0)
    still = saved("WEBP", Image.new("RGB", (3000, 3000)), lossless=True, method=0)[12:]
    yield "webp canvas smaller than its image", "image_undecodable", webp((b"VP8X", small)) + still
    yield "gif frame larger than its screen", "image_too_large", (
        b"GIF89a" + struct.pack("<HHBBB", 10, 10, 0x80, 0, 0) + bytes(6)
        + b"," + struct.pack("<HHHHB", 0, 0, 60000, 60000, 0) + b"\x02\x02\x44\x01\0;"
    )  # fmt: skip
    whole = dict.fromkeys(("t256", "t257", "t278"), (4, 1, SIDE_PX))
    yield "tiff data behind its image", 0, grey_tiff(zlib.compress(IMAGE[..., 0].tobytes() + bytes(GIB // 4)), **whole)
    yield "tiff strip of 4 GiB", "image_undecodable", grey_tiff(zeros(100), t279=(4, 1, 2**32 - 1))
    yield "tiff strip beyond the end", "image_undecodable", grey_tiff(zeros(100), t273=(4, 1, 2**31))
    yield "tiff of 60000 samples a pixel", "image_undecodable", grey_tiff(zeros(100), t277=(3, 1, 60000))
    yield "tiff of a billion tags", "image_undecodable", grey_tiff(zeros(100), t258=(3, 2**30, 8))
    yield "tiff whose directory is itself", "image_undecodable", b"II*\0\x08\0\0\0" + b"\xff" * 4000
    yield "avif by its header", "image_undecodable", avif_of_size(30_000, 30_000)
    yield (
        "bmp of a huge palette",
        "image_undecodable",
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 10, 10, 1, 8, 0, 0, 0, 0, 2**31, 0),
    )


def films() -> Iterator[Case]:
    """Films, of which the first frame counts."""
    yield "gif of 2000 frames", 0, frames("GIF", 2000)
    yield "webp of 500 frames", 0, frames("WEBP", 500, lossless=True, method=0)
    yield "apng of 500 frames", 0, frames("PNG", 500)
    yield "avif of 40 frames", AVIF_LEVELS, frames("AVIF", 40, speed=10)
    yield "tiff of 500 pages", 0, frames("TIFF", 500)


def metadata() -> Iterator[Case]:
    """Malformed profiles, which nobody reads."""
    noise = np.random.default_rng(3).bytes(3000)
    yield "png profile of noise", 0, with_chunk(b"iCCP", b"k\0\0" + zlib.compress(noise))
    yield "jpeg profile of noise", 0, jpeg_with(0xE2, b"ICC_PROFILE\0\1\1" + noise)
    yield "jpeg profile whose parts are missing", 0, jpeg_with(0xE2, b"ICC_PROFILE\0\xff\2" + noise)
    yield "jpeg profile cut short", "image_undecodable", jpeg_with(0xE2, b"ICC_PROFILE\0")
    yield "webp profile of noise", 0, saved("WEBP", lossless=True, icc_profile=noise)
    yield "tiff profile of noise", 0, saved("TIFF", icc_profile=noise)
    yield "avif profile of noise", 0, saved("AVIF", icc_profile=noise, quality=100, subsampling="4:4:4")
    yield "jpeg of 100 exif segments", 0, jpeg_with(0xE1, *([b"Exif\0\0MM\0*" + noise] * 100))


def others() -> Iterator[Case]:
    """What is no image, or is something else as well."""
    svg = b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"
    yield "svg", "image_undecodable", b"<?xml version='1.0'?>" + svg
    yield "svg in gzip", "image_undecodable", zlib.compress(svg, wbits=31)
    yield "pdf", "image_undecodable", b"%PDF-1.7\n" + saved("JPEG")
    yield "jpeg with a pdf in a comment", 0, jpeg_with(0xFE, b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj")
    yield "html that is a gif", 0, saved("GIF", comment=b"/*<script>alert(1)</script>*/")
    yield "png with a zip behind", 0, saved("PNG") + zip_of("evil.sh")
    yield "zip with a png behind", "image_undecodable", zip_of("evil.sh") + saved("PNG")
    yield "png of two headers", "image_undecodable", saved("PNG")[:33] + saved("PNG")[8:]
    late = saved("PNG")[:8] + chunk(b"tEXt", b"a\0b") + saved("PNG")[8:]
    yield "png whose header comes late", "image_undecodable", late
    yield (
        "png for iphones",
        "image_undecodable",
        png(64, 64, zeros(64 * 193, is_raw=True), before=chunk(b"CgBI", b"P\0 \2")),
    )
    for kind in ("PPM", "TGA", "PCX", "ICO", "EPS", "DDS", "SGI", "ICNS", "JPEG2000", "QOI"):
        yield f"sound {kind}", "image_undecodable", saved(kind)


def hostile_files() -> Iterator[Case]:
    """All of them: name, what is to become of it, file."""
    yield from bombs()
    yield from films()
    yield from metadata()
    yield from others()
