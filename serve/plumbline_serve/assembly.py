"""Puts the parts of one process together: encoders, pipeline and service; no Ray."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from plumbline_models.core.protocols import Encoder, Scorer
from plumbline_models.images.decode import DecodePolicy
from plumbline_models.images.image_decoder import ImageDecoder
from plumbline_serve.batching import Batcher, BatchLimits, Compute, LocalCompute
from plumbline_serve.configured_scorers import encoders_of, make_scorers, num_cpus
from plumbline_serve.drift import DriftMonitor, KeptCounts, LiveWindows, Reference, Slices
from plumbline_serve.encoding_cache import EncodingCache, EncodingStore
from plumbline_serve.memory.bytes_in_flight import BytesInFlight
from plumbline_serve.memory.free_memory import FreeMemory
from plumbline_serve.metrics import Instruments, Snapshot, exposition
from plumbline_serve.requests.admission import Admission
from plumbline_serve.requests.binding import Bindings
from plumbline_serve.requests.calibrating import Calibrations
from plumbline_serve.requests.classifying import Classifiers
from plumbline_serve.requests.disclosure import Disclosure
from plumbline_serve.requests.guarding import Guards
from plumbline_serve.requests.images import DecodedImages
from plumbline_serve.requests.looks import ImageLooks
from plumbline_serve.requests.pipeline import Pipeline
from plumbline_serve.requests.reference_sets import ReferenceSets
from plumbline_serve.requests.service import CoreService
from plumbline_serve.requests.session import SessionTools
from plumbline_serve.requests.validation import Checks
from plumbline_serve.requests.watching import References
from plumbline_serve.scheduling.cpu_pools import CpuPools
from plumbline_serve.settings import Settings

if TYPE_CHECKING:
    from plumbline_serve.fetching import UrlFetcher
    from plumbline_serve.tracing.spans import Tracing
from plumbline_serve.store import Store


@dataclass(frozen=True, slots=True)
class Assembly:
    """The parts of one process that answers callers."""

    settings: Settings
    service: CoreService
    instruments: Instruments
    scorers: dict[str, Scorer]
    tools: SessionTools
    bytes_in_flight: BytesInFlight
    """Of all requests, for the edges to share."""
    store: Store
    monitor: DriftMonitor
    """What outlives the process."""

    @property
    def decoder(self) -> ImageDecoder:
        """Decodes every image of the process."""
        return self.tools.decoder

    def pipeline_over(self, scorers: Mapping[str, Scorer], compute: Compute) -> Pipeline:
        """A pipeline for other scorers beside the service's own: threads and decoder are shared, what is kept is not.

        Args:
            scorers: By name.
            compute: Runs their encoders.
        """
        tools = replace(self.tools, **_tools_over(self.settings, scorers, compute, self.tools.pools, self.instruments))
        checks = self.service.pipeline.checks.over(scorers)
        return Pipeline(scorers, checks, tools=tools, observer=self.instruments)


def local_compute(
    settings: Settings, encoders: Iterable[Encoder], instruments: Instruments, *, tracing: "Tracing | None" = None
) -> LocalCompute:
    """Batchers over encoders in this process; `start` loads them.

    Args:
        settings: How far batches may go.
        encoders: That run here.
        instruments: Hear of every batch.
        tracing: Traces them; None: nothing does.
    """
    batching = settings.batching
    limits = BatchLimits(
        max_queued=batching.max_queued_items,
        max_linger_s=batching.max_linger_ms / 1000,
        max_batch=batching.max_batch,
        is_adaptive=batching.adaptive,
    )
    make_batcher = Batcher if tracing is None else tracing.make_batcher
    return LocalCompute(encoders, limits, instruments, make_batcher=make_batcher)


@asynccontextmanager
async def assembled(settings: Settings, scorers: Mapping[str, Scorer] | None = None) -> AsyncIterator[Assembly]:
    """The whole service in this process, without a network or Ray, loaded and taking work.

    Args:
        scorers: Instead of the configured ones.

    Raises:
        SetupError: The configuration names what is not there, or an encoder cannot be loaded.
    """
    chosen, instruments = dict(make_scorers(settings) if scorers is None else scorers), Instruments()
    compute = local_compute(settings, encoders_of(chosen.values()), instruments)
    assembly = assemble(settings, chosen, compute=compute, instruments=instruments)
    await compute.start()
    await asyncio.to_thread(assembly.decoder.settle)
    assembly.service.is_loaded = True
    watching = asyncio.create_task(assembly.monitor.watch(), name="watch drift")
    try:
        yield assembly
    finally:
        watching.cancel()
        await compute.close()
        assembly.tools.pools.close()
        assembly.decoder.close()
        assembly.store.close()


def assemble(
    settings: Settings,
    scorers: dict[str, Scorer],
    *,
    compute: Compute,
    instruments: Instruments,
    gather: Callable[[], Awaitable[Sequence[Snapshot]]] | None = None,
    keeps_counts: bool = False,
) -> Assembly:
    """The service over encoders that run wherever `compute` runs them.

    Args:
        gather: What each process of the whole application counts; default: this process alone.
        keeps_counts: Whether what is counted for drift goes into the store, and outlives the process.
    """
    bytes_in_flight = BytesInFlight(settings.limits, instruments, free_memory=FreeMemory())
    decimals = settings.privacy.score_decimals
    windows = instruments.windows = LiveWindows(settings.drift.window_s, decimals=decimals)
    tools = _tools(settings, scorers, compute, instruments, bytes_in_flight)
    checks = Checks(settings.limits, scorers, allows_audits=settings.edge.audits)
    pipeline = Pipeline(scorers, checks, tools=tools, observer=instruments)

    async def alone() -> Sequence[Snapshot]:
        return [instruments.snapshot()]

    async def scrape() -> bytes:
        return exposition(await snapshots())

    async def fitting() -> Mapping[str, Reference]:
        return (await references.fitting(service.pipeline))[0]

    async def slices() -> Mapping[str, Slices]:
        return {each.process: each.slices for each in await snapshots()}

    store, snapshots, window_s = Store(settings.store), gather or alone, settings.drift.window_s
    kept = _kept(settings, store)
    references: References = kept["references"]
    counts = KeptCounts(store, windows, process=instruments.name, window_s=window_s) if keeps_counts else None
    monitor = DriftMonitor(fitting, slices, window_s=window_s, kept=counts, on_look=instruments.drifts)
    disclosure = Disclosure(settings.privacy)
    service = CoreService(pipeline, compute, exposition=scrape, monitor=monitor, disclosure=disclosure, **kept)
    instruments.serves(service)
    return Assembly(settings, service, instruments, scorers, tools, bytes_in_flight, store, monitor)


def _kept(settings: Settings, store: Store) -> dict[str, Any]:
    """What of the service keeps decisions in the store, by the names that `CoreService` has for it."""
    bindings, decimals = Bindings.of(settings.images), settings.privacy.score_decimals
    classifiers = Classifiers(store, bindings)
    return {
        "calibrations": Calibrations(store, bindings, decimals=decimals),
        "classifiers": classifiers,
        "references": References(store, bindings, classifiers, decimals=decimals),
        "reference_sets": ReferenceSets(store, bindings),
        "guards": Guards(store, bindings),
    }


def _tools(
    settings: Settings,
    scorers: Mapping[str, Scorer],
    compute: Compute,
    instruments: Instruments,
    bytes_in_flight: BytesInFlight,
) -> SessionTools:
    pools = CpuPools.of(num_decoders=settings.replicas.decode_threads or num_cpus())
    return SessionTools(
        pools=pools,
        decoder=_decoder(settings, instruments),
        fetcher=_fetcher(settings, bytes_in_flight),
        windows=instruments.windows,
        **_tools_over(settings, scorers, compute, pools, instruments),
    )


def _tools_over(
    settings: Settings, scorers: Mapping[str, Scorer], compute: Compute, pools: CpuPools, instruments: Instruments
) -> dict[str, Any]:
    """What of a session's tools belongs to certain encoders: encodings are told apart by the encoder's key alone."""
    return {
        "compute": compute,
        "cache": EncodingCache(EncodingStore(settings.caches.max_bytes_by_kind), instruments),
        "decoded": decoded_images(settings, scorers.values()),
        "admission": Admission(compute, pools.decode, max_wait_s=settings.limits.max_wait_ms / 1000),
    }


def decoded_images(settings: Settings, scorers: Iterable[Scorer]) -> DecodedImages:
    """Room for decoded images; none where there is no second encoder that could need them.

    Args:
        settings: How much room.
        scorers: Whose encoders read images.
    """
    num_readers = sum(encoder.kind == "image" for encoder in encoders_of(scorers))
    looks = ImageLooks() if settings.drift.images else None
    return DecodedImages(int(settings.replicas.decoded_bytes) if num_readers > 1 else 0, looks)


def _fetcher(settings: Settings, bytes_in_flight: BytesInFlight) -> "UrlFetcher | None":
    if not settings.urls.enabled:
        return None
    from plumbline_serve.fetching import UrlFetcher  # noqa: PLC0415 - off by default, and brings an HTTP client

    max_image_bytes = int(settings.limits.max_image_bytes)
    return UrlFetcher(settings.urls, max_image_bytes=max_image_bytes, bytes_in_flight=bytes_in_flight)


def _decoder(settings: Settings, instruments: Instruments) -> ImageDecoder:
    nvjpeg = None
    if settings.images.jpeg_decoder == "nvjpeg":
        from plumbline_models.images.nvjpeg import NvJpegDecoder  # noqa: PLC0415 - few have it

        nvjpeg = NvJpegDecoder(on_failure=partial(instruments.fell_back, "jpeg", "nvjpeg"))
    return ImageDecoder(_policy(settings), max_decode_s=settings.limits.max_decode_s, nvjpeg=nvjpeg)


def _policy(settings: Settings) -> DecodePolicy:
    return DecodePolicy(
        exif_orientation=settings.images.exif_orientation,
        alpha=settings.images.alpha,
        max_bytes=int(settings.limits.max_image_bytes),
        max_pixels=settings.limits.max_pixels,
    )
