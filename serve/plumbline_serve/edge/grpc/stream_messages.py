"""A stream's messages off the wire: waited for as long as their sender likes, and counted as far as they have arrived.

gRPC gives out whole messages only. It holds the begun one of each stream, and does not say how much of that is there.
The kernel does, where a stream has a connection to itself, as HAProxy gives it (`OWN_CONNECTION`): what came over it
since the last message is the begun one. So a silent stream counts next to nothing, and a begun message what it holds.
"""

import asyncio
import os
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import unquote

from plumbline_models.core.errors import DeadlineExceededError
from plumbline_serve.bytes_in_flight import PROGRESS_BYTES, BytesInFlight, Share
from plumbline_serve.edge.grpc.calls import CallContext
from plumbline_serve.edge.received import OWN_CONNECTION
from plumbline_serve.settings import Limits

Q = TypeVar("Q")

LOOK_S = 0.25
"""How often what has arrived is counted while a message is waited for."""
_INTERNET = frozenset({socket.AF_INET, socket.AF_INET6})
_IPV4_IN_IPV6 = "::ffff:"
_INFO_BYTES, _RECEIVED = 256, struct.Struct("=128xQ")
"""Of Linux's `struct tcp_info` (linux/tcp.h): no less than it has, and where `tcpi_bytes_received` stands."""


class StreamMessages(AsyncIterator[Q], Generic[Q]):
    """The messages of a stream; the next one is not read before there is room for it.

    Raises:
        CapacityError: What has arrived of the next one finds no room, or it was slow while others needed the room.
        DeadlineExceededError: It was begun, and took too long.
    """

    def __init__(
        self, messages: AsyncIterator[Q], budget: BytesInFlight, limits: Limits, arrived: "ArrivedBytes | None"
    ) -> None:
        """Read nothing yet.

        Args:
            messages: As the server gives them.
            budget: Holds what has arrived of a begun one.
            limits: How long a message may be under way, and how large it may be.
            arrived: What came over the stream's own connection; None: it has none, and begun messages do not count.
        """
        self._messages = messages
        self._budget = budget
        self._limits = limits
        self._arrived = arrived

    def __aiter__(self) -> "StreamMessages[Q]":
        return self

    async def __anext__(self) -> Q:
        await self._budget.room()
        if self._arrived is None:
            return await anext(self._messages)
        reading = asyncio.ensure_future(anext(self._messages, None))
        try:
            with self._budget.share() as share:
                share.may_hold_pixels = True
                await self._count(share, reading, self._arrived)
        finally:
            reading.cancel()  # no harm where it is done
        message = reading.result()
        self._arrived.forget()
        if message is None:
            raise StopAsyncIteration
        return message

    async def _count(self, share: Share, reading: "asyncio.Future[Any]", arrived: "ArrivedBytes") -> None:
        """Hold what has arrived of a message until it is there."""
        most = min(self._limits.max_form_bytes, int(self._limits.max_bytes_in_flight))  # the frames around it aside
        begun_s: float | None = None
        with ExitStack() as stack:
            while not (await asyncio.wait({reading}, timeout=LOOK_S))[0]:
                num_bytes = arrived.num_bytes()
                share.settle(min(num_bytes, most))
                if begun_s is None and num_bytes >= PROGRESS_BYTES:
                    begun_s = time.monotonic()
                    stack.enter_context(share.arriving(lambda: _end(reading)))
                if begun_s is not None and time.monotonic() - begun_s > self._limits.max_upload_s:
                    raise DeadlineExceededError("A batch of the stream took too long to arrive.", stage="receive")


def _end(reading: "asyncio.Future[Any]") -> None:
    reading.cancel()


class ArrivedBytes:
    """What came over a connection, by a second handle of this process's own end of it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._num_forgotten = 0

    @classmethod
    def of(cls, context: CallContext) -> "ArrivedBytes | None":
        """Of a stream with a connection to itself; None where it has none, or the system does not say.

        Args:
            context: The call's; gRPC's own and Ray's have `peer()` too.
        """
        if OWN_CONNECTION not in dict(context.invocation_metadata()) or not hasattr(socket, "TCP_INFO"):
            return None
        peer = getattr(context, "peer", str)()
        kind, _, address = unquote(peer).partition(":")
        host, _, port = address.rpartition(":")
        connection = _connection_to(host.strip("[]"), int(port)) if kind in {"ipv4", "ipv6"} and port else None
        return None if connection is None else cls(connection)

    def num_bytes(self) -> int:
        """How many came since `forget`."""
        return self._total() - self._num_forgotten

    def forget(self) -> None:
        """Count anew: what came so far was read. What the window lets in ahead of a read is forgotten with it."""
        self._num_forgotten = self._total()

    def close(self) -> None:
        """Close the handle; the connection stays as it is."""
        self._connection.close()

    def _total(self) -> int:
        info = self._connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        return int(_RECEIVED.unpack_from(info)[0]) if len(info) >= _RECEIVED.size else 0


def _connection_to(host: str, port: int) -> socket.socket | None:
    """A second handle of this process's connection to an address."""
    for file in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # it was closed meanwhile, or is no connection
            if not str(file.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(file.name))) as found:
                if found.family in _INTERNET and _address(found.getpeername()) == (host, port):
                    return socket.socket(fileno=found.detach())
    return None


def _address(peer: tuple[Any, ...]) -> tuple[str, int]:
    host, port, *_ = peer
    return host.removeprefix(_IPV4_IN_IPV6), port
