"""Callers that mean no good, each for ever: what a service meets that strangers can reach.

    python -m loadtests.service.hostile_callers KIND REST_PORT GRPC_PORT NUM_CALLERS

Each sends what its name says as often as it can at a bounded rate, so that what a neighbour loses is lost to the
service and not to this program.
"""

import asyncio
import struct
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress

from loadtests.service.images import forms
from loadtests.service.load_generators import BOUNDARY

HOST = "127.0.0.1"
MIB = 2**20
BYTES_A_SECOND = 8 * MIB
"""Of one caller that sends without end."""
PAUSE_S = 0.25
"""Between two requests of one caller that sends whole ones."""
NUM_HEADS = 4300
BEGUN_BYTES = 150 * MIB
"""What a message says that it has; the last byte never comes."""
FORM = f"multipart/form-data; boundary={BOUNDARY}"
JSON = "application/json"
FRAME_BYTES = 2**14
DATA, HEADERS, SETTINGS, WINDOW_UPDATE = 0, 1, 4, 8  # RFC 9113, section 6
END_HEADERS, ACK = 4, 1

Caller = Callable[[int, int], Awaitable[None]]


def head(path: str, kind: str, *lines: str) -> bytes:
    """The head of a request."""
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", f"Content-Type: {kind}", *lines, "", ""]).encode()


def whole(path: str, kind: str, body: bytes) -> bytes:
    """A request."""
    return head(path, kind, f"Content-Length: {len(body)}") + body


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(HOST, port)


async def half_a_head(rest: int, rpcs: int) -> None:
    """Begins a head and does not end it."""
    del rpcs
    reader, writer = await connect(rest)
    writer.write(b"POST /v1/score HTTP/1.1\r\nHost: x\r\nX-Long: ")
    await reader.read()
    writer.close()


async def slow_body(rest: int, rpcs: int) -> None:
    """A byte of a body at a time."""
    del rpcs
    _, writer = await connect(rest)
    writer.write(head("/v1/score", JSON, f"Content-Length: {MIB}"))
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


async def half_closed(rest: int, rpcs: int) -> None:
    """Closes its side behind the request, and waits for the reply."""
    del rpcs
    reader, writer = await connect(rest)
    writer.write(whole("/v1/score", FORM, next(BODIES)))
    writer.write_eof()
    await reader.read()
    writer.close()
    await asyncio.sleep(PAUSE_S)


async def pipelined(rest: int, rpcs: int) -> None:
    """Asks again and again without reading a reply."""
    del rpcs
    _, writer = await connect(rest)
    while True:
        writer.write(b"GET /v1/scorers HTTP/1.1\r\nHost: x\r\n\r\n" * 64)
        await writer.drain()
        await asyncio.sleep(PAUSE_S)


async def endless_chunks(rest: int, rpcs: int) -> None:
    """A chunked body without an end."""
    del rpcs
    await _send_on(rest, head("/v1/score", JSON, "Transfer-Encoding: chunked"))


async def sent_after_refusal(rest: int, rpcs: int) -> None:
    """A body of a kind that is refused at its head."""
    del rpcs
    await _send_on(rest, head("/v1/score", "text/plain", "Transfer-Encoding: chunked"))


async def _send_on(rest: int, sent: bytes) -> None:
    _, writer = await connect(rest)
    writer.write(sent)
    chunk = b"10000\r\n" + b" " * 2**16 + b"\r\n"
    while True:
        writer.write(chunk)
        await writer.drain()
        await asyncio.sleep(2**16 / BYTES_A_SECOND)


async def _ask(rest: int, request: bytes) -> None:
    reader, writer = await connect(rest)
    writer.write(request)
    await reader.read(2**16)
    writer.close()
    await asyncio.sleep(PAUSE_S)


async def many_parts(rest: int, rpcs: int) -> None:
    """A form of ten thousand parts."""
    del rpcs
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="%d"\r\n\r\nx\r\n'
    body = "".join(part % number for number in range(10_000)).encode()
    await _ask(rest, whole("/v1/score", FORM, body))


async def broken_delimiters(rest: int, rpcs: int) -> None:
    """A part that looks all along as if it ended."""
    del rpcs
    begun = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="a"\r\n\r\n'.encode()
    await _ask(rest, whole("/v1/score", FORM, begun + b"\r\n-" * (4 * MIB)))


async def many_members(rest: int, rpcs: int) -> None:
    """11 MB of unknown members."""
    del rpcs
    await _ask(rest, MEMBERS)


async def deep_json(rest: int, rpcs: int) -> None:
    """Ten million brackets."""
    del rpcs
    await _ask(rest, whole("/v1/score", JSON, b"[" * 10_000_000))


async def vanishing(rest: int, rpcs: int) -> None:
    """Sends a request and is gone."""
    del rpcs
    _, writer = await connect(rest)
    writer.write(whole("/v1/score", FORM, next(BODIES)))
    await writer.drain()
    writer.close()
    await asyncio.sleep(PAUSE_S / 4)


async def begun_message(rest: int, rpcs: int) -> None:
    """All but the end of a large message of a stream over gRPC."""
    del rest
    reader, writer = await connect(rpcs)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b""))
    path = {":method": "POST", ":scheme": "http", ":path": "/plumbline.v1.Scoring/ScoreStream", ":authority": "x"}
    fields = path | {"content-type": "application/grpc", "te": "trailers"}
    writer.write(frame(HEADERS, END_HEADERS, 1, b"".join(map(literal, fields, fields.values()))))
    window = Windows()
    watching = asyncio.ensure_future(window.watch(reader, writer))
    try:
        await _send_message(writer, window)
        await watching
    finally:
        watching.cancel()


async def _send_message(writer: asyncio.StreamWriter, window: "Windows") -> None:
    left = BEGUN_BYTES - 1
    writer.write(frame(DATA, 0, 1, struct.pack(">BI", 0, BEGUN_BYTES)))
    while left:
        size = await window.take(min(left, FRAME_BYTES))
        writer.write(frame(DATA, 0, 1, bytes(size)))
        await writer.drain()
        left -= size


class Windows:
    """How much of stream 1 the other side takes."""

    def __init__(self) -> None:
        self._left = {0: 2**16 - 1 - 5, 1: 2**16 - 1 - 5}
        self._change = asyncio.Event()

    async def take(self, size: int) -> int:
        """As many bytes as may be sent now, at most `size`."""
        while not (allowed := min(size, *self._left.values())) > 0:
            self._change.clear()
            await self._change.wait()
        for stream in self._left:
            self._left[stream] -= allowed
        return allowed

    async def watch(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read the other side's frames until it ends."""
        with suppress(asyncio.IncompleteReadError):
            while True:
                length, kind, flags, stream = struct.unpack(">I", b"\0" + await reader.readexactly(3)) + struct.unpack(
                    ">BBI", await reader.readexactly(6)
                )
                payload = await reader.readexactly(length)
                if kind == WINDOW_UPDATE and stream in self._left:
                    self._left[stream] += struct.unpack(">I", payload)[0]
                    self._change.set()
                if kind == SETTINGS and not flags & ACK:
                    writer.write(frame(SETTINGS, ACK, 0, b""))


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name: str, value: str) -> bytes:
    """A header field as HPACK writes one that it does not know (RFC 7541, section 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


CALLERS: Mapping[str, Caller] = {
    each.__name__: each
    for each in (
        *(slow_body, half_closed, pipelined, endless_chunks, sent_after_refusal, many_parts, broken_delimiters),
        *(many_members, deep_json, vanishing, begun_message, half_a_head),
    )
}
BODIES: Iterator[bytes] = forms(1, is_new=True)
MEMBERS = whole("/v1/score", JSON, b"{%s}" % b",".join(b'"%d":0' % number for number in range(1_000_000)))


async def repeat(call: Caller, rest: int, rpcs: int) -> None:
    """Call for ever, whatever the service does."""
    while True:
        with suppress(OSError):
            await call(rest, rpcs)
        await asyncio.sleep(0.01)


async def main(kind: str, rest: int, rpcs: int, num_callers: int) -> None:
    await asyncio.gather(*(repeat(CALLERS[kind], rest, rpcs) for _ in range(num_callers)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))
