"""What one process counts. Labels never hold keys, URLs or request ids."""

import itertools
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import EncoderInfo, Score
from plumbline_serve.drift import LiveWindows
from plumbline_serve.messages import GuardFlags, ScoreOrError, ScorerEntry
from plumbline_serve.messages.drift import DriftEntry
from plumbline_serve.metrics.drift_gauges import DriftMetrics
from plumbline_serve.metrics.merge import Snapshot, read_registry
from plumbline_serve.metrics.process_metrics import ProcessMetrics

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
STAGE_SECONDS = (0.0001, 0.0005, *SECONDS)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SCORES = (-1e-2, -1e-3, -5e-4, -1e-4, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.5, 2.0, 2.5)
"""Edges that suit 0 to 1, 0 to 2.5, and the small negative numbers of fclipscore."""


class ServiceState(Protocol):
    """What a service says of itself."""

    @property
    def is_ready(self) -> bool:
        """Whether it takes work."""
        ...

    @property
    def num_active(self) -> int:
        """Requests that it is answering."""
        ...


M = TypeVar("M", Counter, Gauge, Histogram)


class _Labelled(dict[str | tuple[str, ...], M]):
    """A metric by the values of its labels; prometheus_client takes a microsecond to look one up."""

    def __init__(self, metric: M) -> None:
        self._child: Callable[..., M] = metric.labels

    def __missing__(self, labels: str | tuple[str, ...]) -> M:
        child = self[labels] = self._child(*((labels,) if isinstance(labels, str) else labels))
        return child


class _Registry(CollectorRegistry):
    """Makes metrics that are registered with it."""

    def counter(self, name: str, documentation: str, *labels: str) -> _Labelled[Counter]:
        return _Labelled(Counter(name, documentation, labels, registry=self))

    def gauge(self, name: str, documentation: str, *labels: str) -> _Labelled[Gauge]:
        return _Labelled(Gauge(name, documentation, labels, registry=self))

    def histogram(self, name: str, documentation: str, buckets: Sequence[float], *labels: str) -> _Labelled[Histogram]:
        return _Labelled(Histogram(name, documentation, labels, buckets=buckets, registry=self))


class _EdgeMetrics:
    """Of requests and their items."""

    def __init__(self, registry: _Registry) -> None:
        self.requests = registry.counter("plumbline_requests", "Requests answered.", "route", "protocol", "code")
        self.request_s = registry.histogram(
            "plumbline_request_duration_seconds", "From first byte to reply.", SECONDS, "route", "protocol"
        )
        self.items = registry.counter("plumbline_items", "Items by scorer and outcome.", "scorer", "outcome")
        self.combinations = registry.counter("plumbline_combinations", "Scores combined per item.", "method", "outcome")
        self.guards = registry.counter(
            "plumbline_guard_flags", "Items that guards looked at, by flag and what it says.", "flag", "value"
        )
        self.item_errors = registry.counter("plumbline_item_errors", "Items that got no score, by code.", "reason")
        self.scores = registry.histogram("plumbline_score", "Values given.", SCORES, "scorer")
        self.bytes_in_flight = Gauge("plumbline_bytes_in_flight", "Of requests under way.", registry=registry)
        self.rejections = registry.counter("plumbline_rejections", "Requests refused, by code.", "reason")
        self.limits_failures = Counter(
            "plumbline_limits_failures", "Times that the Redis of auth.limits_url could not be used.", registry=registry
        )
        self.expired = registry.counter("plumbline_deadline_expired", "Deadlines passed, by stage.", "stage")


class _ComputeMetrics:
    """Of stages, encoders, batches and caches."""

    def __init__(self, registry: _Registry) -> None:
        self.stage_s = registry.histogram(
            "plumbline_stage_duration_seconds",
            "Time in fetch, decode and fit per image, in queue per input, in compute per batch.",
            STAGE_SECONDS,
            "stage",
        )
        self.batch_size = registry.histogram("plumbline_batch_size", "Inputs per batch.", BATCH_SIZES, "model")
        self.unwanted = registry.counter(
            "plumbline_unwanted_inputs", "Inputs computed whose callers had gone by the end of their batch.", "model"
        )
        self.broken = registry.counter(
            "plumbline_broken_batches", "Batches that failed through the encoder's fault.", "model"
        )
        self.queue_items = registry.gauge("plumbline_queue_items", "Inputs that wait.", "model", "lane")
        self.lookups = registry.counter(
            "plumbline_cache_lookups",
            "Encodings looked up: stored (hit), in flight for another request (joined), or to compute (miss).",
            "cache",
            "result",
        )
        self.cache_bytes = registry.gauge("plumbline_cache_bytes", "What stored encodings take.", "cache")
        self.fallbacks = registry.counter(
            "plumbline_engine_fallbacks",
            "Engines that failed, and that torch or an engine with its weights inside replaces.",
            "graph",
            "backend",
        )
        self.comparisons = registry.counter(
            "plumbline_encoder_comparisons",
            "Encoders of a new configuration beside those of the one before, on fixed inputs.",
            "model",
            "verdict",
        )
        self.encoder_info = registry.gauge(
            "plumbline_model_info", "What is loaded.", "scorer", "model", "backend", "precision"
        )


class Instruments:
    """Every metric of one process, on a registry of its own.

    Args:
        process: What it is: `gateway`, or the name of its encoder group.
    """

    def __init__(self, process: str = "gateway") -> None:
        self._registry = _Registry()
        self._registry.register(ProcessMetrics(process))
        self.name, self._numbers = uuid.uuid4().hex, itertools.count()
        """Of the process: no two ever have one."""
        self._edge, self._compute = _EdgeMetrics(self._registry), _ComputeMetrics(self._registry)
        self._drift = DriftMetrics(self._registry)
        self.windows: LiveWindows | None = None
        """Goes out with each snapshot; None: this process gives no scores."""
        self._registry.gauge("plumbline_build_info", "What is running.", "version")[_version()].set(1)

    def serves(self, service: ServiceState) -> None:
        """This process answers callers, and says how it is.

        Args:
            service: Asked at each snapshot.
        """
        ready = Gauge("plumbline_ready", "Gateways that take work.", registry=self._registry)
        ready.set_function(lambda: float(service.is_ready))
        under_way = Gauge("plumbline_requests_in_flight", "Requests that are being answered.", registry=self._registry)
        under_way.set_function(lambda: float(service.num_active))

    def snapshot(self) -> Snapshot:
        """All values at this moment."""
        slices = {} if self.windows is None else self.windows.slices()
        return Snapshot(self.name, next(self._numbers), read_registry(self._registry), slices)

    def drifts(self, entries: Mapping[str, DriftEntry]) -> None:
        """Scorers beside their references, as they are now; by scorer."""
        self._drift.say(entries)

    def request(self, route: str, protocol: str, code: str, seconds: float) -> None:
        """An edge answered.

        Args:
            route: That was called, as the routes name it.
            protocol: `rest` or `grpc`.
            code: The HTTP status or the gRPC code's name.
            seconds: From the first byte to the reply.
        """
        self._edge.requests[route, protocol, code].inc()
        self._edge.request_s[route, protocol].observe(seconds)

    def rejection(self, reason: str) -> None:
        """A request was refused as a whole."""
        self._edge.rejections[reason].inc()

    def in_flight(self, num_bytes: int) -> None:
        """The requests under way hold so many bytes."""
        self._edge.bytes_in_flight.set(num_bytes)

    def limits_failed(self) -> None:
        """As `EdgeObserver.limits_failed`."""
        self._edge.limits_failures.inc()

    def stage(self, stage: str, seconds: float) -> None:
        """As `PipelineObserver.stage`."""
        self._compute.stage_s[stage].observe(seconds)

    def scored(self, scorer: str, score: ScoreOrError) -> None:
        """As `PipelineObserver.scored`; callers name classifiers, so that their names are no labels."""
        scorer = scorer.partition(":")[0]
        if isinstance(score, Score):
            self._edge.items[scorer, "ok"].inc()
            self._edge.scores[scorer].observe(score.value)
        else:
            self._edge.items[scorer, "error"].inc()

    def combined(self, method: str, score: ScoreOrError) -> None:
        """As `PipelineObserver.combined`; callers name combinations, so that their names are no labels."""
        self._edge.combinations[method, "ok" if isinstance(score, Score) else "error"].inc()

    def looked_at(self, flags: GuardFlags) -> None:
        """As `PipelineObserver.looked_at`."""
        for flag in ("fooling_suspect", "adversarial_suspect"):
            value = getattr(flags, flag)
            self._edge.guards[flag, "null" if value is None else str(value).lower()].inc()

    def item_failed(self, error: PlumblineError) -> None:
        """As `PipelineObserver.item_failed`."""
        self._edge.item_errors[error.code].inc()

    def expired(self, stage: str) -> None:
        """A deadline passed in this stage."""
        self._edge.expired[stage].inc()

    def queued(self, key: str, lane: str, num_items: int) -> None:
        """As `BatchObserver.queued`."""
        self._compute.queue_items[key, lane].set(num_items)

    def waited(self, seconds: float) -> None:
        """As `BatchObserver.waited`."""
        self._compute.stage_s["queue"].observe(seconds)

    def batch(self, key: str, num_items: int, seconds: float, *, num_unwanted: int) -> None:
        """As `BatchObserver.batch`."""
        self._compute.unwanted[key].inc(num_unwanted)
        self._compute.batch_size[key].observe(num_items)
        self._compute.stage_s["compute"].observe(seconds)

    def broke(self, key: str) -> None:
        """As `BatchObserver.broke`."""
        self._compute.broken[key].inc()

    def lookup(self, cache: str, result: str, num_lookups: int) -> None:
        """As `LookupObserver.lookup`."""
        self._compute.lookups[cache, result].inc(num_lookups)

    def looked_up(self, cache: str, is_hit: bool) -> None:  # noqa: FBT001 - as `OnLookup`
        """An encoder looked up what it may have kept.

        Args:
            cache: Its name.
            is_hit: Whether it was there.
        """
        self.lookup(cache, "hit" if is_hit else "miss", 1)

    def kept(self, cache: str, num_bytes: int) -> None:
        """As `LookupObserver.kept`."""
        self._compute.cache_bytes[cache].set(num_bytes)

    def fell_back(self, graph: str, backend: str) -> None:
        """An engine failed, and torch runs its graph.

        Args:
            graph: Its name.
            backend: That compiled the engine.
        """
        self._compute.fallbacks[graph, backend].inc()

    def compared(self, key: str, verdict: str) -> None:
        """An encoder of a new configuration was compared with that of the one before.

        Args:
            key: Of the encoder.
            verdict: What came of it.
        """
        self._compute.comparisons[key, verdict].inc()

    def loaded(self, scorers: Iterable[ScorerEntry], infos: Iterable[EncoderInfo]) -> None:
        """Say what is loaded.

        Args:
            scorers: All of them.
            infos: Of their encoders.
        """
        by_key = {info.key: info for info in infos}
        for scorer in scorers:
            for key in scorer.encoders:
                if info := by_key.get(key):
                    self._compute.encoder_info[scorer.id, key, info.backend, info.precision].set(1)


def _version() -> str:
    try:
        return version("plumbline-serve")
    except PackageNotFoundError:
        return "unknown"
