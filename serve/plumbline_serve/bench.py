"""The workbench of one request: its images decoded once, its rows encoded once, whoever asks for them."""

import asyncio
import base64
import binascii
import logging
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.errors import (
    ImageTooLargeError,
    ImageUndecodableError,
    PlumblineError,
    UrlSourceRefusedError,
)
from plumbline_models.core.protocols import Encoder, PairInput, Prepared, Row
from plumbline_models.images.decode import DecodePolicy, decode, from_raw
from plumbline_serve.compute import Compute
from plumbline_serve.deadline import Deadline
from plumbline_serve.messages import Base64Image, BrokenImage, EncodedImage, ImageSource, RawImage, UrlImage

log = logging.getLogger(__name__)
T = TypeVar("T", bound=Hashable)
R = TypeVar("R")
RowOrError: TypeAlias = Row | PlumblineError
Pair: TypeAlias = tuple[ImageSource, str]
"""An image and the text that is held against it."""


@dataclass(slots=True)
class Spent:
    """Seconds of wall time that steps of the request took."""

    decode: float = 0.0
    fit: float = 0.0
    queue: float = 0.0
    compute: float = 0.0


@dataclass(frozen=True, slots=True)
class BenchTools:
    """What every request of a process shares."""

    compute: Compute
    threads: Executor
    """Where images are decoded and texts tokenised: never on an event loop."""
    policy: DecodePolicy


class Bench:
    """Rows of one request, made at most once each.

    An image is known by its source, so that the same bytes sent twice are one image. What is wrong with one image
    or text is a value among the rows; only what stops the whole request is raised.
    """

    def __init__(self, tools: BenchTools, deadline: Deadline, *, on_stage: Callable[[str, float], None]) -> None:
        self.spent = Spent()
        self._tools = tools
        self._deadline = deadline
        self._on_stage = on_stage
        self._pixels: dict[ImageSource, Pixels | PlumblineError] = {}
        self._fitted: dict[tuple[str, ImageSource], Prepared | PlumblineError] = {}
        self._rows: dict[tuple[str, Hashable], asyncio.Future[RowOrError]] = {}

    async def prepare(self, images: Sequence[ImageSource], encoders: Sequence[Encoder]) -> None:
        """Decode images and fit them for encoders, each image in one go on a thread."""
        wanted = [image for image in dict.fromkeys(images) if self._lacks(image, encoders)]
        for encoder in encoders:
            self._tools.compute.expect(encoder.key, len(wanted))
        try:
            await asyncio.gather(*(self.on_thread(self._prepare_image, image, encoders) for image in wanted))
        finally:
            for encoder in encoders:
                self._tools.compute.expect(encoder.key, -len(wanted))

    async def image_rows(self, encoder: Encoder, images: Sequence[ImageSource]) -> Mapping[ImageSource, RowOrError]:
        """Rows of images that `prepare` was called for."""
        return await self._encode(encoder, list(dict.fromkeys(images)), lambda image: self._fitted[encoder.key, image])

    async def text_rows(self, encoder: Encoder, texts: Sequence[str]) -> Mapping[str, RowOrError]:
        """Rows of texts."""
        distinct = list(dict.fromkeys(texts))
        prepared = await self.on_thread(_prepare_all, encoder, distinct, distinct)
        return await self._encode(encoder, distinct, prepared.__getitem__)

    async def pair_rows(
        self, encoder: Encoder, pairs: Sequence[Pair], images: Mapping[ImageSource, RowOrError]
    ) -> Mapping[Pair, RowOrError]:
        """Rows of image and text together, from the rows of the images; an image's error is its pairs' error."""
        distinct = list(dict.fromkeys(pairs))
        sound = [pair for pair in distinct if not isinstance(images[pair[0]], PlumblineError)]
        raw = [PairInput(caption=text, image_row=images[image]) for image, text in sound]
        prepared = await self.on_thread(_prepare_all, encoder, sound, raw)
        prepared |= {pair: images[pair[0]] for pair in distinct if pair not in prepared}
        return await self._encode(encoder, distinct, prepared.__getitem__)

    async def _encode(
        self, encoder: Encoder, names: Sequence[T], prepared: Callable[[T], Prepared | PlumblineError]
    ) -> Mapping[T, RowOrError]:
        """Rows by name; what another scorer has already asked for is awaited, not asked for again."""
        loop = asyncio.get_running_loop()
        inputs: dict[T, Prepared] = {}
        for name in names:
            if (encoder.key, name) in self._rows:
                continue
            future = self._rows[encoder.key, name] = loop.create_future()
            value = prepared(name)
            if isinstance(value, PlumblineError):
                future.set_result(value)
            else:
                inputs[name] = value
        if inputs:
            await self._fulfil(encoder, inputs)
        return {name: await self._rows[encoder.key, name] for name in names}

    async def _fulfil(self, encoder: Encoder, inputs: Mapping[T, Prepared]) -> None:
        futures = [self._rows[encoder.key, name] for name in inputs]
        try:
            encoded = await self._tools.compute.encode(encoder.key, list(inputs.values()), self._deadline)
        except BaseException:
            for future in futures:
                future.cancel()
            raise
        self.spent.queue = max(self.spent.queue, encoded.queue_s)
        self.spent.compute = max(self.spent.compute, encoded.compute_s)
        for future, row in zip(futures, encoded.rows, strict=True):
            future.set_result(row)

    def _lacks(self, image: ImageSource, encoders: Sequence[Encoder]) -> bool:
        return any((encoder.key, image) not in self._fitted for encoder in encoders)

    async def on_thread(self, function: Callable[..., R], *args: Any) -> R:
        """Run off the event loop, where the request's images are decoded."""
        return await asyncio.get_running_loop().run_in_executor(self._tools.threads, function, *args)

    def _prepare_image(self, image: ImageSource, encoders: Sequence[Encoder]) -> None:
        if self._deadline.has_passed:
            return self._store(image, encoders, self._deadline.error("decode"))
        started = time.perf_counter()
        if image not in self._pixels:
            self._pixels[image] = _attempt(_decode, image, self._tools.policy)
        decoded = time.perf_counter()
        pixels = self._pixels[image]
        if isinstance(pixels, PlumblineError):
            self._store(image, encoders, pixels)
        else:
            for encoder in encoders:
                if (encoder.key, image) not in self._fitted:
                    self._fitted[encoder.key, image] = _attempt(encoder.prepare, pixels)
        self._spend(decoded - started, time.perf_counter() - decoded)
        return None

    def _spend(self, decode_s: float, fit_s: float) -> None:
        self.spent.decode += decode_s
        self.spent.fit += fit_s
        self._on_stage("decode", decode_s)
        self._on_stage("fit", fit_s)

    def _store(self, image: ImageSource, encoders: Sequence[Encoder], error: PlumblineError) -> None:
        self._fitted.update(((encoder.key, image), error) for encoder in encoders)


def _prepare_all(encoder: Encoder, names: Sequence[T], raw: Sequence[Any]) -> dict[T, Prepared | PlumblineError]:
    return {name: _attempt(encoder.prepare, value) for name, value in zip(names, raw, strict=True)}


def _attempt(function: Callable[..., Any], *args: Any) -> Any:
    """Call; what goes wrong is the answer for this one input, and a fault of ours is logged as one."""
    try:
        return function(*args)
    except PlumblineError as error:
        return error
    except Exception:
        log.exception("preparing an input failed")
        return PlumblineError("The service failed on this input.")


def _decode(image: ImageSource, policy: DecodePolicy) -> Pixels:
    match image:
        case EncodedImage(data):
            return decode(data, policy)
        case RawImage(data, height, width):
            return from_raw(data, height=height, width=width, policy=policy)
        case Base64Image(text):
            return decode(_from_base64(text, policy), policy)
        case UrlImage():
            raise UrlSourceRefusedError("Images by URL are not fetched; send the bytes.")
        case BrokenImage(error):
            raise error


def _from_base64(text: str, policy: DecodePolicy) -> bytes:
    if len(text) // 4 * 3 > policy.max_bytes + 3:
        raise ImageTooLargeError("The image has more bytes than allowed.", limit=policy.max_bytes)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageUndecodableError("The image is not valid base64.") from error
