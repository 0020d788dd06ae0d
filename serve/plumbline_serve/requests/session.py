"""A request's shared state while it runs: each image opened and decoded once, each encoding computed once.

Whatever scorer asks, the steps are the same: open, look up, decode and preprocess what is claimed, encode, publish.
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from plumbline_models.core.errors import DeadlineExceededError, PlumblineError
from plumbline_models.core.protocols import Embedded, Encoder, PairInput, Preprocessed, Score, Scorer
from plumbline_models.images.image_decoder import ImageDecoder
from plumbline_serve.batching import Compute
from plumbline_serve.drift import LiveWindows
from plumbline_serve.encoding_cache import Claim, EncodingCache, EncodingKey, EncodingOrError
from plumbline_serve.messages import ImageSource, ScoreOrError, Timing, UrlImage
from plumbline_serve.requests.admission import IMAGES_PER_CALL, Admission, Want
from plumbline_serve.requests.images import (
    DecodedImages,
    RequestImage,
    are_quick,
    attempt,
    open_image,
    opening_work,
)
from plumbline_serve.requests.inputs import Input, Need, Pair, key_of, reading_work, scoring_work, work_of
from plumbline_serve.requests.views import engine_key
from plumbline_serve.scheduling.concurrency import together
from plumbline_serve.scheduling.cpu_pools import CpuPools
from plumbline_serve.scheduling.request_context import RequestContext
from plumbline_serve.scheduling.turns import Turns

if TYPE_CHECKING:
    from plumbline_serve.fetching import UrlFetcher

CALLS_UNDER_WAY = 4
"""Of one request to an encoder of images: enough to keep it busy; more would only hold more images in memory."""

R = TypeVar("R")
T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, slots=True)
class SessionTools:
    """What all requests of a process share."""

    compute: Compute
    cache: EncodingCache
    pools: CpuPools
    decoder: ImageDecoder
    decoded: DecodedImages
    admission: Admission
    turns: Turns = field(default_factory=Turns)
    fetcher: "UrlFetcher | None" = None
    """None: images by URL are refused."""
    windows: LiveWindows | None = None
    """Counts the scores given; None: nobody watches them."""


@dataclass(slots=True)
class StageSeconds:
    """Seconds of wall time that the steps of a request took."""

    decode: float = 0.0
    preprocess: float = 0.0
    queue: float = 0.0
    compute: float = 0.0


class SessionObserver(Protocol):
    """What a session tells the metrics."""

    def stage(self, stage: str, seconds: float) -> None:
        """A stage has handled an image; called from several threads.

        Args:
            stage: `fetch`, `decode`, or `fit`: preprocessing.
            seconds: What it took.
        """
        ...

    def expired(self, stage: str) -> None:
        """A deadline passed in this stage."""
        ...


class RequestSession:
    """The encodings of one request, each computed at most once; bound to one event loop.

    An image is known by its content, so that the same bytes sent twice are one image. What is wrong with one image
    or text is a value among the encodings; only what stops the whole request is raised.

    Within `async with` the deadline holds: once it passes, work that still waits is dropped, and the block ends with a
    `DeadlineExceededError`. In the end the session lets go of all that it has.

    Args:
        tools: What requests share.
        context: Who asks, how urgently and until when.
        observer: Hears how long each image took, and of a deadline that passed.
    """

    def __init__(self, tools: SessionTools, context: RequestContext, observer: SessionObserver) -> None:
        self.stage_seconds = StageSeconds()
        self._started = time.perf_counter()
        self.tools = tools
        self.context = context
        self._observer = observer
        at_s = context.deadline.at_s
        self._timeout = asyncio.timeout_at(at_s if math.isfinite(at_s) else None)
        self._adding = threading.Lock()
        self._decoded = tools.decoded.open()
        self._fetches = tools.fetcher.open(partial(observer.stage, "fetch")) if tools.fetcher else None
        self._images: dict[ImageSource, RequestImage | PlumblineError] = {}
        self._encodings: dict[EncodingKey, EncodingOrError] = {}
        self._keys: dict[tuple[Encoder, ImageSource | str | Pair], EncodingKey | PlumblineError] = {}
        self._is_admitted = False

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError as late:
            raise self._expired() from late
        finally:
            self._close(is_done=error is None)
        if isinstance(error, TimeoutError):
            raise self._expired() from error
        if isinstance(error, DeadlineExceededError) and (stage := str(error.facts.get("stage"))) != "queue":
            self._observer.expired(stage)  # in a queue each input is counted

    def timing(self) -> Timing:
        """Where the request's time went so far."""
        spent = self.stage_seconds
        return Timing(
            decode=(spent.decode + spent.preprocess) * 1000,
            queue=spent.queue * 1000,
            compute=spent.compute * 1000,
            total=(time.perf_counter() - self._started) * 1000,
        )

    async def open(self, images: Sequence[ImageSource]) -> None:
        """Open images, which `image_encodings` and `pair_encodings` may then be asked about."""
        new = [image for image in dict.fromkeys(images) if image not in self._images]
        sources = await self._fetched(new)
        exactly = self.context.is_deterministic
        open_one = partial(open_image, decoder=self.tools.decoder, decoded=self._decoded, exactly=exactly)
        if are_quick(sources):
            opened = [open_one(image) for image in sources]
        else:
            works = [opening_work(image) for image in sources]
            opened = await self.tools.pools.decode.each(open_one, sources, context=self.context, works=works)
        self._images.update(zip(new, opened, strict=True))

    def opened(self, image: ImageSource) -> RequestImage | PlumblineError:
        """An image that is open, or what is wrong with it."""
        return self._images[image]

    async def admit(self, needs: Iterable[Need]) -> None:
        """See, once, that the request can be done in time, as far as encodings are neither stored nor in flight.

        Where there is something to do, that waits for the request's turn.

        Args:
            needs: All that it will ask for; the images are open.

        Raises:
            OverloadedError: It cannot, or could not any more when there was room for it.
        """
        if self._is_admitted:
            return
        self._is_admitted = True
        wants: dict[str, Want] = {}
        admission, busiest = self.tools.admission, self.tools.admission.busiest
        for encoder, inputs in sorted(needs, key=lambda need: need[0] is not busiest):
            keys = {key: each for each in inputs if isinstance(key := self._key(encoder, each), EncodingKey)}
            for key in self.tools.cache.missing(keys, self.context):
                want = wants.get(key.encoder) or wants.setdefault(key.encoder, Want(key.encoder, encoder))
                want.decode_s.setdefault(key, self._decode_s(encoder, keys[key]))
            if encoder is busiest and wants:
                admission.check(self.context, next(iter(wants.values())))
        if wants:
            line = admission.admit(self.context, list(wants.values()))
            try:
                await self.tools.turns.begin(self.context, line)
            except TimeoutError:
                self._observer.expired("forecast")
                raise admission.too_late(self.context) from None

    async def image_encodings(
        self, encoder: Encoder, images: Sequence[ImageSource]
    ) -> Mapping[ImageSource, EncodingOrError]:
        """Encodings of images, or what is wrong with them.

        Args:
            encoder: Of images.
            images: They are open.
        """
        keys = {image: self._key(encoder, image) for image in images}
        inputs = {key: self._images[image] for image, key in keys.items() if isinstance(key, EncodingKey)}
        await self._look_up(encoder, inputs)
        return self._of(keys)

    async def text_encodings(self, encoder: Encoder, texts: Sequence[str]) -> Mapping[str, EncodingOrError]:
        """Encodings of texts, or what is wrong with them.

        Args:
            encoder: Of texts.
            texts: Within the limits.
        """
        keys = {text: self._key(encoder, text) for text in texts}
        await self._look_up(encoder, {key: text for text, key in keys.items() if isinstance(key, EncodingKey)})
        return self._of(keys)

    async def pair_encodings(
        self, encoder: Encoder, pairs: Sequence[Pair], images: Mapping[ImageSource, EncodingOrError]
    ) -> Mapping[Pair, EncodingOrError]:
        """Encodings of image and text together; an image's error is its pairs' error.

        Args:
            encoder: Of pairs.
            pairs: Their images are open.
            images: The encodings of the images, which the encoder starts from.
        """
        failed = {image: each for image, each in images.items() if isinstance(each, PlumblineError)}
        keys = {pair: failed.get(pair.image) or self._key(encoder, pair) for pair in pairs}
        inputs = {
            key: PairInput(pair.text, images[pair.image], pair.template)
            for pair, key in keys.items()
            if isinstance(key, EncodingKey)
        }
        await self._look_up(encoder, inputs)
        return self._of(keys)

    async def read_texts(self, function: Callable[[str], R], texts: Sequence[str]) -> list[R]:
        """Call a function with each text, off the event loop but for a few short ones, in turns with other requests.

        Args:
            function: Reads one text.
            texts: In order.
        """
        works = [reading_work("read", text) for text in texts]
        return await self.tools.pools.tokenise.each(function, texts, context=self.context, works=works)

    async def score(self, scorer: Scorer, batch: Embedded) -> Sequence[ScoreOrError]:
        """Compute scores, more than a few off the event loop, behind neither images nor texts.

        Args:
            scorer: Computes them.
            batch: From what.
        """
        work = scoring_work(scorer.info.name, batch)
        return await self.tools.pools.score.run(scorer.score, batch, context=self.context, work=work)

    def given(self, scorer: str, image: ImageSource | None, score: ScoreOrError) -> None:
        """Have a score be counted where scores are watched.

        Args:
            scorer: That gave it, as `counted_as` has it.
            image: Of what.
            score: What it gave.
        """
        if self.tools.windows is None or not isinstance(score, Score):
            return
        opened, looks = None if image is None else self._images.get(image), self.tools.decoded.looks
        look = looks.get(opened.digest) if looks is not None and isinstance(opened, RequestImage) else None
        self.tools.windows.scored(scorer, score.value, look)

    def _expired(self) -> DeadlineExceededError:
        self._observer.expired("request")
        return self.context.deadline.error("request")

    def _close(self, *, is_done: bool) -> None:
        """Let go of its places, of what is fetched and decoded, and of what is decoded only after this."""
        self.tools.admission.release(self.context, is_done=is_done)
        self.tools.turns.end(self.context)
        self._decoded.close()
        if self._fetches is not None:
            self._fetches.close()

    async def _fetched(self, images: Sequence[ImageSource]) -> Sequence[ImageSource]:
        """The images, those by URL replaced by their files, or by what is wrong with them."""
        urls = [image for image in images if isinstance(image, UrlImage)]
        if self._fetches is None or not urls:
            return images
        files = dict(zip(urls, await self._fetches.each(urls), strict=True))
        return [files[image] if isinstance(image, UrlImage) else image for image in images]

    async def _look_up(self, encoder: Encoder, inputs: Mapping[EncodingKey, Any]) -> None:
        """Put the encodings of inputs into `_encodings`: stored, in flight for another request, or computed here."""
        while wanted := [key for key in inputs if key not in self._encodings]:
            claim = self.tools.cache.claim(wanted, self.context)
            if claim.mine:
                claim.start(self._compute(encoder, claim, [inputs[key] for key in claim.mine]))
            self._encodings |= await claim.encodings()
            self.stage_seconds.queue = max(self.stage_seconds.queue, claim.joined_s)

    async def _compute(self, encoder: Encoder, claim: Claim, inputs: Sequence[Input]) -> None:
        """Compute what is claimed, images some at a time, and publish it."""
        size = IMAGES_PER_CALL if encoder.kind == "image" else len(inputs)
        if len(inputs) <= size:
            claim.publish(await self._encode(encoder, await self._preprocess(encoder, inputs)))
            return
        turn = asyncio.Semaphore(CALLS_UNDER_WAY)
        parts = (inputs[first : first + size] for first in range(0, len(inputs), size))
        encoded = await together(self._compute_part(encoder, part, turn) for part in parts)
        claim.publish([encoding for part in encoded for encoding in part])

    async def _compute_part(
        self, encoder: Encoder, inputs: Sequence[Input], turn: asyncio.Semaphore
    ) -> list[EncodingOrError]:
        async with turn:
            preprocessed = await self._preprocess(encoder, inputs)
            return await self._encode(encoder, preprocessed)

    async def _preprocess(self, encoder: Encoder, inputs: Sequence[Input]) -> list[Preprocessed | PlumblineError]:
        """What the encoder takes of inputs; images are decoded first, each on a thread."""
        preprocess, works = partial(self._preprocess_one, encoder), [work_of(encoder, each) for each in inputs]
        if encoder.kind != "image":
            return await self.tools.pools.tokenise.each(preprocess, inputs, context=self.context, works=works)
        key, expect = engine_key(encoder), self.tools.compute.expect  # its next batch knows that they are on their way
        expect(key, self.context, len(inputs))
        try:
            return await self.tools.pools.decode.each(preprocess, inputs, context=self.context, works=works)
        finally:
            expect(key, self.context, -len(inputs))

    def _preprocess_one(self, encoder: Encoder, given: Input) -> Preprocessed | PlumblineError:
        """Runs on a thread."""
        if isinstance(given, RequestImage):
            return given.preprocess(encoder, self._spend)
        preprocessed: Preprocessed | PlumblineError = attempt(encoder.preprocess, given)
        return preprocessed

    async def _encode(
        self, encoder: Encoder, preprocessed: Sequence[Preprocessed | PlumblineError]
    ) -> list[EncodingOrError]:
        """Encodings of what could be preprocessed; the errors of the rest in their places."""
        sound = [each for each in preprocessed if not isinstance(each, PlumblineError)]
        if not sound:
            return list(preprocessed)
        encoded = await self.tools.compute.encode(engine_key(encoder), sound, self.context)
        self.stage_seconds.queue = max(self.stage_seconds.queue, encoded.queue_s)
        self.stage_seconds.compute = max(self.stage_seconds.compute, encoded.compute_s)
        encodings = iter(encoded.encodings)
        return [each if isinstance(each, PlumblineError) else next(encodings) for each in preprocessed]

    def _spend(self, stage: str, seconds: float) -> None:
        with self._adding:  # images are decoded and preprocessed on several threads
            if stage == "decode":
                self.stage_seconds.decode += seconds
            else:
                self.stage_seconds.preprocess += seconds
        self._observer.stage(stage, seconds)

    def _key(self, encoder: Encoder, given: ImageSource | str | Pair) -> EncodingKey | PlumblineError:
        """What the encoding is known by; the error of an image that cannot be used."""
        name = encoder, given  # not its key, which some encoders work out anew each time
        if (found := self._keys.get(name)) is None:
            found = self._keys[name] = self._new_key(encoder, given)
        return found

    def _new_key(self, encoder: Encoder, given: ImageSource | str | Pair) -> EncodingKey | PlumblineError:
        is_alone = self.context.is_deterministic
        if isinstance(given, str):
            return key_of(encoder, None, given, is_alone=is_alone)
        source, text, template = given if isinstance(given, Pair) else (given, None, None)
        opened = self._images[source]
        if isinstance(opened, PlumblineError):
            return opened
        return key_of(encoder, opened, text, template=template, is_alone=is_alone)

    def _decode_s(self, encoder: Encoder, given: ImageSource | str | Pair) -> float:
        """Seconds that an image is expected to take on a thread before its encoder has it; 0 for all else."""
        opened = None if isinstance(given, str | Pair) else self._images[given]
        return self.tools.pools.decode.cost_s(opened.work(encoder)) if isinstance(opened, RequestImage) else 0.0

    def _of(self, keys: Mapping[T, EncodingKey | PlumblineError]) -> Mapping[T, EncodingOrError]:
        """The encodings under the keys, and the errors that stand in the place of one."""
        return {each: self._encodings[key] if isinstance(key, EncodingKey) else key for each, key in keys.items()}
