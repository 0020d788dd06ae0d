"""The Ray Serve deployments: gateways that answer callers, and replicas that hold encoders.

What is listed is imported when it is first named: Ray's own proxies take `http_servers` from here, and need no networks
for it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plumbline_serve.deployments.encoder_replica import EncoderReplica
    from plumbline_serve.deployments.gateway import Gateway

__all__ = ["EncoderReplica", "Gateway"]
_HOMES = {"EncoderReplica": "encoder_replica", "Gateway": "gateway"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
