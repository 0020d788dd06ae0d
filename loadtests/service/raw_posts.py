"""Posts as cheap as they can be: a load generator on the machine of its service takes from what it measures.

This, a parser in C over plain connections that are kept, takes a tenth of the CPU time of a client library.
"""

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import httptools
import uvloop

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, on the cheaper loop.

    Args:
        work: What is run to its end.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


class Poster:
    """Posts bodies to one address of this machine, each on a connection that nobody else uses then.

    Args:
        port: Of the service.
        path: Where to.
        headers: Of every request.
    """

    def __init__(self, port: int, path: str, headers: dict[str, str]) -> None:
        self._port = port
        lines = {"host": f"127.0.0.1:{port}", **headers}
        self._head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._idle: list[_Connection] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._idle:
            connection.close()

    async def post(self, body: bytes) -> int:
        """The status that a body is answered with, once the whole answer is here.

        Args:
            body: It.

        Raises:
            OSError: The connection ended before.
        """
        connection = self._idle.pop() if self._idle else await self._connect()
        try:
            status = await connection.ask(f"{self._head}content-length: {len(body)}\r\n\r\n".encode() + body)
        except BaseException:
            connection.close()
            raise
        if connection.is_open:
            self._idle.append(connection)
        return status

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(_Connection, "127.0.0.1", self._port))[1]


class _Connection(asyncio.Protocol):
    """One request at a time; the parser calls its `on_message_complete`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[int] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self.is_open = True

    async def ask(self, request: bytes) -> int:
        """The status of the answer."""
        if self._transport is None or not self.is_open:
            raise ConnectionResetError("The connection has ended.")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """End the connection."""
        self.is_open = False
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are, but for their class

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.is_open = self._parser.should_keep_alive()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(self._parser.get_status_code())
        if not self.is_open:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("The connection has ended."))
