"""Settings of traces."""

import re
from typing import Annotated

from pydantic import AfterValidator

from plumbline_serve.settings.access import Section

_ENDPOINT = re.compile(r"https?://[^/\s@?#]+:\d{1,5}/?")


def _checked_endpoint(endpoint: str) -> str:
    if not _ENDPOINT.fullmatch(endpoint):
        raise ValueError("not the address of a collector, such as http://localhost:4317")
    return endpoint


class TracingSettings(Section):
    """Where traces go ([tracing.md](tracing.md)); off by default."""

    otlp_endpoint: Annotated[str, AfterValidator(_checked_endpoint)] | None = None
    """Collector that takes OTLP over gRPC, `http://HOST:4317`, or `https` for TLS. Needs the extra `tracing`. Without
    an address nothing is traced, and OpenTelemetry is not imported."""
