"""Spans, and where they go: OTLP to a collector, in batches, off the request path."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import version
from typing import Any, Self

from opentelemetry import context as otel_context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import Span, SpanKind, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from plumbline_serve.batching import Batcher
from plumbline_serve.tracing import TRACEPARENT
from plumbline_serve.tracing.batches import TracedBatcher
from plumbline_serve.tracing.edges import TracedApplication, TracedObserver, TracedRpcs

PARENT, STATE = "traceparent", "tracestate"
_EXPORT_TIMEOUT_S = 10.0
_FLUSH_MS = 5000


class Tracing:
    """What traces in one process.

    A request goes on with the trace that its caller names, and is exported where the caller's own spans are (the flag
    `sampled`); one without such a header begins a trace of its own, which is exported always.

    Args:
        exporter: Where spans go.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        resource = Resource({"service.name": "plumbline", "service.version": version("plumbline-serve")})
        self._provider = TracerProvider(sampler=ParentBased(ALWAYS_ON), resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._propagator = TraceContextTextMapPropagator()
        self.tracer = self._provider.get_tracer("plumbline")

    @classmethod
    def to_collector(cls, endpoint: str) -> Self:
        """Spans go to a collector by OTLP over gRPC.

        Args:
            endpoint: `http://HOST:PORT`, or `https`.
        """
        is_plain = endpoint.startswith("http://")
        return cls(OTLPSpanExporter(endpoint=endpoint, insecure=is_plain, timeout=_EXPORT_TIMEOUT_S))

    @contextmanager
    def server_span(self, name: str, headers: Iterable[tuple[str, str]], **attributes: str) -> Iterator[Span]:
        """The span of a request, while it is answered; spans that are begun meanwhile are below it.

        Args:
            name: Until its route is known.
            headers: Of the request, or metadata; names in lower case.
            **attributes: What is known of it.
        """
        parent = self._propagator.extract(_carrier(headers))
        with self.tracer.start_as_current_span(
            name, context=parent, kind=SpanKind.SERVER, attributes=attributes, record_exception=False
        ) as span:
            token = TRACEPARENT.set(_traceparent(span))
            try:
                yield span
            finally:
                with suppress(ValueError):  # a stream that is closed from elsewhere
                    TRACEPARENT.reset(token)

    @contextmanager
    def continued(self, traceparent: str | None) -> Iterator[None]:
        """Go on with a trace of another process of ours; None: there is none."""
        carrier = {} if traceparent is None else {PARENT: traceparent}
        token = otel_context.attach(self._propagator.extract(carrier))
        try:
            yield
        finally:
            otel_context.detach(token)

    def application(self, app: Any) -> TracedApplication:
        """An ASGI application, traced."""
        return TracedApplication(app, self.server_span)

    def rpcs(self, edge: Any) -> Any:
        """A gRPC edge, traced; it has the same methods."""
        return TracedRpcs(edge, self.server_span)

    def observer(self, observer: Any) -> TracedObserver:
        """An observer of the edges that also says on the span how a request ended."""
        return TracedObserver(observer)

    @property
    def make_batcher(self) -> Callable[..., Batcher]:
        """Makes batchers that trace."""
        return partial(TracedBatcher, tracer=self.tracer)

    def flush(self) -> None:
        """Send what was not sent yet; blocks for seconds where the collector is away."""
        self._provider.force_flush(_FLUSH_MS)

    def close(self) -> None:
        """Send what was not sent yet, and stop."""
        self._provider.shutdown()


def _carrier(headers: Iterable[tuple[str, str]]) -> Mapping[str, Any]:
    """The two headers of a trace; a `traceparent` that comes twice is none (W3C Trace Context)."""
    found: dict[str, list[str]] = {PARENT: [], STATE: []}
    for name, value in headers:
        if name in found:
            found[name].append(value)
    if len(found[PARENT]) != 1:
        return {}
    return {PARENT: found[PARENT][0]} | ({STATE: ",".join(found[STATE])} if found[STATE] else {})


def _traceparent(span: Span) -> str:
    found = span.get_span_context()
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags & TraceFlags.SAMPLED:02x}"
