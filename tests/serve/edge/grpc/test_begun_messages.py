"""What begun messages hold is counted while they arrive, and bounded with everything else."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from loadtests.service.begun_streams import begun_stream
from plumbline_models.core.errors import CapacityError
from plumbline_serve.edge.grpc.receiving import LOOK_S, receive
from plumbline_serve.edge.received import OWN_CONNECTION
from plumbline_serve.memory.bytes_in_flight import BytesInFlight
from plumbline_serve.memory.connections import Connection, Connections
from plumbline_serve.settings import Limits, Settings

MIB = 2**20
WAIT_S = 30.0
OWN = {OWN_CONNECTION: "1"}
JSON = {"content-type": "application/json"}
EMBED = b'{"texts":["abc"]}'


@pytest.fixture
def small(open_over):
    """Both edges, with room for 4 MiB."""
    return open_over(Settings(limits=Limits(max_request_bytes=MIB, max_bytes_in_flight=4 * MIB)))


def port_of(edge) -> int:
    return int(edge.target.rpartition(":")[2])


class Somewhere:
    """A call's context whose connection the system does not say."""

    def peer(self) -> str:
        return "unix:"


async def _endless() -> AsyncIterator[object]:
    await asyncio.Event().wait()
    yield None


async def until_in_flight(edge, least: int, most: int) -> None:
    await asyncio.to_thread(edge.notebook.wait_until_in_flight, lambda held: least <= held <= most)


WAYS = [
    pytest.param({"metadata": OWN}, id="stream"),
    pytest.param({"method": "Embed"}, id="unary"),
]


@pytest.mark.parametrize("way", WAYS)
async def test_a_begun_message_counts_as_far_as_it_has_come(small, way) -> None:
    async with begun_stream(port_of(small), 3 * MIB, num_sent=MIB, **way):
        await until_in_flight(small, MIB, MIB + 2**14)
    await until_in_flight(small, 0, 0)


@pytest.mark.parametrize("way", WAYS)
async def test_begun_messages_above_the_budget_end_their_call(small, way) -> None:
    async with AsyncExitStack() as stack:
        ends = [
            await stack.enter_async_context(begun_stream(port_of(small), 4 * MIB - 1, num_sent=int(1.6 * MIB), **way))
            for _ in range(3)
        ]
        (ended, *_), still_open = await asyncio.wait(ends, timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
        assert b"14" in ended.result()  # UNAVAILABLE
        assert len(still_open) == 2
        assert small.notebook.num_bytes < 4 * MIB
    await until_in_flight(small, 0, 0)


async def test_one_begun_message_that_is_refused_makes_room_for_the_others() -> None:
    context: Any = Somewhere()
    budget = BytesInFlight(Limits(max_request_bytes=16 * MIB // 10, max_bytes_in_flight=4 * MIB))

    async def begin() -> None:
        with budget.share() as share:
            share.settle(12 * MIB // 10)  # as far as it had come; the rest comes for all of them at once
            await receive(_endless(), share, context, max_upload_s=WAIT_S)

    begun = [asyncio.create_task(begin()) for _ in range(3)]
    (ended, *others), still_open = await asyncio.wait(begun, timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
    assert isinstance(ended.exception(), CapacityError)
    assert not others
    await asyncio.sleep(2 * LOOK_S)
    assert not any(each.done() for each in still_open)
    for each in still_open:
        each.cancel()
    await asyncio.wait(still_open)
    assert budget.num_bytes == 0


async def test_a_slow_begun_message_gives_way_and_a_silent_stream_does_not(open_over) -> None:
    limits = Limits(max_request_bytes=2 * MIB, max_bytes_in_flight=2 * MIB)
    edge = open_over(Settings(limits=limits), slow_after_s=0.0)
    async with (
        begun_stream(port_of(edge), 0, num_sent=0, metadata=OWN) as silent,
        begun_stream(port_of(edge), 2 * MIB, num_sent=MIB, metadata=OWN) as slow,
    ):
        await until_in_flight(edge, MIB, 2 * MIB)
        reply = await asyncio.to_thread(edge.http.post, "/v1/embed", content=EMBED + b" " * MIB, headers=JSON)
        assert reply.status_code == 200
        assert b"14" in await asyncio.wait_for(slow, WAIT_S)
        assert not silent.done()


async def test_a_begun_message_is_not_waited_for_without_end(open_over) -> None:
    edge = open_over(Settings(limits=Limits(max_upload_s=0.5)))
    async with (
        begun_stream(port_of(edge), 0, num_sent=0, metadata=OWN) as silent,
        begun_stream(port_of(edge), MIB, num_sent=MIB // 2, metadata=OWN) as slow,
    ):
        assert b"4" in await asyncio.wait_for(slow, WAIT_S)  # DEADLINE_EXCEEDED
        assert not silent.done()


async def test_a_stream_that_shares_its_connection_is_not_counted_by_it(small) -> None:
    async with begun_stream(port_of(small), 3 * MIB, num_sent=2 * MIB) as end:
        reply = await asyncio.to_thread(small.http.post, "/v1/embed", content=EMBED, headers=JSON)
        assert reply.status_code == 200
        assert small.notebook.num_bytes == 0
        assert not end.done()


async def test_a_unary_call_that_has_sent_nothing_holds_nothing(small) -> None:
    async with begun_stream(port_of(small), 0, num_sent=0, method="Embed"):
        async with begun_stream(port_of(small), 3 * MIB, num_sent=MIB, method="Embed"):
            await until_in_flight(small, MIB, MIB + 2**14)
        await until_in_flight(small, 0, 2**10)


@dataclass
class Ends:
    """Of a connection."""

    callers: socket.socket
    ours: socket.socket
    connection: Connection

    def send(self, num_bytes: int) -> None:
        """Send bytes, and have them arrive."""
        self.callers.sendall(bytes(num_bytes))
        while num_bytes:
            num_bytes -= len(self.ours.recv(num_bytes))


@pytest.fixture
def ends() -> Iterator[Ends]:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as callers,
        listening.accept()[0] as ours,
    ):
        yield Ends(callers, ours, Connection(ours.dup()))


def test_what_calls_of_one_connection_hold_is_no_less_than_what_came_for_them(ends) -> None:
    ends.send(50)
    ends.connection.note_read()
    with ends.connection.arriving() as first:
        ends.send(100)
        with ends.connection.arriving() as second:
            ends.send(30)
            assert (first.num_bytes(1000), second.num_bytes(1000)) == (100, 30)
            # The thirty may be of either; no message has more than it may have, and the others have the rest.
            assert (first.num_bytes(20), second.num_bytes(20)) == (20, 20)
            with ends.connection.arriving() as third:
                ends.send(40)
                third.take(40)  # it is there, and was its own
            assert (first.num_bytes(1000), second.num_bytes(1000)) == (100, 30)
        assert first.num_bytes(1000) == 130


def test_what_came_before_a_message_was_asked_for_is_its_own(ends) -> None:
    ends.send(50)
    with ends.connection.arriving() as first:
        assert first.num_bytes(1000) == 50
    with ends.connection.arriving() as second:
        assert second.num_bytes(1000) == 0


def test_a_message_takes_nothing_from_those_that_began_after_it(ends) -> None:
    with ends.connection.arriving() as first, ends.connection.arriving() as second:
        ends.send(70)
        assert first.is_first()
        first.take(70)
        assert second.num_bytes(1000) == 70  # it cannot be told whose they were


def test_a_connection_is_found_by_its_other_end_and_not_once_it_is_closed(ends) -> None:
    connections = Connections()
    host, port = ends.callers.getsockname()
    peer = f"ipv4:{host}:{port}"
    found = connections.of(peer)
    assert found is not None
    assert connections.of(peer) is found
    assert found.is_open()
    ends.callers.shutdown(socket.SHUT_RDWR)
    ends.ours.shutdown(socket.SHUT_RDWR)
    ends.ours.close()
    assert not found.is_open()
    assert connections.of(peer) is None


def connected(port: int, stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection from a port, ours second, to one of our own."""
    listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    callers = stack.enter_context(socket.socket())
    callers.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    callers.bind(("127.0.0.1", port))
    callers.connect(listening.getsockname())
    return callers, stack.enter_context(listening.accept()[0])


def test_a_connection_is_not_mistaken_for_another_from_the_same_port() -> None:
    with ExitStack() as stack:
        before, _ = connected(0, stack)
        port = before.getsockname()[1]
        before.sendall(bytes(70))
        meant, ours = connected(port, stack)
        meant.sendall(bytes(30))
        ours.recv(30, socket.MSG_WAITALL)
        assert Connections().of(f"ipv4:127.0.0.1:{port}") is None  # nobody knows which
        before.close()  # and our end of it is open
        found = Connections().of(f"ipv4:127.0.0.1:{port}")
        assert found is not None
        assert found.num_received() == 30
