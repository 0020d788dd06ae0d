"""A gRPC call whose first message has begun and does not end, which no client of gRPC can send: frames by hand."""

import asyncio
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

HOST = "127.0.0.1"
PATH = "/plumbline.v1.Scoring/"
FRAME_BYTES = 2**14
DATA, HEADERS, SETTINGS, GOAWAY, WINDOW_UPDATE = 0, 1, 4, 7, 8  # RFC 9113, section 6
RST_STREAM, INITIAL_WINDOW_SIZE = 3, 4
END_STREAM, ACK, END_HEADERS = 1, 1, 4


@asynccontextmanager
async def begun_stream(
    port: int, num_bytes: int, *, num_sent: int, method: str = "ScoreStream", metadata: Mapping[str, str] | None = None
) -> "AsyncIterator[asyncio.Future[bytes]]":
    """A call that has sent a part of its first message.

    Args:
        port: Of gRPC.
        num_bytes: That the message says it has.
        num_sent: That are sent; 0: not even that a message comes.
        method: That is called.
        metadata: Further fields.

    Yields:
        The end of the call: the fields that came with it, as HPACK has them; empty where the connection ends.
    """
    reader, writer = await asyncio.open_connection(HOST, port)
    windows = _Windows()
    end = asyncio.ensure_future(windows.watch(reader, writer))
    try:
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(SETTINGS, 0, 0, b""))
        fields = {":method": "POST", ":scheme": "http", ":path": PATH + method, ":authority": "x"}
        fields |= {"content-type": "application/grpc", "te": "trailers"} | dict(metadata or {})
        writer.write(_frame(HEADERS, END_HEADERS, 1, b"".join(map(_literal, fields, fields.values()))))
        if num_sent:
            writer.write(_frame(DATA, 0, 1, struct.pack(">BI", 0, num_bytes)))
            await _send(writer, windows, num_sent, end)
        yield end
    finally:
        end.cancel()
        writer.close()


async def _send(writer: asyncio.StreamWriter, windows: "_Windows", left: int, end: "asyncio.Future[bytes]") -> None:
    while left and not end.done():
        taking = asyncio.ensure_future(windows.take(min(left, FRAME_BYTES)))
        first: set[asyncio.Future[Any]] = {taking, end}
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if not taking.done():
            taking.cancel()
            return
        writer.write(_frame(DATA, 0, 1, bytes(taking.result())))
        await writer.drain()
        left -= taking.result()


class _Windows:
    """How much of stream 1 the other side takes."""

    def __init__(self) -> None:
        self._initial = 2**16 - 1
        self._left = dict.fromkeys((0, 1), self._initial - 5)  # the message's own head
        self._change = asyncio.Event()

    async def take(self, size: int) -> int:
        """As many bytes as may be sent now, at most `size`."""
        while not (allowed := min(size, *self._left.values())) > 0:
            self._change.clear()
            await self._change.wait()
        for stream in self._left:
            self._left[stream] -= allowed
        return allowed

    def _set(self, settings: bytes) -> None:
        """Take the other side's settings: the window of a stream moves with its initial one."""
        for number, value in struct.iter_unpack(">HI", settings):
            if number == INITIAL_WINDOW_SIZE:
                self._left[1] += value - self._initial
                self._initial = value
                self._change.set()

    async def watch(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """Read the other side's frames until the stream ends."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length, kind, flags, stream = struct.unpack(">I", b"\0" + await reader.readexactly(3)) + struct.unpack(
                    ">BBI", await reader.readexactly(6)
                )
                payload = await reader.readexactly(length)
                if kind == WINDOW_UPDATE and stream in self._left:
                    self._left[stream] += struct.unpack(">I", payload)[0]
                    self._change.set()
                if kind == SETTINGS and not flags & ACK:
                    self._set(payload)
                    writer.write(_frame(SETTINGS, ACK, 0, b""))
                if (kind == HEADERS and flags & END_STREAM) or kind in {RST_STREAM, GOAWAY}:
                    return payload
        return b""


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name: str, value: str) -> bytes:
    """A header field as HPACK writes one that it does not know (RFC 7541, section 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
