"""What callers meet in HAProxy: half-sent heads, no place, no gateway; and what the gateway hears of them."""

import asyncio
import json
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from ray.serve.generated import serve_pb2

from plumbline_serve.edge.received import OWN_CONNECTION
from plumbline_serve.haproxy import plan as haproxy
from plumbline_wire import SCORING_SERVICE
from tests.serve.haproxy.fronts import WAIT_S, Front, Gateway, rays_config, some_settings, write_cluster_launcher

NEIGHBOUR = "127.0.0.2"
LIVEZ = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST /v1/score HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n%s\r\n"
IMAGE_POST = b"POST /v1/score HTTP/1.1\r\nhost: x\r\ncontent-length: 22000\r\n\r\n" + bytes(22000)
NUM_VANISHING = 200
HALF_A_HEAD = b"POST /v1/score HTTP/1.1\r\nhost: x\r\nx-long: "


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    gateway = Gateway()
    rest = await asyncio.start_server(gateway.serve, "127.0.0.1", 0)
    gateway.port = rest.sockets[0].getsockname()[1]
    rpcs = grpc.aio.server()
    gateway.grpc_port = rpcs.add_insecure_port("127.0.0.1:0")
    message: Any = serve_pb2  # its classes are made at run time
    healthy = message.HealthzResponse(message="success").SerializeToString()
    healthz = grpc.unary_unary_rpc_method_handler(lambda *_: healthy)
    rays = {"Healthz": healthz}
    rpcs.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("ray.serve.RayServeAPIService", rays),))
    echo = {"Echo": grpc.stream_stream_rpc_method_handler(gateway.echo)}
    rpcs.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.Test", echo),))
    watch = {"Watch": grpc.stream_stream_rpc_method_handler(gateway.echo)}
    rpcs.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", watch),))
    stream = {"ScoreStream": grpc.stream_stream_rpc_method_handler(gateway.echo)}
    rpcs.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SCORING_SERVICE, stream),))
    await rpcs.start()
    yield gateway
    rest.close()
    await gateway.stop()
    await rpcs.stop(None)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Front]]:
    started: list[subprocess.Popen[bytes]] = []

    def starter(gateway: Gateway | None, *, is_cluster: bool = False, **limits: int) -> Front:
        front = Front(some_settings(**limits))
        file = rays_config(tmp_path, front.settings, gateway)
        program = write_cluster_launcher(tmp_path) if is_cluster else tmp_path / "haproxy"
        started.append(subprocess.Popen([program, "-db", "-f", file], stderr=subprocess.DEVNULL))
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            try:
                front.connect().close()
            except ConnectionRefusedError:
                assert started[-1].poll() is None
                time.sleep(0.01)
            else:
                return front
        raise TimeoutError

    yield starter
    for process in started:
        process.kill()
        process.wait()


async def test_a_gateway_is_asked_and_told_when_the_request_came(start, gateway) -> None:
    front = start(gateway)
    gateway.answer.set()
    before_ms = time.time() * 1000 - 1
    status, _ = await front.ask(POST % b"x-plumbline-received-ms: 1\r\n")
    assert status == 200
    assert before_ms <= int((await gateway.heads.get())["x-plumbline-received-ms"]) <= time.time() * 1000


async def test_without_a_gateway_callers_of_both_wires_hear_of_it_at_once(start) -> None:
    front = start(None)
    status, answer = await front.ask(POST % b"")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert status == 503
    assert b"retry-after: 5" in head
    assert b"x-request-id: " in head
    assert b"x-content-type-options: nosniff" in head
    assert head.count(b"cache-control: no-store") == 1
    assert json.loads(body)["code"] == "not_ready"
    async with front.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/plumbline.v1.Scoring/ListScorers")(b"", timeout=WAIT_S)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == haproxy.NOBODY_THERE


async def test_half_sent_heads_take_no_place_from_others(start, gateway) -> None:
    front = start(gateway, max_connections=40, max_connections_per_address=20)
    with ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(closing(begin_a_head(front)))
        status, _ = await front.ask(LIVEZ, NEIGHBOUR)
    assert status == 200


async def test_an_address_opens_no_more_connections_than_it_may(start, gateway) -> None:
    front = start(gateway, max_new_connections_per_address=20)
    refused = 0
    for _ in range(40):
        try:
            await front.ask(LIVEZ)
        except (ConnectionError, IndexError):  # IndexError: it ends without an answer
            refused += 1
    assert 20 <= refused < 40  # `start` took some places too
    assert (await front.ask(LIVEZ, NEIGHBOUR))[0] == 200


@pytest.mark.parametrize("path", [b"/-/routes", b"/-/healthz", b"/-/ROUTES?x=1", b"/%2d/routes", b"http://x/-/healthz"])
async def test_rays_own_routes_are_not_there_for_callers(path: bytes, start, gateway) -> None:
    front = start(gateway)
    status, answer = await front.ask(b"GET %s HTTP/1.1\r\nhost: x\r\n\r\n" % path)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert status == 404
    assert b"content-type: application/problem+json" in head
    assert b"x-request-id: " in head
    assert json.loads(body)["code"] == "not_found"
    assert gateway.heads.empty()
    assert (await front.ask(LIVEZ))[0] == 200  # HAProxy's own checks of the gateway go on


async def test_rays_own_methods_are_not_there_for_callers(start, gateway) -> None:
    front = start(gateway)
    async with front.channel() as channel:
        for method in ("ListApplications", "Healthz"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(f"/ray.serve.RayServeAPIService/{method}")(b"", timeout=WAIT_S)
            assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        stream = channel.stream_stream("/t.Test/Echo")(metadata=(("application", "another"),), timeout=WAIT_S)
        await stream.done_writing()
        assert [each async for each in stream] == []
    assert "application" not in await gateway.metadata.get()


async def test_a_head_that_does_not_end_is_given_up(start, gateway, monkeypatch) -> None:
    monkeypatch.setattr(haproxy, "HEAD_S", 1)
    front = start(gateway)
    status, _ = await front.ask(HALF_A_HEAD)
    assert status == 408


async def test_a_method_that_no_route_has_is_refused_and_unusual_ones_reach_the_gateway(start, gateway) -> None:
    front = start(gateway)
    gateway.answer.set()
    status, answer = await front.ask(b"BREW /v1/score HTTP/1.1\r\nhost: x\r\nx-request-id: mine\r\n\r\n")
    assert (status, json.loads(answer.partition(b"\r\n\r\n")[2])["code"]) == (405, "method_not_allowed")
    assert b"x-request-id: mine\r\n" in answer
    assert b"allow: DELETE, GET, HEAD, OPTIONS, POST\r\n" in answer
    assert (await front.ask(b"PATCH /v1/score HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"))[0] == 200


@pytest.mark.parametrize(
    ("sent", "is_kept"),
    [(b"job-7/a", True), (b"my job", True), (b"x" * 128, True), (b"x" * 129, False), (b"\xc3\xa4", False)],
)
async def test_haproxys_own_answers_have_the_callers_id(sent: bytes, is_kept: bool, start) -> None:
    _, answer = await start(None).ask(POST % b"x-request-id: %s\r\n" % sent)
    head = answer.partition(b"\r\n\r\n")[0]
    assert head.count(b"x-request-id: ") == 1
    assert (b"x-request-id: %s\r\n" % sent in head + b"\r\n") == is_kept


async def test_what_finds_no_place_is_refused_soon_and_probes_pass_it(start, gateway, monkeypatch) -> None:
    monkeypatch.setattr(haproxy, "REST_PLACES", 2)
    monkeypatch.setattr(haproxy, "QUEUE_S", 1)
    front = start(gateway)
    answers = [asyncio.create_task(front.ask(POST % b"")) for _ in range(2)]
    for _ in answers:
        await gateway.heads.get()
    refused = asyncio.create_task(front.ask(POST % b""))
    assert (await front.ask(LIVEZ))[0] == 200
    status, answer = await refused
    assert status == 503
    assert b"retry-after: 5" in answer
    gateway.answer.set()
    assert [(await each)[0] for each in answers] == [200, 200]
    assert gateway.heads.empty()


async def test_callers_who_watch_or_read_the_schema_take_no_place_from_calls(start, gateway, monkeypatch) -> None:
    monkeypatch.setattr(haproxy, "GRPC_PLACES", 1)
    monkeypatch.setattr(haproxy, "WATCH_PLACES", 1)
    front = start(gateway)
    async with front.channel() as channel, front.channel() as other:
        watch = channel.stream_stream("/grpc.health.v1.Health/Watch")(timeout=WAIT_S)
        await watch.write(b"first")
        assert await watch.read() == b"first"
        for path in ("/grpc.health.v1.Health/Watch", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"):
            await channel.stream_stream(path)(timeout=WAIT_S).write(b"waits")
        call = other.stream_stream("/t.Test/Echo")(timeout=WAIT_S)
        await call.write(b"call")
        assert await call.read() == b"call"


async def test_a_caller_that_vanishes_leaves_neither_the_queue_nor_the_gateway_with_work(
    start, gateway, monkeypatch
) -> None:
    monkeypatch.setattr(haproxy, "REST_PLACES", 2)
    monkeypatch.setattr(haproxy, "QUEUE_S", 20)
    front = start(gateway)
    with ExitStack() as stack:
        callers = [stack.enter_context(closing(front.connect())) for _ in range(12)]
        for caller in callers:
            caller.sendall(POST % b"")
        for _ in range(2):
            await gateway.heads.get()
    for _ in range(2):
        await gateway.gone.get()
    last = asyncio.create_task(front.ask(POST % b"x-who: last\r\n"))
    while (await gateway.heads.get()).get("x-who") != "last":
        await gateway.gone.get()  # was given a place while HAProxy had yet to hear that its caller had gone
    gateway.answer.set()
    assert (await last)[0] == 200
    assert gateway.heads.empty()


@pytest.mark.parametrize("is_cluster", [False, True])
async def test_callers_that_vanish_once_a_body_was_sent_are_noticed_one_and_all(start, gateway, is_cluster) -> None:
    front = start(gateway, is_cluster=is_cluster, max_connections_per_address=0)
    for is_answered in (True, False):  # so that the second time connections to the gateway are there
        with ExitStack() as stack:
            callers = [stack.enter_context(closing(front.connect())) for _ in range(NUM_VANISHING)]
            for caller in callers:
                await asyncio.to_thread(caller.sendall, IMAGE_POST)
            for _ in callers:
                await asyncio.wait_for(gateway.heads.get(), WAIT_S)
            if is_answered:
                gateway.answer.set()
                for caller in callers:
                    assert b" 200 " in await asyncio.to_thread(caller.recv, 65536)
                gateway.answer.clear()
    for _ in range(NUM_VANISHING):
        await asyncio.wait_for(gateway.gone.get(), WAIT_S)


async def test_a_long_answer_and_an_idle_stream_outlast_the_time_a_caller_may_be_silent(
    start, gateway, monkeypatch
) -> None:
    for name in ("CLIENT_S", "HEAD_S", "IDLE_S"):
        monkeypatch.setattr(haproxy, name, 1)
    front = start(gateway)
    waiting = asyncio.create_task(front.ask(POST % b""))
    async with front.channel() as channel:
        stream = channel.stream_stream("/t.Test/Echo")(timeout=WAIT_S)
        await stream.write(b"first")
        assert await stream.read() == b"first"
        await asyncio.sleep(3)  # three times as long
        await stream.write(b"second")
        assert await stream.read() == b"second"
        await stream.done_writing()
    gateway.answer.set()
    assert (await waiting)[0] == 200


@pytest.mark.parametrize("is_cluster", [False, True])
async def test_a_gateway_hears_of_the_deadline_of_a_call(start, gateway, is_cluster) -> None:
    front = start(gateway, is_cluster=is_cluster)
    async with front.channel() as channel:
        for timeout, metadata in ((20, ()), (None, (("x-plumbline-grpc-timeout", "1H"),))):
            stream = channel.stream_stream("/t.Test/Echo")(timeout=timeout, metadata=metadata)
            await stream.done_writing()
            assert [each async for each in stream] == []
    told, without = [await gateway.metadata.get() for _ in range(2)]
    assert told["x-plumbline-grpc-timeout"][:2] in {"19", "20"}
    assert "x-plumbline-grpc-timeout" not in without
    if not is_cluster:  # whose machines have clocks of their own
        assert abs(int(without["x-plumbline-received-ms"]) / 1000 - time.time()) < WAIT_S


@pytest.mark.parametrize("is_cluster", [False, True])
async def test_each_stream_has_a_connection_of_its_own_to_the_gateway(start, gateway, is_cluster) -> None:
    front = start(gateway, is_cluster=is_cluster)
    async with front.channel() as channel:
        for path, num_connections in ((f"/{SCORING_SERVICE}/ScoreStream", 4), ("/t.Test/Echo", 1)):
            own = ((OWN_CONNECTION, "1"),)
            streams = [channel.stream_stream(path)(timeout=WAIT_S, metadata=own) for _ in range(4)]
            for stream in streams:
                await stream.write(b"first")
                assert await stream.read() == b"first"
            told = [await gateway.metadata.get() for _ in streams]
            assert len({each["peer"] for each in told}) == num_connections
            assert {OWN_CONNECTION in each for each in told} == {num_connections == 4}
            for stream in streams:
                await stream.done_writing()
                assert await stream.read() is grpc.aio.EOF


def test_haproxy_ends_with_the_process_that_started_it(tmp_path) -> None:
    settings = some_settings()
    file = rays_config(tmp_path, settings, None)
    front = Front(settings)
    shell = subprocess.Popen(
        ["sh", "-c", f"'{tmp_path}/haproxy' -db -f '{file}' 2>/dev/null & echo $!; wait"], stdout=-1
    )
    assert shell.stdout is not None
    haproxy_pid = int(shell.stdout.readline())
    try:
        while not is_listening(front):
            time.sleep(0.01)
        shell.send_signal(signal.SIGKILL)
        shell.wait()
        while is_listening(front):
            time.sleep(0.01)
    finally:
        shell.stdout.close()
    assert haproxy_pid


def is_listening(front: Front) -> bool:
    try:
        front.connect().close()
    except ConnectionRefusedError:
        return False
    return True


def begin_a_head(front: Front) -> socket.socket:
    """A caller that sends half a head, whether or not it is let in."""
    caller = socket.socket()
    with suppress(ConnectionError):
        caller.connect(("127.0.0.1", front.settings.port))
        caller.sendall(HALF_A_HEAD)
    return caller
