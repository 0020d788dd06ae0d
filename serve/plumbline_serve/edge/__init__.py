"""The edges: REST and gRPC over one `Service`, and other services' wire formats; they know nothing of encoders or Ray.

What is listed is imported when it is first named: the command line shows problems and replies of the edge, and needs
neither web framework nor servers for it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plumbline_serve.edge.access import Access
    from plumbline_serve.edge.application import create_app
    from plumbline_serve.edge.compat.inference_rpcs import InferenceEdge
    from plumbline_serve.edge.grpc.servicer import GrpcEdge
    from plumbline_serve.edge.observe import EdgeObserver

__all__ = ["Access", "EdgeObserver", "GrpcEdge", "InferenceEdge", "create_app"]
_HOMES = {
    "Access": "access",
    "EdgeObserver": "observe",
    "GrpcEdge": "grpc.servicer",
    "InferenceEdge": "compat.inference_rpcs",
    "create_app": "application",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
