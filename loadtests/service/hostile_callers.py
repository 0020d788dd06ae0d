"""Callers that mean no good, each for ever: what a service meets that strangers can reach.

    python -m loadtests.service.hostile_callers KIND REST_PORT GRPC_PORT NUM_CALLERS

Each sends what its name says as often as it can at a bounded rate, so that what a neighbour loses is lost to the
service and not to this program.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress

from loadtests.service.begun_streams import begun_stream
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
    async with begun_stream(rpcs, BEGUN_BYTES, num_sent=BEGUN_BYTES - 1) as end:
        await end


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
