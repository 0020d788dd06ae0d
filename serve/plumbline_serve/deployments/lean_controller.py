"""The Serve controller of a service that has a machine to itself."""

from ray.serve._private.proxy_state import ProxyStateManager


def without_fallback() -> None:
    """Called by Ray in its controller's process, each time that one starts, before the controller makes its proxies.

    Beside HAProxy Ray runs a Python proxy, for callers who come while no replica is up. On one machine HAProxy answers
    those by itself (`haproxy.rewriting`) and leads nobody there. It took 2 of the 14 s of CPU of a
    warm start, and 210 MiB.
    """
    ProxyStateManager._start_fallback_proxy_if_needed = _start_none  # type: ignore[method-assign]  # noqa: SLF001 - Ray has no option for it


def _start_none(self: ProxyStateManager, node_id: str, node_ip_address: str, node_instance_id: str) -> None:
    del self, node_id, node_ip_address, node_instance_id
