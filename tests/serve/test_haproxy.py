"""The real HAProxy, started by our launcher on what Ray's own template makes, before a gateway that does as told."""

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
from ray.serve._private.common import RequestProtocol
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions, gRPCOptions
from ray.serve.generated import serve_pb2

from plumbline_serve import haproxy
from plumbline_serve.haproxy import write_launcher
from plumbline_serve.haproxy_config import RefusedError, rewrite
from plumbline_serve.ports import free_port
from plumbline_serve.settings import Limits, Settings

WAIT_S = 30.0
NEIGHBOUR = "127.0.0.2"
LIVEZ = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST /v1/score HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n%s\r\n"
HALF_A_HEAD = b"POST /v1/score HTTP/1.1\r\nhost: x\r\nx-long: "


class Gateway:
    """Listens as a replica does: answers probes at once and everything else when the test says so."""

    def __init__(self) -> None:
        self.heads: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self.gone: asyncio.Queue[str] = asyncio.Queue()
        self.answer = asyncio.Event()
        self.metadata: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.port = self.grpc_port = 0
        self._serving: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                request, *lines = head.split("\r\n")
                if " /-/healthz " not in request and " /livez " not in request:
                    self.heads.put_nowait(dict(line.split(": ", 1) for line in lines if line))
                    await self._until_answered(reader, request)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            self._serving.discard(task)
            writer.close()

    async def stop(self) -> None:
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _until_answered(self, reader: asyncio.StreamReader, request: str) -> None:
        told = asyncio.ensure_future(self.answer.wait())
        hung_up = asyncio.ensure_future(reader.read(1))
        await asyncio.wait({told, hung_up}, return_when=asyncio.FIRST_COMPLETED)
        if hung_up.done():
            self.gone.put_nowait(request)
        for waiting in (told, hung_up):
            waiting.cancel()
        await asyncio.gather(told, hung_up, return_exceptions=True)

    async def echo(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        self.metadata.put_nowait(dict(context.invocation_metadata()))
        async for request in requests:
            yield request


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
    await rpcs.start()
    yield gateway
    rest.close()
    await gateway.stop()
    await rpcs.stop(None)


class Front:
    """A running HAProxy."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        address = ("127.0.0.1", self.settings.port)
        return socket.create_connection(address, timeout=WAIT_S, source_address=(source, 0))

    async def ask(self, sent: bytes, source: str = "127.0.0.1") -> tuple[int, bytes]:
        """The status and the rest of the answer to a request."""
        return await asyncio.to_thread(self._ask, sent, source)

    def _ask(self, sent: bytes, source: str) -> tuple[int, bytes]:
        with closing(self.connect(source)) as connection:
            connection.sendall(sent)
            answer = connection.recv(65536)
        return int(answer.split()[1]), answer

    def channel(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.settings.grpc_port}")


def rays_config(folder: Path, settings: Settings, gateway: Gateway | None) -> Path:
    """What Ray writes for an application with one gateway; None: for one without."""
    file = folder / "haproxy.cfg"
    options = gRPCOptions(port=settings.grpc_port, grpc_servicer_functions=["plumbline_serve.app.build"])
    config = HAProxyConfig(
        socket_path=str(folder / "s"),
        server_state_base=str(folder),
        server_state_file=str(folder / "state"),
        stats_port=free_port(),
        metrics_port=free_port(),
        metrics_enabled=False,
        nbthread=1,
        http_options=HTTPOptions(host="127.0.0.1", port=settings.port),
        grpc_options=options,
    )
    kinds = {"http": RequestProtocol.HTTP, "grpc": RequestProtocol.GRPC}
    backends = {}
    for name, protocol in kinds.items():
        ports = {} if gateway is None else {"http": gateway.port, "grpc": gateway.grpc_port}
        backends[name] = BackendConfig(
            name=name,
            path_prefix="/",
            app_name="plumbline",
            protocol=protocol,
            servers=[ServerConfig("gateway", "127.0.0.1", port) for kind, port in ports.items() if kind == name],
            fallback_server=ServerConfig("rays-proxy", "127.0.0.1", free_port()),
        )
    HAProxyApi(config, backends, config_file_path=str(file))._generate_config_file_internal()
    pages = [config.metrics_port, config.stats_port]
    launcher = write_launcher(folder, settings, pages)
    assert launcher is not None
    return file


def some_settings(**limits: int) -> Settings:
    return Settings(host="127.0.0.1", port=free_port(), grpc_port=free_port(), limits=Limits(**limits))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Front]]:
    started: list[subprocess.Popen[bytes]] = []

    def starter(gateway: Gateway | None, **limits: int) -> Front:
        front = Front(some_settings(**limits))
        file = rays_config(tmp_path, front.settings, gateway)
        started.append(subprocess.Popen([tmp_path / "haproxy", "-db", "-f", file], stderr=subprocess.DEVNULL))
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


async def test_a_head_that_does_not_end_is_given_up(start, gateway, monkeypatch) -> None:
    monkeypatch.setattr(haproxy, "HEAD_S", 1)
    front = start(gateway)
    status, _ = await front.ask(HALF_A_HEAD)
    assert status == 408


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


async def test_a_gateway_hears_of_the_deadline_of_a_call(start, gateway) -> None:
    front = start(gateway)
    async with front.channel() as channel:
        for timeout, metadata in ((20, ()), (None, (("x-plumbline-grpc-timeout", "1H"),))):
            stream = channel.stream_stream("/t.Test/Echo")(timeout=timeout, metadata=metadata)
            await stream.done_writing()
            assert [each async for each in stream] == []
    told, without = [await gateway.metadata.get() for _ in range(2)]
    assert told["x-plumbline-grpc-timeout"][:2] in {"19", "20"}
    assert "x-plumbline-grpc-timeout" not in without
    assert abs(int(without["x-plumbline-received-ms"]) / 1000 - time.time()) < WAIT_S


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


def test_only_callers_are_listened_to_from_outside_and_rays_proxy_is_left_out(tmp_path) -> None:
    settings = some_settings().model_copy(update={"host": "0.0.0.0"})
    file = rays_config(tmp_path, settings, Gateway())
    plan = json.loads((tmp_path / "haproxy.json").read_text(encoding="utf-8"))
    text = rewrite(file.read_text(encoding="utf-8"), plan)
    bound = {line.split()[1] for line in text.splitlines() if line.lstrip().startswith("bind ")}
    pages = {f"127.0.0.1:{port}" for port in plan["pages"]}
    assert bound == {f"0.0.0.0:{settings.port}", f"0.0.0.0:{settings.grpc_port}", *pages}
    assert "rays-proxy" not in text


UNKNOWN = [
    pytest.param(("bind ", "bind 0.0.0.0:1\n    bind "), id="another address"),
    pytest.param(
        ("frontend http_frontend", "listen more\n    bind :7777\nfrontend http_frontend"), id="another section"
    ),
    pytest.param(("backend http\n", "backend renamed\n"), id="a backend that is not there"),
    pytest.param(("defaults\n", "defaults\n    mode http\ndefaults second\n"), id="defaults twice"),
    pytest.param(("listen stats", "backend more\n    server s 127.0.0.1:1\nlisten stats"), id="unreached servers"),
]


@pytest.mark.parametrize("change", UNKNOWN)
def test_haproxy_is_not_started_on_what_the_rules_do_not_know(change: tuple[str, str], tmp_path) -> None:
    file = rays_config(tmp_path, some_settings(), Gateway())
    text = file.read_text(encoding="utf-8")
    assert change[0] in text
    file.write_text(text.replace(*change), encoding="utf-8")
    ran = subprocess.run([tmp_path / "haproxy", "-c", "-f", file], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "is not started" in ran.stderr
    plan = json.loads((tmp_path / "haproxy.json").read_text(encoding="utf-8"))
    with pytest.raises(RefusedError):
        rewrite(file.read_text(encoding="utf-8"), plan)


@pytest.mark.parametrize("host", ["::1", "::"])
def test_an_ipv6_host_is_written_as_haproxy_reads_it(host: str, tmp_path) -> None:
    settings = some_settings().model_copy(update={"host": host})
    bound = [front.bind.split()[0] for front in haproxy.make_plan(tmp_path, settings, []).fronts]
    assert bound == [f"[{host}]:{settings.port}", f"[{host}]:{settings.grpc_port}"]


def test_fewer_connections_are_let_in_where_there_are_few_descriptors(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 1024))
    plan = haproxy.make_plan(tmp_path, some_settings(), [])
    assert 2 * int(plan.globals[0].split()[1]) < 1024


def begin_a_head(front: Front) -> socket.socket:
    """A caller that sends half a head, whether or not it is let in."""
    caller = socket.socket()
    with suppress(ConnectionError):
        caller.connect(("127.0.0.1", front.settings.port))
        caller.sendall(HALF_A_HEAD)
    return caller
