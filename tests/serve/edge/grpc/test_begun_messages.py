"""What a stream's begun messages hold is counted while they arrive, and bounded with everything else."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from loadtests.service.begun_streams import begun_stream
from plumbline_serve.edge.received import OWN_CONNECTION
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


async def until_in_flight(edge, least: int, most: int) -> None:
    await asyncio.to_thread(edge.notebook.wait_until_in_flight, lambda held: least <= held <= most)


async def test_a_begun_message_counts_as_far_as_it_has_come(small) -> None:
    async with begun_stream(port_of(small), 3 * MIB, num_sent=MIB, metadata=OWN):
        await until_in_flight(small, MIB, MIB + 2**14)
    await until_in_flight(small, 0, 0)


async def test_begun_messages_above_the_budget_end_their_stream(small) -> None:
    async with AsyncExitStack() as stack:
        ends = [
            await stack.enter_async_context(
                begun_stream(port_of(small), 4 * MIB - 1, num_sent=int(1.6 * MIB), metadata=OWN)
            )
            for _ in range(3)
        ]
        (ended, *_), still_open = await asyncio.wait(ends, timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
        assert b"14" in ended.result()  # UNAVAILABLE
        assert len(still_open) == 2
        assert small.notebook.num_bytes < 4 * MIB
    await until_in_flight(small, 0, 0)


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
