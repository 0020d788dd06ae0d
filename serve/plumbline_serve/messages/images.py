"""The ways in which a request brings an image."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from plumbline_models.core.errors import PlumblineError


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """A compressed image file, as bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Base64Image:
    """A compressed image file in base64 text, decoded on the request path and not on an event loop."""

    text: str


@dataclass(frozen=True, slots=True)
class RawImage:
    """RGB or RGBA uint8, row by row: `height * width * channels` bytes; alpha is straight, not multiplied in."""

    data: bytes
    height: int
    width: int
    channels: Literal[3, 4] = 3


@dataclass(frozen=True, slots=True)
class UrlImage:
    """An image to be fetched by the service."""

    url: str


@dataclass(frozen=True, slots=True)
class BrokenImage:
    """A source that the edge already knows to be wrong: a part that is not there, say."""

    error: PlumblineError


ImageSource: TypeAlias = EncodedImage | Base64Image | RawImage | UrlImage | BrokenImage
