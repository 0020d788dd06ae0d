"""What an image is known by: a digest of its content, which callers can make of a file as well."""

import hashlib
from typing import Final, TypeAlias

from plumbline_serve.messages import EncodedImage, RawImage

OpenedImage: TypeAlias = EncodedImage | RawImage
"""An image whose bytes are at hand."""

QUICK_BYTES: Final = 2**18
"""So many are hashed in 200 microseconds, about what a hop to another thread costs."""
_QUIET_BYTES: Final = 2047
"""For longer pieces hashlib gives the interpreter lock away; an event loop would wait up to 5 ms to have it back."""
_FILE: Final = "file"


def content_digest(image: OpenedImage) -> bytes:
    """Of what makes the image this one: how its bytes are to be read, and the bytes."""
    how = f"{image.height}x{image.width}x{image.channels}" if isinstance(image, RawImage) else _FILE
    return _digest(how, _sha256(image.data))


def file_digest(sha256: bytes) -> bytes:
    """What `content_digest` says of the file with this SHA-256."""
    return _digest(_FILE, sha256)


def _digest(how: str, sha256: bytes) -> bytes:
    return hashlib.sha256(how.encode() + b" " + sha256).digest()


def _sha256(content: bytes) -> bytes:
    digest = hashlib.sha256()
    view = memoryview(content)
    piece = _QUIET_BYTES if len(view) <= QUICK_BYTES else len(view)
    for start in range(0, len(view), piece):
        digest.update(view[start : start + piece])
    return digest.digest()
