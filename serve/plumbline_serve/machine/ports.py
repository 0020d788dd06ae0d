"""TCP ports: which are free, and which this service holds, so that no other service of the machine takes them.

A port that was free when it was probed may be another's when it is bound. So a service locks a block of ports, and
the ports that it is called on, before it looks at them, and keeps the locks for as long as it lives. A lock is a name
among the abstract Unix sockets: one process has it, it goes when that process ends, however, and like ports it belongs
to a network namespace.
"""

import random
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from plumbline_models.core.errors import ConfigError

BLOCKS = range(20_000, 32_000, 200)  # where each begins; below the ports that systems give to outgoing connections
_PROBED = range(2_000, 8_000)  # below those of Ray's workers, too
ANY_HOST = "0.0.0.0"  # noqa: S104 - probed, not listened on  # nosec B104


def free_port() -> int:
    """A TCP port that nothing listens on at this moment."""
    return free_ports(1)[0]


def free_ports(num: int) -> tuple[int, ...]:
    """As many different TCP ports that nothing listens on at this moment, and that no outgoing connection is given.

    Args:
        num: At most 1,000.
    """
    found: list[int] = []
    for port in random.sample(_PROBED, len(_PROBED)):  # nosec B311  # no secret
        if len(found) == num:
            break
        if _cannot_bind(ANY_HOST, port) is None:
            found.append(port)
    return tuple(found)


@contextmanager
def held_block(*, avoid: frozenset[int] = frozenset(), blocks: range = BLOCKS) -> Iterator[range]:
    """Ports in a row that nothing listens on, and that no other service takes while the context lasts.

    Args:
        avoid: Ports that this service is called on.
        blocks: Where each row that may be taken begins.

    Raises:
        ConfigError: There is no such row.
    """
    for start in random.sample(blocks, len(blocks)):  # nosec B311  # no secret
        ports = range(start, start + blocks.step)
        if avoid & set(ports) or (lock := _lock(_block_name(start))) is None:
            continue
        with lock:
            if not any(_cannot_bind(ANY_HOST, port) for port in ports):
                yield ports
                return
    raise ConfigError(f"No {blocks.step} TCP ports in a row are free from {blocks.start} to {blocks.stop - 1}.")


@contextmanager
def held_ports(host: str, *ports: int) -> Iterator[None]:
    """Ports that no other service begins to listen on while the context lasts.

    Args:
        host: That callers use.
        *ports: On that host.

    Raises:
        ConfigError: Another service holds one of them.
    """
    locks: list[socket.socket] = []
    try:
        for port in ports:
            if (lock := _lock(_port_name(host, port))) is None:
                raise ConfigError(f"Another Plumbline starts or runs on {host}:{port}.", port=port)
            locks.append(lock)
        yield
    finally:
        for lock in locks:
            lock.close()


def obstacle(host: str, port: int) -> str | None:
    """Why a service should not listen there at this moment; None where it can.

    Args:
        host: To listen on.
        port: On that host.
    """
    if reason := _cannot_bind(host, port):
        return reason
    if _is_locked(_port_name(host, port)):
        return "another Plumbline is starting there"
    start = port - (port - BLOCKS.start) % BLOCKS.step
    if start in BLOCKS and _is_locked(_block_name(start)):
        return f"another Plumbline uses the ports from {start} to {start + BLOCKS.step - 1}"
    return None


def _cannot_bind(host: str, port: int) -> str | None:
    """In the system's words."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error.strerror or str(error)
    return None


def _block_name(start: int) -> str:
    return f"plumbline/block/{start}"


def _port_name(host: str, port: int) -> str:
    return f"plumbline/port/{host}/{port}"


def _is_locked(name: str) -> bool:
    lock = _lock(name)
    if lock is not None:
        lock.close()
    return lock is None


def _lock(name: str) -> socket.socket | None:
    """A lock of that name until it is closed; None where another process has it. Only Linux has such names."""
    lock = socket.socket(socket.AF_UNIX)
    if sys.platform == "linux":
        try:
            lock.bind(f"\0{name}")
        except OSError:
            lock.close()
            return None
    return lock
