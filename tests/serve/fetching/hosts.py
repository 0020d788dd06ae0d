"""Hosts on loopback that answer as a test says, behind names that only the test's own resolver knows."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from plumbline_serve.fetching import UrlFetcher
from plumbline_serve.memory.bytes_in_flight import BytesInFlight
from plumbline_serve.settings.urls import UrlSettings

Answer: TypeAlias = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
NAME = "images.test"
LOOPBACK = "127.0.0.1"
MAX_IMAGE_BYTES = 100_000


def reply(body: bytes = b"", *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """A whole reply; `length` is what it says of its body, if that is not the truth."""
    said = f"content-length: {len(body) if length is None else length}"
    return "\r\n".join((f"HTTP/1.1 {status}", said, *headers, "", "")).encode() + body


def redirect(location: str, status: str = "302 Found") -> bytes:
    return reply(b"", f"location: {location}", status=status)


def saying(content: bytes) -> Answer:
    """Sends the content, whatever is asked."""

    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(content)
        await writer.drain()

    return answer


def endless(head: bytes, piece: bytes) -> Answer:
    """Sends a head, and then a piece for as long as anybody takes it."""

    async def answer(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    return answer


def unheard(seconds: float) -> None:
    """Hears how long an image took, and tells nobody."""


class Host:
    """Takes connections, remembers what it was asked and answers."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[bytes] = []
        self.num_connections = 0
        self.ended = asyncio.Event()
        self.port = 0
        self._under_way: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        self.num_connections += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.asked.append(head)
            await self.answer(head, writer)
            writer.close()
            await writer.wait_closed()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._under_way.discard(task)
            self.ended.set()

    async def close(self) -> None:
        under_way = list(self._under_way)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


class Names:
    """A resolver: each name has its answers, of which the last is given for good."""

    def __init__(self, **answers: Sequence[str]) -> None:
        self.answers: dict[str, list[Sequence[str]]] = {NAME: [[LOOPBACK]]}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        answers = self.answers.get(host)
        if answers is None:
            raise OSError("Name or service not known")
        return answers.pop(0) if len(answers) > 1 else answers[0]


def make_fetcher(
    names: Names, authorities: Path, hosts: Sequence[Host], in_flight: BytesInFlight, **settings: Any
) -> UrlFetcher:
    """A fetcher that may reach 127.0.0.1, and nothing else of loopback."""
    usual = {
        "enabled": True,
        "allow_hosts": ["*"],
        "allow_ports": [443, *(host.port for host in hosts)],
        "allow_networks": ["127.0.0.1/32"],
        "ca_file": authorities,
    }
    read = UrlSettings.model_validate(usual | settings)
    return UrlFetcher(read, max_image_bytes=MAX_IMAGE_BYTES, bytes_in_flight=in_flight, resolve=names)


async def silent(head: bytes, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()
