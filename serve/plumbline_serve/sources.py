"""An image as the caller sent it, opened: its bytes, which name it, and the pixels that they hold."""

import base64
import binascii
from typing import TypeAlias

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.errors import ImageTooLargeError, ImageUndecodableError, UrlSourceRefusedError
from plumbline_models.images.decode import DecodePolicy, decode, from_raw
from plumbline_serve.messages import Base64Image, BrokenImage, EncodedImage, ImageSource, RawImage, UrlImage

OpenedImage: TypeAlias = EncodedImage | RawImage
"""An image whose bytes are at hand."""


def open_source(source: ImageSource, policy: DecodePolicy) -> OpenedImage:
    """Get at the bytes of an image; blocks for about a millisecond a megabyte of base64.

    Raises:
        ImageTooLargeError: It has more bytes than the policy allows.
        ImageUndecodableError: It is not valid base64.
        PlumblineError: There is no image.
    """
    match source:
        case EncodedImage() | RawImage():
            return source
        case Base64Image(text):
            return EncodedImage(_from_base64(text, policy))
        case UrlImage():
            raise UrlSourceRefusedError("Images by URL are not fetched; send the bytes.")
        case BrokenImage(error):
            raise error


def content_of(image: OpenedImage) -> tuple[bytes, bytes]:
    """What makes the image this one: the bytes, and how they are to be read."""
    match image:
        case EncodedImage(data):
            return b"file", data
        case RawImage(data, height, width):
            return f"{height}x{width}".encode(), data


def read_pixels(image: OpenedImage, policy: DecodePolicy) -> Pixels:
    """Decode an image; raises as `images.decode` does."""
    match image:
        case EncodedImage(data):
            return decode(data, policy)
        case RawImage(data, height, width):
            return from_raw(data, height=height, width=width, policy=policy)


def _from_base64(text: str, policy: DecodePolicy) -> bytes:
    if len(text) // 4 * 3 > policy.max_bytes + 3:
        raise ImageTooLargeError("The image has more bytes than allowed.", limit=policy.max_bytes)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageUndecodableError("The image is not valid base64.") from error
