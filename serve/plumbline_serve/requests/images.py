"""The images of one request: opened, named by their content, decoded at most once, fitted for whoever asks."""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import Encoder, Preprocessed
from plumbline_models.images.decode import DecodePolicy
from plumbline_serve.causes import release
from plumbline_serve.messages import Base64Image, EncodedImage, ImageSource, RawImage
from plumbline_serve.requests.decoded_cache import PixelsName, RequestPixels
from plumbline_serve.requests.image_sources import OpenedImage, content_of, open_source, read_pixels

log = logging.getLogger(__name__)

OnStage: TypeAlias = Callable[[str, float], None]
"""Hears the name of a stage, `decode` or `fit`, and the seconds that it took."""

QUICK_BYTES = 2**18
"""So many are hashed in 200 microseconds, about what a hop to another thread costs."""
_QUIET_BYTES = 2047
"""For longer pieces hashlib gives the interpreter lock away; an event loop would wait up to 5 ms to have it back."""


class RequestImage:
    """One image; its methods may be called from any thread."""

    def __init__(self, image: OpenedImage, policy: DecodePolicy, decoded: RequestPixels) -> None:
        how, content = content_of(image)
        self.digest = hashlib.sha256(how + b" " + _sha256(content)).digest()
        self._image = image
        self._policy = policy
        self._decoded = decoded
        self._name: PixelsName = object()
        self._error: PlumblineError | None = None
        self._lock = threading.Lock()

    def preprocess(self, encoder: Encoder, on_stage: OnStage) -> Preprocessed | PlumblineError:
        """What the encoder takes of it, or what is wrong with it."""
        pixels = self._decode(on_stage)
        if isinstance(pixels, PlumblineError):
            return pixels
        started = time.perf_counter()
        resized = attempt(encoder.preprocess, pixels)
        on_stage("fit", time.perf_counter() - started)
        return resized

    def _decode(self, on_stage: OnStage) -> Pixels | PlumblineError:
        with self._lock:  # who comes second waits for the first
            if (found := self._error or self._decoded.get(self._name)) is not None:
                return found
            started = time.perf_counter()
            pixels: Pixels | PlumblineError = attempt(read_pixels, self._image, self._policy)
            on_stage("decode", time.perf_counter() - started)
            if isinstance(pixels, PlumblineError):
                self._error = pixels
            else:
                self._decoded.put(self._name, pixels)
            return pixels


def open_picture(source: ImageSource, policy: DecodePolicy, decoded: RequestPixels) -> RequestImage | PlumblineError:
    """Open and name an image, or say what is wrong with it."""

    def open_it() -> RequestImage:
        return RequestImage(open_source(source, policy), policy, decoded)

    picture: RequestImage | PlumblineError = attempt(open_it)
    return picture


def are_quick(sources: Sequence[ImageSource]) -> bool:
    """Whether opening them takes less time than a hop to another thread."""
    if any(isinstance(source, Base64Image) for source in sources):
        return False
    return sum(len(s.data) for s in sources if isinstance(s, EncodedImage | RawImage)) <= QUICK_BYTES


def _sha256(content: bytes) -> bytes:
    digest = hashlib.sha256()
    view = memoryview(content)
    piece = _QUIET_BYTES if len(view) <= QUICK_BYTES else len(view)
    for start in range(0, len(view), piece):
        digest.update(view[start : start + piece])
    return digest.digest()


def attempt(function: Callable[..., Any], *args: Any) -> Any:
    """Call; what goes wrong is the answer for this one input, and a fault of ours is logged as one."""
    try:
        return function(*args)
    except PlumblineError as error:
        release(error)
        return error
    except Exception as error:
        log.exception("preparing an input failed")
        release(error)
        return PlumblineError("The service failed on this input.", cause=repr(error))
