"""What has arrived over the connections of this process, by which messages that are not yet whole are counted.

gRPC gives out whole messages only. It holds the begun ones itself and does not say how much of them is there. The
kernel does, for each connection. Where several calls share one, as HAProxy has them, it does not say whose bytes they
are: then what came since a call began, less the messages that others have been given since, is the most that it can
hold. Of all calls together that is no less than what they hold. It is more by the frames around messages, and by calls
that ended without one, until nobody of that time waits any more.
"""

import os
import socket
import struct
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

MAX_KNOWN = 256
"""Connections that are remembered; finding one anew takes a look at every descriptor."""
_INTERNET = frozenset({socket.AF_INET, socket.AF_INET6})
_IPV4_IN_IPV6 = "::ffff:"
_INFO_BYTES, _STATE, _RECEIVED = 256, struct.Struct("=B"), struct.Struct("=128xQ")
"""Of Linux's `struct tcp_info` (linux/tcp.h): no less than it has; where its state and `tcpi_bytes_received` are."""
_ESTABLISHED = 1  # net/tcp_states.h


class Arrival:
    """A message that is waited for."""

    def __init__(self, connection: "Connection", since: int) -> None:
        self._connection = connection
        self.since = since
        """What had come over the connection before."""
        self.num_taken = 0
        """Bytes that came since and are of messages that others were given."""

    def num_bytes(self, most: int) -> int:
        """How many may have come of it.

        Args:
            most: That one message may have.
        """
        return self._connection.share_of(self, most)

    def is_first(self) -> bool:
        """Whether none of those that wait began before."""
        return self._connection.is_first(self)

    def take(self, num_bytes: int) -> None:
        """The message is there, so that no other has its bytes: all came after those had begun that began before.

        Args:
            num_bytes: That it has.
        """
        self._connection.take(self, num_bytes)


class Connection:
    """A second handle of this process's own end of a connection, and the messages that are waited for on it."""

    def __init__(self, handle: socket.socket) -> None:
        self._handle = handle
        weakref.finalize(self, handle.close)  # the handle, not the connection
        self._arriving: dict[Arrival, None] = {}  # in the order in which they began
        self._num_read = 0

    def is_open(self) -> bool:
        """Whether neither side has closed it."""
        return bool(_STATE.unpack_from(self._info())[0] == _ESTABLISHED)

    def num_received(self) -> int:
        """Bytes that have come over it since it was opened."""
        info = self._info()
        return int(_RECEIVED.unpack_from(info)[0]) if len(info) >= _RECEIVED.size else 0

    @contextmanager
    def arriving(self) -> Iterator[Arrival]:
        """While a message is waited for.

        What came since nobody waited may be its own, for a message is on its way before anybody asks for it.
        """
        arrival = Arrival(self, self.num_received() if self._arriving else self._num_read)
        self._arriving[arrival] = None
        try:
            yield arrival
        finally:
            del self._arriving[arrival]
            self.note_read()

    def note_read(self) -> None:
        """All that came was read, unless somebody waits; what the window lets in ahead of a read is taken for it."""
        if not self._arriving:
            self._num_read = self.num_received()

    def share_of(self, arrival: Arrival, most: int) -> int:
        """As `Arrival.num_bytes`: the latest to begin has what came since, those before it what is above that.

        Args:
            arrival: One of those that are waited for.
            most: That one message may have.
        """
        total, given, part = self.num_received(), 0, 0
        for each in reversed(self._arriving):
            part = min(most, max(0, total - each.since - each.num_taken - given))
            if each is arrival:
                break
            given += part
        return part

    def is_first(self, arrival: Arrival) -> bool:
        """As `Arrival.is_first`."""
        return next(iter(self._arriving), None) is arrival

    def take(self, arrival: Arrival, num_bytes: int) -> None:
        """As `Arrival.take`.

        Args:
            arrival: One of those that are waited for.
            num_bytes: That its message has.
        """
        for each in self._arriving:
            if each is arrival:
                return
            each.num_taken += num_bytes

    def _info(self) -> bytes:
        return self._handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)


class Connections:
    """The connections that calls came by, by their other end."""

    def __init__(self) -> None:
        self._known: dict[str, Connection | None] = {}

    def of(self, peer: str) -> Connection | None:
        """The connection to an address; None where this process has none, or the system does not say what came by it.

        Args:
            peer: As gRPC writes it, such as `ipv4:127.0.0.1:40000`.
        """
        if peer in self._known and ((known := self._known[peer]) is None or known.is_open()):
            return known
        self._forget_closed()
        found = self._known[peer] = _connection_to(peer)
        return found

    def _forget_closed(self) -> None:
        """Also the oldest, where there are too many: who waits on one keeps it."""
        for peer, known in [*self._known.items()]:
            if known is not None and not known.is_open():
                del self._known[peer]
        while len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]


def _connection_to(peer: str) -> Connection | None:
    """This process's connection to an address as gRPC writes it.

    A caller's port may lead to several of our own at once (REST's and gRPC's), and may be one that another caller had
    whose connection is not closed on our side yet. Of several that are open nobody knows which is meant.
    """
    kind, _, address = unquote(peer).partition(":")
    host, _, port = address.rpartition(":")
    if kind not in {"ipv4", "ipv6"} or not port.isdecimal() or not hasattr(socket, "TCP_INFO"):
        return None
    wanted = host.strip("[]").removeprefix(_IPV4_IN_IPV6), int(port)
    found: dict[str, Connection] = {}  # by the socket, which may have several handles
    for file in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # it was closed meanwhile, or is no connection
            name = str(file.readlink())
            if not name.startswith("socket:") or name in found:
                continue
            with socket.socket(fileno=os.dup(int(file.name))) as handle:
                if handle.family in _INTERNET and _address(handle.getpeername()) == wanted:
                    found[name] = Connection(socket.socket(fileno=handle.detach()))
    still_open = [each for each in found.values() if each.is_open()]
    return still_open[0] if len(still_open) == 1 else None


def _address(peer: tuple[Any, ...]) -> tuple[str, int]:
    host, port, *_ = peer
    return host.removeprefix(_IPV4_IN_IPV6), port
