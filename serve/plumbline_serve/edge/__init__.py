"""The edges: REST and gRPC over one `Service`; they know the wires and nothing of encoders or Ray.

What is listed is imported when it is first named: the command line shows problems and replies of the edge, and needs
neither web framework nor servers for it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plumbline_serve.edge.access import Access
    from plumbline_serve.edge.grpc.servicer import GrpcEdge
    from plumbline_serve.edge.observe import EdgeObserver
    from plumbline_serve.edge.rest.app import create_app

__all__ = ["Access", "EdgeObserver", "GrpcEdge", "create_app"]
_HOMES = {"Access": "access", "EdgeObserver": "observe", "GrpcEdge": "grpc.servicer", "create_app": "rest.app"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
