"""Servers over the service of rules on real sockets, and what tests ask them with."""
# ruff: noqa: N802 - the methods of a servicer are named by the schema

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
import uvicorn
from grpc_health.v1 import health_pb2_grpc

from plumbline_serve.assembly import assemble, local_compute
from plumbline_serve.configured_scorers import encoders_of, make_scorers
from plumbline_serve.edge import Access, GrpcEdge, InferenceEdge, create_app
from plumbline_serve.edge.compat.inference_rpcs import METHODS, add_inference
from plumbline_serve.edge.grpc.unreadable import add_scoring
from plumbline_serve.memory.bytes_in_flight import BytesInFlight
from plumbline_serve.metrics import Instruments
from plumbline_serve.settings import Limits, Settings
from plumbline_serve.settings.access import AuthSettings
from plumbline_wire.v1 import scoring_pb2_grpc
from tests.keys import add_key
from tests.serve.edge.rule_service import RuleService

WAIT_S = 30.0


class Notebook:
    """An observer whose notes a test can wait for: they are written once the answer has left."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str]] = []
        self.rejections: list[str] = []
        self.expired_stages: list[str] = []
        self.num_bytes = 0
        self.num_limits_failures = 0
        self.reloads = threading.Semaphore(0)
        self._changed = threading.Condition()

    def request(self, route: str, protocol: str, code: str, seconds: float) -> None:
        assert seconds >= 0
        with self._changed:
            self.requests.append((route, protocol, code))
            self._changed.notify_all()

    def rejection(self, reason: str) -> None:
        self.rejections.append(reason)

    def expired(self, stage: str) -> None:
        self.expired_stages.append(stage)

    def in_flight(self, num_bytes: int) -> None:
        with self._changed:
            self.num_bytes = num_bytes
            self._changed.notify_all()

    def limits_failed(self) -> None:
        self.num_limits_failures += 1

    def wait_until_in_flight(self, is_so: Callable[[int], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: is_so(self.num_bytes), WAIT_S), self.num_bytes

    def wait_for(self, *noted: tuple[str, str, str]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: set(noted) <= set(self.requests), WAIT_S), self.requests


class Rpcs(scoring_pb2_grpc.ScoringServicer, health_pb2_grpc.HealthServicer):
    """Hosts the edge in plain grpc.aio, with gRPC's own context."""

    def __init__(self, edge: GrpcEdge) -> None:
        self.edge = edge

    async def Score(self, request, context):
        return await self.edge.score(request, context)

    async def Select(self, request, context):
        return await self.edge.select(request, context)

    async def Filter(self, request, context):
        return await self.edge.filter(request, context)

    async def Rank(self, request, context):
        return await self.edge.rank(request, context)

    async def Embed(self, request, context):
        return await self.edge.embed(request, context)

    async def Diversity(self, request, context):
        return await self.edge.diversity(request, context)

    async def Distance(self, request, context):
        return await self.edge.distance(request, context)

    async def Audit(self, request, context):
        return await self.edge.audit(request, context)

    async def ReferSet(self, request, context):
        return await self.edge.refer_set(request, context)

    async def ListReferenceSets(self, request, context):
        return await self.edge.list_reference_sets(request, context)

    async def DeleteReferenceSet(self, request, context):
        return await self.edge.delete_reference_set(request, context)

    async def ListScorers(self, request, context):
        return await self.edge.list_scorers(request, context)

    async def ListModels(self, request, context):
        return await self.edge.list_models(request, context)

    async def ScoreStream(self, requests, context):
        async for reply in self.edge.score_stream(requests, context):
            yield reply

    async def Check(self, request, context):
        return await self.edge.check(request, context)

    async def List(self, request, context):
        return await self.edge.check_all(request, context)

    async def Watch(self, request, context):
        async for response in self.edge.watch(request, context):
            yield response


class Loop:
    """An event loop on a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(WAIT_S)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(WAIT_S)
        self.loop.close()


@dataclass
class Edge:
    """Both edges over one service, and clients of them."""

    service: Any
    notebook: Notebook
    url: str
    address: tuple[str, int]
    target: str
    http: httpx.Client
    channel: grpc.Channel
    rpc: scoring_pb2_grpc.ScoringStub
    settings: Settings
    loop: Loop
    closers: list[Callable[[], Any]] = field(default_factory=list)

    def post(self, path: str, document: Any = None, **kwargs: Any) -> httpx.Response:
        return self.http.post(path, **({"json": document} if document is not None else {}), **kwargs)


def open_edge(settings: Settings, service: Any = None, **budget: Any) -> Edge:
    """Both edges over the service, by default the one of rules.

    Args:
        settings: Of both.
        service: What replies.
        **budget: As `BytesInFlight` takes it.
    """
    service, notebook, loop = service or RuleService(), Notebook(), Loop()
    in_flight = BytesInFlight(settings.limits, notebook, **budget)
    listener = socket.create_server(("127.0.0.1", 0))
    access = Access.open(settings.auth, notebook)
    app = create_app(
        service, settings, notebook, bytes_in_flight=in_flight, access=access, reload=notebook.reloads.release
    )
    config = uvicorn.Config(app, log_config=None, lifespan="off")
    rest = uvicorn.Server(config)
    serving = asyncio.run_coroutine_threadsafe(rest.serve([listener]), loop.loop)

    async def start_grpc() -> tuple[grpc.aio.Server, int]:
        server = grpc.aio.server()
        rpcs = Rpcs(GrpcEdge(service, settings, notebook, bytes_in_flight=in_flight, access=access))
        add_scoring(rpcs, server)
        health_pb2_grpc.add_HealthServicer_to_server(rpcs, server)
        inference = InferenceEdge(service, settings, notebook, bytes_in_flight=in_flight, access=access)
        add_inference(SimpleNamespace(**{name: partial(inference.call, name) for name in METHODS}), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, port

    server, port = loop.run(start_grpc())
    address = listener.getsockname()
    url = f"http://{address[0]}:{address[1]}"
    http = httpx.Client(base_url=url, timeout=WAIT_S, trust_env=False)
    target = f"127.0.0.1:{port}"
    channel = grpc.insecure_channel(target)

    def stop_rest() -> None:
        rest.should_exit = True
        serving.result(WAIT_S)

    async def leave_redis() -> None:
        if (shared := access._quotas._shared) is not None:
            await shared.storage.bridge.storage.aclose()  # type: ignore[attr-defined]  # of its Redis

    closers = [http.close, channel.close, stop_rest, lambda: loop.run(server.stop(None)), access.close]
    closers += [lambda: loop.run(leave_redis()), loop.close]
    rpc = scoring_pb2_grpc.ScoringStub(channel)
    return Edge(service, notebook, url, address, target, http, channel, rpc, settings, loop, closers)


def close_edge(edge: Edge) -> None:
    for close in edge.closers:
        close()


def small_settings(**changes: Any) -> Settings:
    limits = Limits(max_items=8, max_questions=16, max_request_bytes=2**20, max_pixels=240_000, max_text_chars=64)
    return Settings(**{"limits": limits} | changes)


@pytest.fixture(scope="session")
def _edge() -> Iterator[Edge]:
    edge = open_edge(small_settings())
    yield edge
    close_edge(edge)


@pytest.fixture
def edge(_edge: Edge) -> Edge:
    """Both edges, with small limits and no keys."""
    _edge.service.received.clear()
    _edge.service.callers.clear()
    _edge.service.is_ready = True
    _edge.service.groups.clear()
    _edge.notebook.requests.clear()
    _edge.notebook.rejections.clear()
    _edge.notebook.expired_stages.clear()
    return _edge


@pytest.fixture(scope="session")
def guarded_edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """Both edges, open to those who know a key."""
    keys = tmp_path_factory.mktemp("keys") / "keys.yaml"
    add_key(keys, "first-key", scopes=("score", "admin"))
    add_key(keys, "second-key")
    add_key(keys, "operator-key", scopes=("admin",))
    add_key(keys, "deciding-key", scopes=("score", "decide"))
    edge = open_edge(small_settings(auth=AuthSettings(keys_file=keys)))
    yield edge
    close_edge(edge)


@pytest.fixture
def open_over() -> Iterator[Callable[[Settings, Any], Edge]]:
    """Opens both edges over a service of the test's own."""
    opened: list[Edge] = []

    def opener(settings: Settings, service: Any = None, **changes: Any) -> Edge:
        opened.append(open_edge(settings, service, **changes))
        return opened[-1]

    yield opener
    for each in opened:
        close_edge(each)


@pytest.fixture
def open_embedded(open_over) -> Callable[[Settings], Edge]:
    """Opens both edges over scorers and encoders of this process, as settings say."""

    def opener(settings: Settings) -> Edge:
        scorers, instruments = make_scorers(settings), Instruments()
        compute = local_compute(settings, encoders_of(scorers.values()), instruments)
        service = assemble(settings, scorers, compute=compute, instruments=instruments).service
        opened = open_over(settings, service)
        opened.closers.insert(0, lambda: opened.loop.run(compute.close()))
        opened.loop.run(compute.start())
        service.is_loaded = True
        return opened

    return opener


@pytest.fixture(scope="session")
def open_for_all() -> Iterator[Callable[[Settings, Any], Edge]]:
    """As `open_over`, for tests that share what they open."""
    opened: list[Edge] = []

    def opener(settings: Settings, service: Any = None) -> Edge:
        opened.append(open_edge(settings, service))
        return opened[-1]

    yield opener
    for each in opened:
        close_edge(each)


@pytest.fixture
def form() -> Callable[..., dict[str, Any]]:
    """Arguments for httpx to send a document and parts as a form."""

    def make(document: bytes, **parts: bytes) -> dict[str, Any]:
        files = {"request": ("request", document, "application/json")}
        return {"files": files | {name: (name, data) for name, data in parts.items()}}

    return make
