"""The service within the caller's own process: no Ray, no sockets."""

from plumbline_serve.local.clients import AsyncPlumbline, Config, Plumbline

__all__ = ["AsyncPlumbline", "Config", "Plumbline"]
