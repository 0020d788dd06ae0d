"""The images of one request: opened, known by their content, decoded at most once, preprocessed for each encoder.

A small file may hold many pixels: 2 MB of PNG can be 2 GB of them. What a process holds decoded therefore has a bound
of its own and does not grow with the number of images that callers send.
"""

import base64
import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias
from urllib.parse import unquote

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.byte_bounded_cache import ByteBoundedCache
from plumbline_models.core.errors import (
    ImageTooLargeError,
    ImageUndecodableError,
    PlumblineError,
    UrlSourceRefusedError,
)
from plumbline_models.core.protocols import Encoder, Preprocessed
from plumbline_models.images.decode import DecodePolicy, from_raw
from plumbline_models.images.headers import read_header
from plumbline_models.images.image_decoder import ImageDecoder
from plumbline_serve.messages import Base64Image, BrokenImage, EncodedImage, ImageSource, RawImage, UrlImage
from plumbline_serve.requests.contents import QUICK_BYTES, OpenedImage, content_digest
from plumbline_serve.requests.looks import ImageLooks
from plumbline_serve.scheduling.concurrency import release
from plumbline_serve.scheduling.work import Work

log = logging.getLogger(__name__)

OnStage: TypeAlias = Callable[[str, float], None]
"""Hears the name of a stage, `decode` or `fit`, and the seconds that it took."""
PixelsKey: TypeAlias = object
"""An `object()` for each image of a request: so that what is kept under it holds nothing else."""

QUICK_CHARS = 2**15
"""Of base64: so many are decoded and hashed in 120 microseconds."""
_LEAST_PIXELS = 20_000
"""What every image takes beside its pixels: reading its header, going to the encoder."""
_TO_STANDARD = str.maketrans("-_", "+/", "\r\n\t ")
"""RFC 4648's letters for URLs to the usual ones; MIME's line breaks to nothing."""
_DIGITS = re.compile(r"[A-Za-z0-9+/]*")


class DecodedImages:
    """Decoded pixels of all requests under way, the oldest making room for the newest.

    Pixels are all that it holds: neither the requests nor the files that the pixels came from.

    Args:
        max_bytes: Of all pixels together; an image that takes more by itself is not kept.
        looks: Looks at each image that is decoded; None: nobody wants to know.
    """

    def __init__(self, max_bytes: int, looks: ImageLooks | None = None) -> None:
        self.looks = looks
        self._kept: ByteBoundedCache[PixelsKey, Pixels] = ByteBoundedCache(
            max_bytes, lambda pixels: pixels.nbytes, evicts="oldest"
        )

    @property
    def num_bytes(self) -> int:
        """What the pixels take."""
        return self._kept.num_bytes

    def open(self) -> "RequestPixels":
        """One request's part."""
        return RequestPixels(self._kept, self.looks)


class RequestPixels:
    """One request's part; for any thread. Once it is closed it keeps nothing, also of what is decoded only then."""

    def __init__(self, kept: ByteBoundedCache[PixelsKey, Pixels], looks: ImageLooks | None) -> None:
        self._kept = kept
        self.looks = looks
        self._lock = threading.Lock()
        self._keys: set[PixelsKey] | None = set()

    def get(self, key: PixelsKey) -> Pixels | None:
        """The pixels, if they are still here."""
        return self._kept.get(key)

    def put(self, key: PixelsKey, pixels: Pixels) -> None:
        """Keep the pixels for a while, if there is room for them at all.

        Args:
            key: What `get` finds them by.
            pixels: Of one image.
        """
        with self._lock:
            if self._keys is not None:
                self._keys.add(key)
                self._kept.put(key, pixels)

    def close(self) -> None:
        """Let go of all of them, for good."""
        with self._lock:
            for key in self._keys or ():
                self._kept.pop(key)
            self._keys = None


class RequestImage:
    """One image; its methods may be called from any thread.

    Args:
        image: Its bytes.
        decoder: Decodes it.
        decoded: Where its pixels are kept for a second encoder.
        exactly: As in `ImageDecoder.decode`.
    """

    def __init__(
        self, image: OpenedImage, decoder: ImageDecoder, decoded: RequestPixels, *, exactly: bool = False
    ) -> None:
        self.digest = content_digest(image)
        self._kind, self._num_pixels = _expected(image)
        self._image = image
        self._decoder = decoder
        self._exactly = exactly
        self._decoded = decoded
        self._key: PixelsKey = object()
        self._error: PlumblineError | None = None
        self._lock = threading.Lock()

    def work(self, encoder: Encoder) -> Work:
        """What `preprocess` asks of the pool."""
        return Work((self._kind, encoder.key), self._num_pixels)

    def preprocess(self, encoder: Encoder, on_stage: OnStage) -> Preprocessed | PlumblineError:
        """What the encoder takes of it, or what is wrong with it.

        Args:
            encoder: Whose preprocessing to use.
            on_stage: Hears how long decoding and preprocessing took.
        """
        pixels = self._decode(on_stage)
        if isinstance(pixels, PlumblineError):
            return pixels
        started = time.perf_counter()
        preprocessed = attempt(encoder.preprocess, pixels)
        on_stage("fit", time.perf_counter() - started)
        return preprocessed

    def _decode(self, on_stage: OnStage) -> Pixels | PlumblineError:
        with self._lock:  # who comes second waits for the first
            if (found := self._error or self._decoded.get(self._key)) is not None:
                return found
            started = time.perf_counter()
            pixels: Pixels | PlumblineError = attempt(
                partial(read_pixels, exactly=self._exactly), self._image, self._decoder
            )
            on_stage("decode", time.perf_counter() - started)
            if isinstance(pixels, PlumblineError):
                self._error = pixels
            else:
                self._decoded.put(self._key, pixels)
                if self._decoded.looks is not None:
                    self._decoded.looks.look(self.digest, pixels)
            return pixels


def open_image(
    source: ImageSource, decoder: ImageDecoder, decoded: RequestPixels, *, exactly: bool = False
) -> RequestImage | PlumblineError:
    """Open an image and compute what it is known by, or say what is wrong with it.

    Args:
        source: As the caller sent it.
        decoder: Decodes it later; its policy says how large it may be.
        decoded: Where its pixels are kept for a second encoder.
        exactly: As in `ImageDecoder.decode`.
    """

    def open_it() -> RequestImage:
        return RequestImage(open_source(source, decoder.policy), decoder, decoded, exactly=exactly)

    image: RequestImage | PlumblineError = attempt(open_it)
    return image


def opening_work(source: ImageSource) -> Work:
    """What `open_image` asks of the pool."""
    content = source.text if isinstance(source, Base64Image) else getattr(source, "data", b"")
    return Work("open", len(content) + _LEAST_PIXELS)


def are_quick(sources: Sequence[ImageSource]) -> bool:
    """Whether opening them takes less time than a hop to another thread."""
    num_chars = sum(len(source.text) for source in sources if isinstance(source, Base64Image))
    num_bytes = sum(len(source.data) for source in sources if isinstance(source, EncodedImage | RawImage))
    return num_chars / QUICK_CHARS + num_bytes / QUICK_BYTES <= 1


def attempt(function: Callable[..., Any], *args: Any) -> Any:
    """Call; what goes wrong is the result for this one input, and a fault of ours is logged as one.

    Args:
        function: What to call.
        *args: With what.
    """
    try:
        return function(*args)
    except PlumblineError as error:
        release(error)
        return error
    except Exception as error:
        log.exception("preprocessing an input failed")
        release(error)
        return PlumblineError("The service failed on this input.", cause=repr(error))


def open_source(source: ImageSource, policy: DecodePolicy) -> OpenedImage:
    """Get at the bytes of an image; blocks for about a millisecond per megabyte of base64.

    Args:
        source: As the caller sent it.
        policy: How large it may be.

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


def read_pixels(image: OpenedImage, decoder: ImageDecoder, *, exactly: bool = False) -> Pixels:
    """Decode an image; raises as `ImageDecoder.decode` does.

    Args:
        image: Its bytes.
        decoder: Decodes files.
        exactly: As there.
    """
    match image:
        case EncodedImage(data):
            return decoder.decode(data, exactly=exactly)
        case RawImage(data, height, width, channels):
            return from_raw(data, height=height, width=width, channels=channels, policy=decoder.policy)


def _expected(image: OpenedImage) -> tuple[str, int]:
    """The kind of image, and its number of pixels as far as its header says."""
    if isinstance(image, RawImage):
        return "raw", image.height * image.width + _LEAST_PIXELS
    header = read_header(image.data)
    return header.container, header.num_pixels + _LEAST_PIXELS


def is_data_url(url: str) -> bool:
    """Whether a URL holds its data itself, so that nothing is to be fetched."""
    return url[:5].lower() == "data:"


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


def _of_data_url(text: str) -> str:
    """The base64 of a `data:` URL (RFC 2397); its media type is not looked at, since the file says what it is."""
    head, comma, data = text.partition(",")
    if not comma or not head.rstrip().lower().endswith(";base64"):
        raise ImageUndecodableError("The image's data: URL is not one of base64, 'data:image/png;base64,…'.")
    return unquote(data) if "%" in data else data


def _check_length(num_digits: int, policy: DecodePolicy) -> None:
    if num_digits // 4 * 3 > policy.max_bytes + 3:
        raise ImageTooLargeError("The image has more bytes than allowed.", limit=policy.max_bytes)
