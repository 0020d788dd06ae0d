"""Images a second from JPEG bytes to scores, and how long they take at 70 % of that, through the service's batcher."""

import asyncio
import importlib.util
import io
import itertools
import os
import time
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from loadtests.gpu.shapes import Measured
from loadtests.service.open_loop import offer_all, poisson
from loadtests.service.percentiles import in_ms
from plumbline_models.backends import FakeBackend
from plumbline_models.core.arrays import Array, Pixels
from plumbline_models.core.engines import Backend, Engine
from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.graph import Graph
from plumbline_models.core.protocols import EncoderKind, Origin
from plumbline_models.core.weights import Seek
from plumbline_models.images.preprocess_pixels import preprocess_pixels
from plumbline_models.images.preprocess_spec import PreprocessSpec
from plumbline_models.networks.compiled_encoder import CompiledEncoder, NetworkFacts
from plumbline_serve.batching import Batcher, BatchLimits
from plumbline_serve.scheduling.request_context import Priority, RequestContext

SIDE_PX = 512
NUM_JPEGS = 256
"""Distinct ones; nothing is kept between images, so they may come again."""
LOAD = 0.7
THREADS_BY_NVJPEG = 32
"""They wait for the GPU, so there may be more of them than CPUs: as many as one batch of it takes."""


@dataclass(frozen=True)
class Offered:
    """How much is sent.

    Args:
        num_images: All at once, for the rate.
        num_requests: One by one, for how long they take.
    """

    num_images: int = 4096
    num_requests: int = 4000


@dataclass(frozen=True)
class _Random:
    """Weights that come from nowhere."""

    sha256: str = "random"

    @property
    def origin(self) -> Origin:
        """Nowhere."""
        return Origin("random", "none", is_present=True)

    def check(self, seek: Seek) -> None:
        """There is nothing to look at."""


class _Tower(CompiledEncoder[Any, Pixels, Array]):
    """The measured tower as an encoder, on an engine that is there already."""

    kind: EncoderKind = "image"
    warm_up_sizes: ClassVar[Sequence[int]] = (1,)

    def __init__(self, measured: Measured, engine: Engine) -> None:
        super().__init__(_Random(), FakeBackend)
        self._measured = measured
        self._engine = engine
        self._spec = PreprocessSpec.from_config({"size": measured.graph.inputs[0].shape[1:3]})

    @property
    def key(self) -> str:
        return self._measured.label

    @property
    def max_batch_cost(self) -> float:
        return float(self._max_inputs())

    def bucket(self, preprocessed: Pixels) -> Hashable:
        del preprocessed
        return None

    def cost(self, preprocessed: Pixels) -> float:
        del preprocessed
        return 1.0

    def _max_inputs(self) -> int:
        return self._measured.batches[-1]

    def _preprocess(self, raw: Pixels) -> Pixels:
        return preprocess_pixels(raw, self._spec)

    def _usual_input(self) -> Pixels:
        return self._preprocess(np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8))

    def _graph(self) -> Graph:
        return self._measured.graph

    def _compile(self, backend: Backend) -> Engine:
        del backend
        return self._engine

    def _collate(self, part: Sequence[Pixels]) -> Mapping[str, Array]:
        return {"pixels": np.stack(part)}

    def _read(self, preprocessed: Pixels, outputs: Mapping[str, Array]) -> Array:
        del preprocessed
        return outputs["values"]

    def _facts(self) -> NetworkFacts:
        return NetworkFacts(arch=self.key, sha256="", dim=0, notes={})


class _Unheard:
    """Nobody hears of batches."""

    def queued(self, key: str, lane: Priority, num_items: int) -> None: ...

    def batch(self, key: str, num_items: int, seconds: float, *, num_unwanted: int) -> None: ...

    def broke(self, key: str) -> None: ...

    def waited(self, seconds: float) -> None: ...

    def expired(self, stage: str) -> None: ...


def measure(measured: Measured, engine: Engine, offered: Offered, *, device: int | None) -> dict[str, Any]:
    """Score JPEGs of 512x512 pixels with a tower that was measured, decoded by CPUs and by nvJPEG.

    Args:
        measured: The tower.
        engine: That runs it.
        offered: How much is sent.
        device: Where nvJPEG decodes; None: nvImageCodec on the CPU.

    Returns:
        Rate and latencies, and the rate with nvJPEG; None where it cannot be used.
    """
    tower = _Tower(measured, engine)
    tower.load()
    jpegs = [_jpeg(seed) for seed in range(NUM_JPEGS)]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        row = asyncio.run(_measure(tower, _sender(tower, _decode, threads), jpegs, offered))
    return row | {"images_a_second_by_nvjpeg": _rate_by_nvjpeg(tower, jpegs, offered, device)}


def _rate_by_nvjpeg(tower: _Tower, jpegs: Sequence[bytes], offered: Offered, device: int | None) -> float | None:
    if any(importlib.util.find_spec(name) is None for name in ("simplejpeg", "nvidia", "nvidia.nvimgcodec")):
        return None
    from plumbline_models.images.decode import DecodePolicy  # noqa: PLC0415 - simplejpeg, where it is there
    from plumbline_models.images.image_decoder import ImageDecoder  # noqa: PLC0415 - likewise
    from plumbline_models.images.nvjpeg import NvJpegDecoder  # noqa: PLC0415 - likewise

    nvjpeg = NvJpegDecoder(device=device)
    decoder = ImageDecoder(DecodePolicy(), nvjpeg=nvjpeg)
    try:
        if not nvjpeg.settle():
            return None
        with ThreadPoolExecutor(THREADS_BY_NVJPEG) as threads:
            few = Offered(offered.num_images, num_requests=1)
            row = asyncio.run(_measure(tower, _sender(tower, decoder.decode, threads), jpegs, few))
        return float(row["images_a_second"]) if nvjpeg.is_ready else None
    finally:
        decoder.close()


async def _measure(
    tower: _Tower, send: Callable[[bytes], Awaitable[Pixels]], jpegs: Sequence[bytes], offered: Offered
) -> dict[str, Any]:
    most = max(len(jpegs), offered.num_images, offered.num_requests)  # all of these may wait: the tower may be slow
    limits = BatchLimits(max_queued=most, max_linger_s=0.01)
    batcher = Batcher(tower, limits, _Unheard())

    async def score(jpeg: bytes) -> float:
        encoded = await batcher.encode([await send(jpeg)], RequestContext())
        image = _require(encoded.encodings[0])
        return 2.5 * max(0.0, float(np.dot(image, np.full_like(image, 0.01))))  # of some caption

    try:
        await asyncio.gather(*map(score, jpegs))  # fills threads and memory
        started = time.perf_counter()
        await asyncio.gather(*map(score, itertools.islice(itertools.cycle(jpegs), offered.num_images)))
        rate = offered.num_images / (time.perf_counter() - started)
        due = itertools.islice(poisson(LOAD * rate), offered.num_requests)
        latencies_s = await offer_all(_senders(score, jpegs), due)
    finally:
        await batcher.close()
    return {"graph": tower.key, "images_a_second": rate, "load": LOAD, **in_ms(latencies_s)}


def _senders(
    score: Callable[[bytes], Awaitable[float]], jpegs: Sequence[bytes]
) -> Iterator[Callable[[], Awaitable[object]]]:
    for jpeg in itertools.cycle(jpegs):
        yield partial(score, jpeg)


def _require(encoding: Array | PlumblineError) -> Array:
    if isinstance(encoding, PlumblineError):
        raise encoding
    return encoding


def _sender(
    tower: _Tower, decode: Callable[[bytes], Pixels], threads: ThreadPoolExecutor
) -> Callable[[bytes], Awaitable[Pixels]]:
    """What decodes and preprocesses a JPEG on one of the threads."""

    async def send(jpeg: bytes) -> Pixels:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads, lambda: tower.preprocess(decode(jpeg)))

    return send


def _decode(jpeg: bytes) -> Pixels:
    with Image.open(io.BytesIO(jpeg)) as image:
        return np.asarray(image.convert("RGB"))


def _jpeg(seed: int) -> bytes:
    small = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(small).resize((SIDE_PX, SIDE_PX)).save(stream, "JPEG", quality=90)
    return stream.getvalue()
