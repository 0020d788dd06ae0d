"""Wire formats of other services, each a file: their requests read as our messages, our replies and errors as theirs.

What they share with our own routes: limits, keys, deadlines, admission, metrics. Each is switched on by its name in
`edge.compat`. An error has the form that the protocol's clients read, which each format writes itself.
"""

from collections.abc import Callable, Mapping, Sequence

from plumbline_serve.edge.compat import flow_factory, flow_grpo, open_inference, openai, rerank, rewards, unirl
from plumbline_serve.edge.compat.core import Core
from plumbline_serve.edge.rest.app import AddedRoute
from plumbline_serve.memory.bytes_in_flight import BytesInFlight
from plumbline_serve.requests.service_protocol import Service
from plumbline_serve.settings import Settings
from plumbline_serve.settings.access import Protocol

__all__ = ["added_routes"]
FORMATS: Mapping[Protocol, Callable[[Core], Sequence[AddedRoute]]] = {
    "openai": openai.routes,
    "rerank": rerank.routes,
    "open_inference": open_inference.routes,
    "flow_factory": flow_factory.routes,
    "unirl": unirl.routes,
    "flow_grpo": flow_grpo.routes,
}


def added_routes(service: Service, settings: Settings, bytes_in_flight: BytesInFlight) -> list[AddedRoute]:
    """The routes of the formats that are switched on.

    Args:
        service: What replies.
        settings: Which formats, and the limits.
        bytes_in_flight: The budget of all requests.
    """
    core = Core(service, settings, bytes_in_flight)
    wanted = dict.fromkeys(settings.edge.compat)
    added = [route for name in wanted for route in FORMATS[name](core)]
    if {"flow_factory", "unirl"} & wanted.keys():
        added += rewards.health_routes(core)
    return added
