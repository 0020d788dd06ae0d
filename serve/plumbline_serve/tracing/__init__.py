"""Traces of requests by OpenTelemetry, off by default.

Where they are off, `open_tracing` gives None, nothing of OpenTelemetry is imported, and the request path is made of the
same classes as if there were no traces: those that trace are put in their place only where they are on.
"""

import importlib
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from plumbline_models.core.errors import ConfigError
from plumbline_serve.settings.tracing import TracingSettings

if TYPE_CHECKING:
    from plumbline_serve.tracing.spans import Tracing

__all__ = ["TRACEPARENT", "open_tracing"]

TRACEPARENT: Final[ContextVar[str | None]] = ContextVar("traceparent", default=None)
"""Of the request under way, as it crosses to another process; None: it is not traced."""
_HINT = "tracing.otlp_endpoint needs OpenTelemetry: pip install 'plumbline-serve[tracing]'."


def open_tracing(settings: TracingSettings) -> "Tracing | None":
    """What traces, in this process; None: nothing does.

    Raises:
        ConfigError: OpenTelemetry is not installed.
    """
    if settings.otlp_endpoint is None:
        return None
    try:
        spans = importlib.import_module("plumbline_serve.tracing.spans")
        tracing: Tracing = spans.Tracing.to_collector(settings.otlp_endpoint)
    except ImportError as error:
        raise ConfigError(_HINT) from error
    return tracing
