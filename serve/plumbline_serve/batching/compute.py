"""Where encoders run, as a request sees it: in this process, each behind a batcher, or one hop away."""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

from plumbline_models.core.errors import EngineError, NotReadyError
from plumbline_models.core.protocols import Encoder, EncoderInfo, Preprocessed
from plumbline_serve.batching.batcher import Batcher, BatchLimits
from plumbline_serve.batching.cores import TURNS_PER_STREAM, Cores
from plumbline_serve.batching.load import EncoderLoad
from plumbline_serve.batching.observer import BatchObserver
from plumbline_serve.batching.runner import EncodedBatch
from plumbline_serve.batching.siblings import Siblings
from plumbline_serve.memory.free_memory import trimmer
from plumbline_serve.scheduling.request_context import RequestContext

log = logging.getLogger(__name__)
GroupState: TypeAlias = Literal["ready", "asleep", "away"]
"""Of a group of encoders: it does its work, it is started by the first call, or it cannot be reached."""


class Compute(Protocol):
    """Runs encoders by key."""

    async def encode(self, key: str, inputs: Sequence[Preprocessed], context: RequestContext) -> EncodedBatch:
        """Encode inputs, sharing batches with every other caller.

        Args:
            key: Of the encoder.
            inputs: As the encoder preprocesses them.
            context: Of the request that they belong to.

        Raises:
            OverloadedError: The encoder's queue has no room for them, or they would be done too late.
            NotReadyError: The encoder is not loaded yet.
        """
        ...

    def load(self, key: str) -> EncoderLoad | None:
        """How busy an encoder is; None where that is not known."""
        ...

    def reserve(self, key: str, context: RequestContext, num_inputs: int) -> None:
        """Give a request its place in an encoder's queue before its inputs are there; `release` ends that.

        Args:
            key: Of the encoder.
            context: Of the request.
            num_inputs: That are to come.
        """
        ...

    def release(self, context: RequestContext) -> None:
        """Nothing further comes of a request, for any encoder."""
        ...

    def expect(self, key: str, context: RequestContext, num_inputs: int) -> None:
        """Announce inputs that are being preprocessed, so that a batch may wait for them a little.

        Args:
            key: Of the encoder.
            context: Of their request.
            num_inputs: A negative number takes an announcement back.
        """
        ...

    @property
    def is_ready(self) -> bool:
        """Whether encoders are loaded, can be reached, and do their work."""
        ...

    @property
    def groups(self) -> Mapping[str, GroupState]:
        """How each group of encoders is, by name; empty where they are in this process."""
        ...

    async def infos(self) -> Sequence[EncoderInfo]:
        """What is loaded."""
        ...


class LocalCompute:
    """Runs the encoders that this process loaded; bound to the event loop that `start` ran on.

    Args:
        encoders: Not loaded yet.
        limits: Of each encoder's batches.
        observer: Hears of every batch.
        make_batcher: Makes the batcher of an encoder, of what `Batcher` takes.
    """

    def __init__(
        self,
        encoders: Iterable[Encoder],
        limits: BatchLimits,
        observer: BatchObserver,
        *,
        make_batcher: Callable[..., Batcher] = Batcher,
    ) -> None:
        self._make_batcher = make_batcher
        self._encoders = {encoder.key: encoder for encoder in encoders}
        self._limits = limits
        self._observer = observer
        self._batchers: dict[str, Batcher] = {}

    async def start(self) -> None:
        """Load, compile and warm every encoder, several at a time, and what they preprocess with, then take work.

        Raises:
            SetupError: One of them cannot be loaded.
        """
        encoders, done = self._encoders.values(), itertools.count(1)

        async def load(encoder: Encoder) -> float:
            took_s = await asyncio.to_thread(_load, encoder)
            info = encoder.info()
            log.info(
                "%d of %d encoders ready: %s of %s, by %s in %s, after %.1f s.",
                *(next(done), len(encoders), info.kind, info.arch, info.backend, info.precision, took_s),
            )
            return took_s

        took_s = await asyncio.gather(*map(load, encoders))
        if (give_back := trimmer()) is not None:  # what loading took and no longer holds: 30 MiB for the embedded four
            await asyncio.to_thread(give_back)
        infos = {encoder.key: encoder.info() for encoder in encoders}
        streams = [info.num_streams for info in infos.values() if info.device == "cpu"]
        siblings, cores = Siblings(), Cores(TURNS_PER_STREAM * max(streams, default=1))
        self._batchers = {
            encoder.key: self._make_batcher(
                encoder,
                self._limits,
                self._observer,
                load_s=load_s,
                siblings=siblings,
                cores=cores if infos[encoder.key].device == "cpu" else None,
            )
            for encoder, load_s in zip(encoders, took_s, strict=True)
        }

    @property
    def is_ready(self) -> bool:
        """As `Compute.is_ready`."""
        return len(self._batchers) == len(self._encoders) and not self._failing()

    @property
    def groups(self) -> Mapping[str, GroupState]:
        """As `Compute.groups`."""
        return {}

    def check_alive(self) -> None:
        """See that every batcher still takes work, and that its encoder does it.

        Raises:
            EngineError: One has stopped, is stuck, or fails on every batch; the process should be replaced.
        """
        if failing := self._failing():
            raise EngineError("An encoder has stopped answering.", encoders=failing)

    async def encode(self, key: str, inputs: Sequence[Preprocessed], context: RequestContext) -> EncodedBatch:
        """As `Compute.encode`."""
        return await self._batcher(key).encode(inputs, context)

    def load(self, key: str) -> EncoderLoad | None:
        """As `Compute.load`."""
        batcher = self._batchers.get(key)
        return None if batcher is None else batcher.load

    def loads(self) -> dict[str, EncoderLoad]:
        """How busy each encoder is, by key."""
        return {key: batcher.load for key, batcher in self._batchers.items()}

    def reserve(self, key: str, context: RequestContext, num_inputs: int) -> None:
        """As `Compute.reserve`."""
        if batcher := self._batchers.get(key):
            batcher.reserve(context, num_inputs)

    def release(self, context: RequestContext) -> None:
        """As `Compute.release`."""
        for batcher in self._batchers.values():
            batcher.release(context)

    def expect(self, key: str, context: RequestContext, num_inputs: int) -> None:
        """As `Compute.expect`."""
        if batcher := self._batchers.get(key):
            batcher.expect(context, num_inputs)

    async def infos(self) -> Sequence[EncoderInfo]:
        """As `Compute.infos`."""
        return [encoder.info() for encoder in self._encoders.values()]

    async def close(self) -> None:
        """Stop every batcher."""
        await asyncio.gather(*(batcher.close() for batcher in self._batchers.values()))

    def _failing(self) -> list[str]:
        return [key for key, batcher in self._batchers.items() if not batcher.is_alive]

    def _batcher(self, key: str) -> Batcher:
        if batcher := self._batchers.get(key):
            return batcher
        if key in self._encoders:
            raise NotReadyError("The service is still loading.", encoder=key)
        raise EngineError("The service has no such encoder.", encoder=key)


def _load(encoder: Encoder) -> float:
    """Load; the seconds that it took."""
    started = time.monotonic()
    encoder.load_preprocessing()
    encoder.load()
    return time.monotonic() - started
