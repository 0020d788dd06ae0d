"""A small encoder and small scorers, in the place where real ones plug in: encodings are arithmetic on the input."""

import gc
import io
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import cast

import numpy as np
import pytest
from PIL import Image

from plumbline_models.core.errors import EngineError, ImageTooSmallError, PlumblineError
from plumbline_models.core.protocols import Embedded, EncoderInfo, EncoderKind, Origin, PairInput, Score, ScorerInfo
from plumbline_models.images.decode import DecodePolicy
from plumbline_models.images.image_decoder import ImageDecoder
from plumbline_models.images.nvjpeg import NvJpegDecoder
from plumbline_serve.batching import BatchLimits, LocalCompute
from plumbline_serve.configured_scorers import encoders_of
from plumbline_serve.encoding_cache import EncodingCache, EncodingStore
from plumbline_serve.fetching import UrlFetcher
from plumbline_serve.requests.admission import Admission
from plumbline_serve.requests.images import DecodedImages
from plumbline_serve.requests.pipeline import Pipeline
from plumbline_serve.requests.session import SessionTools
from plumbline_serve.requests.validation import Checks
from plumbline_serve.scheduling.cpu_pools import CpuPools
from plumbline_serve.settings import Limits


class Tokens(float):
    """A text, preprocessed: as long as the number that it is."""

    def __len__(self) -> int:
        return int(self)


class ArithmeticEncoder:
    """Of an image: its mean. Of a text: its length. Of a pair: the product of both."""

    max_batch_cost = 8.0

    def __init__(self, kind: EncoderKind, key: str = "") -> None:
        self.kind = kind
        self.key = key or f"arithmetic/{kind}"
        self.batches: list[list[float]] = []
        self.gate: threading.Event | None = None
        self.entered = threading.Event()
        self.poison: object = None
        self.is_broken = False
        self.awaits_a_batch: float | None = None
        self.is_loaded = False
        self.num_streams = 1

    def preprocess(self, raw):
        if isinstance(raw, PairInput):
            return float(raw.image_encoding) * len(raw.caption)
        if isinstance(raw, str):
            return Tokens(len(raw))
        if min(raw.shape[:2]) < 2:
            raise ImageTooSmallError("The image is too small.")
        mean = float(raw.mean())
        if mean == self.awaits_a_batch and not self.entered.wait(timeout=30):
            raise EngineError("No batch was encoded before all were preprocessed.")
        return mean

    def load_preprocessing(self) -> None: ...

    def bucket(self, preprocessed) -> Hashable:
        return int(preprocessed) % 2 if self.key.endswith("bucketed") else 0

    def cost(self, preprocessed) -> float:
        return 1.0

    def origin(self) -> Origin:
        return Origin(source="tests", licence="Apache-2.0", is_present=True)

    def load(self) -> None:
        self.is_loaded = True

    def info(self) -> EncoderInfo:
        return EncoderInfo(
            key=self.key, kind=self.kind, arch="arithmetic", source="tests", licence="Apache-2.0", sha256="",
            dim=1, backend="fake", precision="fp32", device="cpu", num_streams=self.num_streams,
        )  # fmt: skip

    def encode(self, batch: Sequence[float]) -> Sequence[float | PlumblineError]:
        values = [float(each) for each in batch]
        self.batches.append(values)
        self.entered.set()
        if self.gate is not None and not self.gate.wait(timeout=30):
            raise EngineError("The test never opened the gate.")
        if self.is_broken:
            raise RuntimeError("CUDA error: device-side assert triggered")
        if self.poison is not None and self.poison in batch:
            raise EngineError("This input poisons its batch.")
        return values


class MeanScorer:
    """Higher for brighter images; takes no text."""

    info = ScorerInfo(
        name="mean", summary="brightness", needs=frozenset({"image"}), low=0.0, high=255.0,
        higher_is_better=True, source="tests",
    )  # fmt: skip
    conventions = {"value": "mean"}  # noqa: RUF012 - as a protocol's member
    relative_cost = 1.0
    text = None
    pair = None

    def __init__(self) -> None:
        self.image = ArithmeticEncoder("image")

    def score(self, batch: Embedded) -> Sequence[Score | PlumblineError]:
        return [Score(float(mean)) for mean in batch.images or ()]


class ProductScorer:
    """Brightness times length; has encoders of every kind."""

    info = ScorerInfo(
        name="product", summary="brightness times length", needs=frozenset({"image", "text"}), low=0.0, high=None,
        higher_is_better=True, source="tests",
    )  # fmt: skip
    conventions = {"value": "product"}  # noqa: RUF012 - as a protocol's member
    relative_cost = 10.0

    def __init__(self, image: ArithmeticEncoder) -> None:
        self.image = image
        self.text = ArithmeticEncoder("text")
        self.pair = ArithmeticEncoder("pair")

    def score(self, batch: Embedded) -> Sequence[Score | PlumblineError]:
        columns = zip(batch.images or (), batch.captions or (), batch.pairs or (), batch.texts or (), strict=True)
        return [
            PlumblineError("Unlucky.") if text == "unlucky" else Score(pair, {"image": image, "caption": caption})
            for image, caption, pair, text in columns
        ]


class CountingObserver:
    """Writes down what batchers and pipelines say."""

    def __init__(self) -> None:
        self.batch_sizes: list[int] = []
        self.expired_stages: list[str] = []
        self.scores: list[tuple[str, object]] = []
        self.combined_scores: list[tuple[str, object]] = []
        self.guard_flags: list[object] = []
        self.failures: list[PlumblineError] = []
        self.stages: list[str] = []
        self.lookups: Counter[tuple[str, str]] = Counter()
        self.stored_bytes: dict[str, int] = {}
        self.num_queued: dict[str, int] = {}
        self.num_broken = 0
        self.num_unwanted = 0

    def queued(self, key: str, lane: str, num_items: int) -> None:
        self.num_queued[lane] = num_items

    def broke(self, key: str) -> None:
        self.num_broken += 1

    def waited(self, seconds: float) -> None: ...

    def batch(self, key: str, num_items: int, seconds: float, *, num_unwanted: int) -> None:
        self.batch_sizes.append(num_items)
        self.num_unwanted += num_unwanted

    def expired(self, stage: str) -> None:
        self.expired_stages.append(stage)

    def stage(self, stage: str, seconds: float) -> None:
        self.stages.append(stage)

    def scored(self, scorer: str, score: object) -> None:
        self.scores.append((scorer, score))

    def lookup(self, cache: str, result: str, num_lookups: int) -> None:
        self.lookups[cache, result] += num_lookups

    def kept(self, cache: str, num_bytes: int) -> None:
        self.stored_bytes[cache] = num_bytes

    def combined(self, method: str, score: object) -> None:
        self.combined_scores.append((method, score))

    def looked_at(self, flags: object) -> None:
        self.guard_flags.append(flags)

    def item_failed(self, error: PlumblineError) -> None:
        self.failures.append(error)


@pytest.fixture
def observer() -> CountingObserver:
    return CountingObserver()


@pytest.fixture
def make_encoder() -> Iterator[Callable[..., ArithmeticEncoder]]:
    made: list[ArithmeticEncoder] = []

    def make(kind: EncoderKind = "image", key: str = "") -> ArithmeticEncoder:
        made.append(ArithmeticEncoder(kind, key))
        return made[-1]

    yield make
    for encoder in made:
        if encoder.gate is not None:
            encoder.gate.set()


@pytest.fixture
def scorers() -> dict[str, MeanScorer | ProductScorer]:
    mean = MeanScorer()
    return {"product": ProductScorer(mean.image), "mean": mean}


@pytest.fixture
async def open_pipeline(scorers, observer) -> AsyncIterator[Callable[..., Awaitable[Pipeline]]]:
    """Pipelines over the small scorers; they keep encodings only where they are given bytes for them."""
    async with AsyncExitStack() as stack:

        async def open_one(
            *,
            decoded_bytes: int = 2**20,
            max_queued: int = 1000,
            max_wait_s: float = 60.0,
            fetcher: UrlFetcher | None = None,
            policy: DecodePolicy | None = None,
            nvjpeg: NvJpegDecoder | None = None,
            num_decoders: int = 2,
            **max_bytes: int,
        ) -> Pipeline:
            limits = BatchLimits(max_queued=max_queued, max_linger_s=0.0)
            compute = LocalCompute(encoders_of(scorers.values()), limits, observer)
            await compute.start()
            stack.push_async_callback(compute.close)
            pools = CpuPools.of(num_decoders)
            stack.callback(pools.close)
            decoder = ImageDecoder(policy or DecodePolicy(max_bytes=10_000, max_pixels=10_000), nvjpeg=nvjpeg)
            stack.callback(decoder.close)
            tools = SessionTools(
                compute=compute,
                cache=EncodingCache(EncodingStore(cast("dict[EncoderKind, int]", max_bytes)), observer),
                pools=pools,
                decoder=decoder,
                decoded=DecodedImages(decoded_bytes),
                admission=Admission(compute, pools.decode, max_wait_s=max_wait_s),
                fetcher=fetcher,
            )
            checks = Checks(Limits(max_items=10, max_text_chars=20), scorers)
            return Pipeline(scorers, checks, tools=tools, observer=observer)

        yield open_one


def grey_png(value: int, size: int = 4) -> bytes:
    """A plain grey PNG."""
    out = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), value, np.uint8)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def png() -> Callable[..., bytes]:
    return grey_png


@pytest.fixture
def no_collector():
    """What ends without the collector has no cycle."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
