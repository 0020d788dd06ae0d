"""The workbench of one request: its images decoded once, its rows made once, whoever asks for them."""

import asyncio
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import Encoder, PairInput, Preprocessed
from plumbline_models.images.decode import DecodePolicy
from plumbline_serve.batching.compute import Compute
from plumbline_serve.concurrency import CpuPools, Deadline, together
from plumbline_serve.encoding_cache import EncodingCache, EncodingKey, EncodingOrError, Joined, Make, encoding_key
from plumbline_serve.messages import ImageSource
from plumbline_serve.requests.images import DecodedImages, OnStage, RequestImage, are_quick, attempt, open_image

IMAGES_A_CALL = 32
"""Images that go to their encoder together: it works on the first of a long request while the next are decoded."""
CALLS_UNDER_WAY = 4
"""Of one request to an encoder of images: enough to keep it busy; more would only hold more fitted images in memory."""

R = TypeVar("R")
T = TypeVar("T", bound=Hashable)
Pair: TypeAlias = tuple[ImageSource, str]
"""An image and the text that is held against it."""


@dataclass(slots=True)
class StageSeconds:
    """Seconds of wall time that steps of the request took."""

    decode: float = 0.0
    preprocess: float = 0.0
    queue: float = 0.0
    compute: float = 0.0


@dataclass(frozen=True, slots=True)
class SessionTools:
    """What every request of a process shares."""

    compute: Compute
    rows: EncodingCache
    pools: CpuPools
    policy: DecodePolicy
    decoded: DecodedImages


class RequestSession:
    """Rows of one request, each made at most once.

    An image is known by its content, so that the same bytes sent twice are one image. What is wrong with one image
    or text is a value among the rows; only what stops the whole request is raised.
    """

    def __init__(self, tools: SessionTools, deadline: Deadline, *, on_stage: OnStage) -> None:
        self.stage_seconds = StageSeconds()
        self.joined = Joined()
        self._spending = threading.Lock()
        self._tools = tools
        self._deadline = deadline
        self._on_stage = on_stage
        self._decode, self._tokenise = tools.pools.decode.turns(), tools.pools.tokenise.turns()
        self._score = tools.pools.score.turns()
        self._decoded = tools.decoded.open()
        self._pictures: dict[ImageSource, RequestImage | PlumblineError] = {}
        self._rows: dict[EncodingKey, EncodingOrError] = {}

    def close(self) -> None:
        """Let go of what is decoded, and of what is decoded only after this."""
        self._decoded.close()

    async def open(self, images: Sequence[ImageSource]) -> None:
        """Open and name images, which `image_encodings` and `pair_encodings` may then be asked about."""
        new = [image for image in dict.fromkeys(images) if image not in self._pictures]
        open_one = partial(open_image, policy=self._tools.policy, decoded=self._decoded)
        opened = [open_one(image) for image in new] if are_quick(new) else await self._decode.each(open_one, new)
        self._pictures.update(zip(new, opened, strict=True))

    async def image_encodings(
        self, encoder: Encoder, images: Sequence[ImageSource]
    ) -> Mapping[ImageSource, EncodingOrError]:
        """Rows of images; those that are not at hand are decoded and fitted first."""
        pictures = {image: self._pictures[image] for image in images}
        named = {image: _name(encoder, picture) for image, picture in pictures.items()}
        picture_of = {
            name: picture
            for name, picture in zip(named.values(), pictures.values(), strict=True)
            if isinstance(name, EncodingKey) and isinstance(picture, RequestImage)
        }

        turn = asyncio.Semaphore(CALLS_UNDER_WAY)

        async def make_some(names: Sequence[EncodingKey]) -> Sequence[EncodingOrError]:
            async with turn:
                return await self._encode(
                    encoder, await self._preprocess_images(encoder, [picture_of[name] for name in names])
                )

        async def make(names: Sequence[EncodingKey]) -> Sequence[EncodingOrError]:
            parts = (names[first : first + IMAGES_A_CALL] for first in range(0, len(names), IMAGES_A_CALL))
            return [row for rows in await together(make_some(part) for part in parts) for row in rows]

        return await self._look_up(named, make)

    async def text_encodings(self, encoder: Encoder, texts: Sequence[str]) -> Mapping[str, EncodingOrError]:
        """Rows of texts."""
        named = {text: encoding_key(encoder, _utf8(text)) for text in texts}
        text_of = {name: text for text, name in named.items()}

        async def make(names: Sequence[EncodingKey]) -> Sequence[EncodingOrError]:
            return await self._encode_raw(encoder, [text_of[name] for name in names])

        return await self._look_up(named, make)

    async def pair_encodings(
        self, encoder: Encoder, pairs: Sequence[Pair], images: Mapping[ImageSource, EncodingOrError]
    ) -> Mapping[Pair, EncodingOrError]:
        """Rows of image and text together, from the rows of the images; an image's error is its pairs' error."""
        named = {
            (image, text): row
            if isinstance(row := images[image], PlumblineError)
            else _name(encoder, self._pictures[image], _utf8(text))
            for image, text in pairs
        }
        pair_of = {name: pair for pair, name in named.items() if isinstance(name, EncodingKey)}

        async def make(names: Sequence[EncodingKey]) -> Sequence[EncodingOrError]:
            chosen = [pair_of[name] for name in names]
            return await self._encode_raw(
                encoder, [PairInput(text, image_encoding=images[image]) for image, text in chosen]
            )

        return await self._look_up(named, make)

    async def read_texts(self, function: Callable[[str], R], texts: Sequence[str]) -> list[R]:
        """Call a function with each text, off the event loop and as many at a time as leave others their turn."""
        return await self._tokenise.each(function, texts)

    async def on_thread(self, function: Callable[..., R], *args: Any) -> R:
        """Work out scores off the event loop, behind neither images nor texts."""
        return await self._score.run(function, *args)

    async def _look_up(
        self, named: Mapping[T, EncodingKey | PlumblineError], make: Make
    ) -> Mapping[T, EncodingOrError]:
        names = dict.fromkeys(name for name in named.values() if isinstance(name, EncodingKey))
        if wanted := [name for name in names if name not in self._rows]:
            self._rows.update(await self._tools.rows.get(wanted, make, self._deadline, joined=self.joined))
        return {key: self._rows[name] if isinstance(name, EncodingKey) else name for key, name in named.items()}

    async def _preprocess_images(
        self, encoder: Encoder, pictures: Sequence[RequestImage]
    ) -> list[Preprocessed | PlumblineError]:
        """Decode and fit each on a thread, while the encoder knows that they are on their way."""
        compute = self._tools.compute
        compute.expect(encoder.key, len(pictures))
        try:
            fits = (self._decode.run(self._fit, picture, encoder) for picture in pictures)
            return await asyncio.gather(*fits)
        finally:
            compute.expect(encoder.key, -len(pictures))

    def _fit(self, picture: RequestImage, encoder: Encoder) -> Preprocessed | PlumblineError:
        if self._deadline.has_passed:
            return self._deadline.error("decode")
        return picture.preprocess(encoder, self._spend)

    def _spend(self, stage: str, seconds: float) -> None:
        with self._spending:  # images are decoded and fitted on several threads
            if stage == "decode":
                self.stage_seconds.decode += seconds
            else:
                self.stage_seconds.preprocess += seconds
        self._on_stage(stage, seconds)

    async def _encode_raw(self, encoder: Encoder, raw: Sequence[str | PairInput]) -> list[EncodingOrError]:
        return await self._encode(encoder, await self._tokenise.each(partial(self._preprocess, encoder), raw))

    def _preprocess(self, encoder: Encoder, raw: str | PairInput) -> Preprocessed | PlumblineError:
        return self._deadline.error("tokenise") if self._deadline.has_passed else attempt(encoder.preprocess, raw)

    async def _encode(
        self, encoder: Encoder, preprocessed: Sequence[Preprocessed | PlumblineError]
    ) -> list[EncodingOrError]:
        """Rows of what could be prepared; the errors of the rest in their places."""
        sound = [each for each in preprocessed if not isinstance(each, PlumblineError)]
        if not sound:
            return list(preprocessed)
        encoded = await self._tools.compute.encode(encoder.key, sound, self._deadline)
        self.stage_seconds.queue = max(self.stage_seconds.queue, encoded.queue_s)
        self.stage_seconds.compute = max(self.stage_seconds.compute, encoded.compute_s)
        rows = iter(encoded.rows)
        return [each if isinstance(each, PlumblineError) else next(rows) for each in preprocessed]


def _name(encoder: Encoder, picture: RequestImage | PlumblineError, *more: bytes) -> EncodingKey | PlumblineError:
    return picture if isinstance(picture, PlumblineError) else encoding_key(encoder, picture.digest, *more)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
