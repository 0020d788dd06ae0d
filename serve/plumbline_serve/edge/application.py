"""The REST edge with what the configuration adds to it: our own routes, and those of other services' wire formats."""

from collections.abc import Callable

from plumbline_serve.edge.access import Access
from plumbline_serve.edge.compat import added_routes
from plumbline_serve.edge.observe import EdgeObserver
from plumbline_serve.edge.rest import app as rest
from plumbline_serve.edge.rest.middleware import EdgeMiddleware
from plumbline_serve.memory.bytes_in_flight import BytesInFlight
from plumbline_serve.requests.service_protocol import Service
from plumbline_serve.settings import Settings


def create_app(
    service: Service,
    settings: Settings,
    observer: EdgeObserver | None = None,
    *,
    bytes_in_flight: BytesInFlight | None = None,
    access: Access | None = None,
    reload: Callable[[], None] | None = None,
) -> EdgeMiddleware:
    """As `rest.app.create_app`, with the wire formats of `edge.compat`.

    Args:
        service: As there.
        settings: As there.
        observer: As there.
        bytes_in_flight: As there.
        access: As there.
        reload: As there.

    Raises:
        ConfigError: As there.
    """
    budget = bytes_in_flight or BytesInFlight(settings.limits, observer)
    return rest.create_app(
        service,
        settings,
        observer,
        bytes_in_flight=budget,
        access=access,
        reload=reload,
        added=added_routes(service, settings, budget),
    )
