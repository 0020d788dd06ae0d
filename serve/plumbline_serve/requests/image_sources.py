"""An image as the caller sent it, opened: its bytes, which name it, and the pixels that they hold."""

import base64
import re
from typing import TypeAlias
from urllib.parse import unquote

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.errors import ImageTooLargeError, ImageUndecodableError, UrlSourceRefusedError
from plumbline_models.images.decode import DecodePolicy, decode, from_raw
from plumbline_serve.messages import Base64Image, BrokenImage, EncodedImage, ImageSource, RawImage, UrlImage

OpenedImage: TypeAlias = EncodedImage | RawImage
"""An image whose bytes are at hand."""

_TO_STANDARD = str.maketrans("-_", "+/", "\r\n\t ")
"""RFC 4648's letters for URLs to the usual ones; MIME's line breaks to nothing."""
_DIGITS = re.compile(r"[A-Za-z0-9+/]*")


def open_source(source: ImageSource, policy: DecodePolicy) -> OpenedImage:
    """Get at the bytes of an image; blocks for about a millisecond a megabyte of base64.

    Raises:
        ImageTooLargeError: It has more bytes than the policy allows.
        ImageUndecodableError: It is not valid base64, of any of the standard forms.
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
    if is_data_url(text):
        text = _of_data_url(text)
    try:
        _check_length(len(text), policy)
        return base64.b64decode(text, validate=True)
    except (ImageTooLargeError, ValueError):  # it may have line breaks, and other letters for two of the digits
        text = text.translate(_TO_STANDARD).rstrip("=")
    _check_length(len(text), policy)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError as error:
        reason = "it breaks off" if _DIGITS.fullmatch(text) else "it holds other characters"
        raise ImageUndecodableError(f"The image is not valid base64: {reason}.") from error


def is_data_url(url: str) -> bool:
    """Whether a URL holds its data itself, so that nothing is to be fetched."""
    return url[:5].lower() == "data:"


def _of_data_url(text: str) -> str:
    """The base64 of a `data:` URL (RFC 2397); its media type is not looked at, since the file says what it is."""
    head, comma, data = text.partition(",")
    if not comma or not head.rstrip().lower().endswith(";base64"):
        raise ImageUndecodableError("The image's data: URL is not one of base64, 'data:image/png;base64,…'.")
    return unquote(data) if "%" in data else data


def _check_length(num_digits: int, policy: DecodePolicy) -> None:
    if num_digits // 4 * 3 > policy.max_bytes + 3:
        raise ImageTooLargeError("The image has more bytes than allowed.", limit=policy.max_bytes)
