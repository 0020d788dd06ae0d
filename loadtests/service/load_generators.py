"""Load generators: clients in a closed loop, each sending again as soon as it is answered, over REST or gRPC."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import aiohttp
import grpc

from plumbline_wire.v1 import scoring_pb2 as pb
from plumbline_wire.v1 import scoring_pb2_grpc

BOUNDARY = "plumbline-loadtest"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


@dataclass(frozen=True)
class Window:
    """What a number of requests took."""

    num_requests: int
    seconds: float
    latencies_s: list[float]
    """Of each request, in the order of their ends."""


async def repeat(send_one: Callable[[], Awaitable[object]], *, num_requests: int, num_clients: int) -> Window:
    """Have clients send in turn until as many requests are answered; an error of one ends the run."""
    left, latencies_s = iter(range(num_requests)), list[float]()

    async def call() -> None:
        for _ in left:
            sent = time.perf_counter()
            await send_one()
            latencies_s.append(time.perf_counter() - sent)

    started = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(num_clients)))
    return Window(num_requests, time.perf_counter() - started, latencies_s)


def numbered(batches: Sequence[pb.ScoreRequest]) -> Iterator[pb.ScoreStreamRequest]:
    """Batches as a stream takes them."""
    for number, request in enumerate(batches):
        yield pb.ScoreStreamRequest(correlation_id=f"{number}", request=request)


def open_session() -> aiohttp.ClientSession:
    """As many connections as there are clients; an answer other than 200 raises."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), raise_for_status=True)


async def send(session: aiohttp.ClientSession, url: str, body: bytes) -> None:
    """Post a form and wait for the whole answer."""
    async with session.post(url, data=body, headers=FORM) as reply:
        await reply.read()


async def send_rest(
    port: int, bodies: Iterator[bytes], *, num_requests: int, num_clients: int, path: str = "/v1/score"
) -> Window:
    """Send forms; an answer other than 200 ends the run."""
    async with open_session() as session:

        async def send_one() -> None:
            await send(session, f"http://127.0.0.1:{port}{path}", next(bodies))

        return await repeat(send_one, num_requests=num_requests, num_clients=num_clients)


async def send_grpc(port: int, messages: Iterator[pb.ScoreRequest], *, num_requests: int, num_clients: int) -> Window:
    """Send messages; an error ends the run."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = scoring_pb2_grpc.ScoringStub(channel)

        async def send_one() -> None:
            await stub.Score(next(messages))

        return await repeat(send_one, num_requests=num_requests, num_clients=num_clients)


async def send_stream(port: int, requests: Sequence[pb.ScoreRequest]) -> Window:
    """Send batches as the service takes them.

    Raises:
        RuntimeError: A batch was not answered with scores.
    """
    latencies_s, started = list[float](), time.perf_counter()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        async for answer in scoring_pb2_grpc.ScoringStub(channel).ScoreStream(numbered(requests)):
            if not answer.HasField("reply"):
                raise RuntimeError(f"A batch failed: {answer.error.message}")
            latencies_s.append(time.perf_counter() - started)
    if len(latencies_s) != len(requests):
        raise RuntimeError(f"{len(latencies_s)} of {len(requests)} batches were answered.")
    return Window(len(requests), time.perf_counter() - started, latencies_s)


def form(fields: Mapping[str, bytes], files: Mapping[str, bytes]) -> bytes:
    """A form of fields and files."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="%s"'
    parts = [(head % name, content) for name, content in fields.items()]
    parts += [(f'{head % name}; filename="{name}"', content) for name, content in files.items()]
    return b"".join(
        [start.encode() + b"\r\n\r\n" + content + b"\r\n" for start, content in parts]
        + [f"--{BOUNDARY}--\r\n".encode()]
    )
