"""A REST server and a gRPC server on real sockets that record what arrives and answer what a test tells them to."""

import asyncio
import inspect
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import uvicorn
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from plumbline_client import AsyncClient, AsyncGrpcClient, Client, GrpcClient, RetryPolicy
from plumbline_serve.settings import Settings
from plumbline_serve.settings.access import AuthSettings
from plumbline_wire.v1 import scoring_pb2 as pb
from plumbline_wire.v1 import scoring_pb2_grpc
from tests.clients.counting_service import KEY, CountingService, Running, serve
from tests.keys import add_key


@dataclass
class Arrived:
    """One HTTP request, as a server sees it."""

    method: str
    path: str
    headers: Mapping[str, str]
    document: Any = None
    parts: dict[str, bytes] = field(default_factory=dict)


async def receive(request: Request) -> Arrived:
    arrived = Arrived(request.method, request.url.path, dict(request.headers))
    kind = request.headers.get("content-type", "")
    if kind.startswith("multipart/form-data"):
        async with request.form() as form:
            for name, value in form.multi_items():
                assert name not in arrived.parts
                arrived.parts[name] = await value.read() if isinstance(value, UploadFile) else value.encode()
        arrived.document = json.loads(arrived.parts.pop("request"))
    elif kind:
        arrived.document = await request.json()
    return arrived


def json_response(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    media_type = "application/json" if status == 200 else "application/problem+json"
    return Response(json.dumps(document), status, headers, media_type)


class RestServer:
    """Answers each request with the next of `answers`, the last one for ever."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.arrived: list[Arrived] = []
        self.answers: list[Response | None] = []

    def answer(self, document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.answers.append(json_response(document, status, headers))

    def never_answer(self) -> None:
        self.answers.append(None)

    async def handle(self, request: Request) -> Response:
        self.arrived.append(await receive(request))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        while answer is None:
            if (await request.receive())["type"] == "http.disconnect":
                return Response(status_code=500)
        return answer


class _Dispatch:
    def __init__(self) -> None:
        self.server: RestServer | None = None

    async def __call__(self, request: Request) -> Response:
        assert self.server is not None
        return await self.server.handle(request)


@pytest.fixture(scope="session")
def rest_socket() -> Iterator[tuple[str, _Dispatch]]:
    dispatch = _Dispatch()
    routes = [Route("/{path:path}", dispatch.__call__, methods=["GET", "POST"])]
    config = uvicorn.Config(Starlette(routes=routes), log_level="error", lifespan="off", ws="none", loop="asyncio")
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}", dispatch
    server.should_exit = True
    thread.join()
    listening.close()


@pytest.fixture
def rest_server(rest_socket: tuple[str, _Dispatch]) -> RestServer:
    url, dispatch = rest_socket
    dispatch.server = RestServer(url)
    return dispatch.server


Handler = Callable[[Any, grpc.aio.ServicerContext], Any]


class GrpcServer(scoring_pb2_grpc.ScoringServicer):
    """Answers each call with what its handler makes of it; one handler for all methods but the stream's."""

    def __init__(self) -> None:
        self.target = ""
        self.arrived: list[Any] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.handlers: list[Handler] = []
        self.stream: Callable[[Any, grpc.aio.ServicerContext], Any] | None = None
        self.health = health.aio.HealthServicer()
        self.loop: asyncio.AbstractEventLoop

    def answer(self, reply: Any) -> None:
        async def handler(request: Any, context: grpc.aio.ServicerContext) -> Any:
            return reply

        self.handlers.append(handler)

    def refuse(self, code: grpc.StatusCode, detail: str, details: Any = None) -> None:
        """Fail a call, with a `google.rpc.Status` or without, as a server behind Ray Serve does: set and return."""

        async def handler(request: Any, context: grpc.aio.ServicerContext) -> Any:
            if details is not None:
                packed = details.SerializeToString()
                context.set_trailing_metadata((("grpc-status-details-bin", packed), ("x-request-id", "theirs")))
            context.set_code(code)
            context.set_details(detail)
            return pb.ScoreReply()

        self.handlers.append(handler)

    def never_answer(self) -> None:
        async def handler(request: Any, context: grpc.aio.ServicerContext) -> Any:
            await asyncio.Event().wait()

        self.handlers.append(handler)

    def set_health(self, status: Any) -> None:
        setting = self.health.set("", status)
        asyncio.run_coroutine_threadsafe(setting, self.loop).result()

    async def _handle(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        self.arrived.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        handler = self.handlers.pop(0) if len(self.handlers) > 1 else self.handlers[0]
        return await handler(request, context)

    Score = Rank = Select = Filter = Embed = ListScorers = ListModels = _handle
    Diversity = Distance = Audit = ReferSet = ListReferenceSets = DeleteReferenceSet = _handle

    async def ScoreStream(self, requests: Any, context: grpc.aio.ServicerContext) -> Any:  # noqa: N802 - the schema's
        self.metadata.append(dict(context.invocation_metadata()))
        assert self.stream is not None
        async for reply in self.stream(requests, context):
            yield reply


@pytest.fixture
def grpc_server() -> Iterator[GrpcServer]:
    servicer = GrpcServer()
    is_up = threading.Event()
    over: asyncio.Event

    async def serve() -> None:
        nonlocal over
        over = asyncio.Event()
        servicer.loop = asyncio.get_running_loop()
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
        scoring_pb2_grpc.add_ScoringServicer_to_server(servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(servicer.health, server)
        servicer.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await servicer.health.set("", health_pb2.HealthCheckResponse.SERVING)
        await server.start()
        is_up.set()
        await over.wait()
        await server.stop(None)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    is_up.wait()
    yield servicer
    servicer.loop.call_soon_threadsafe(over.set)
    thread.join()


@pytest.fixture
def nobody() -> str:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return f"127.0.0.1:{closed.getsockname()[1]}"


@pytest.fixture
def slept() -> list[float]:
    """What a client given `slept.append` for its sleep has waited, seconds, without waiting."""
    return []


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Running]:
    keys = add_key(Path(tmp_path_factory.mktemp("keys")) / "keys.yaml", KEY)
    add_key(keys, "operator-key", scopes=("admin",))
    for kind in (Client, AsyncClient, GrpcClient, AsyncGrpcClient):
        add_key(keys, f"poor-{kind.__name__.lower()}", rate="1/day")
    add_key(keys, "deciding-key", scopes=("score", "decide"))
    settings = Settings(auth=AuthSettings(keys_file=keys))
    is_up: Future[None] = Future()

    def run() -> None:
        try:
            asyncio.run(serve(running, settings, listening, is_up))
        except Exception as error:  # noqa: BLE001 - shown where the fixture waits
            is_up.set_exception(error)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        running = Running(CountingService(), f"http://127.0.0.1:{listening.getsockname()[1]}")
        thread = threading.Thread(target=run)
        thread.start()
        is_up.result()
        yield running
        running.over.set()
        thread.join()


@pytest.fixture(params=[Client, AsyncClient, GrpcClient, AsyncGrpcClient], ids=lambda kind: kind.__name__)
def kind(request) -> Any:
    return request.param


@pytest.fixture
def ask(running, kind):
    """Calls a method of a fresh client, awaited."""
    address = running.rest if kind in {Client, AsyncClient} else running.grpc
    options = {"api_key": KEY, "retry": RetryPolicy(max_attempts=1)}

    async def call(method: str, *arguments: Any, change: Any = (), **named: Any) -> Any:
        client = kind(address, **options | dict(change))
        if inspect.iscoroutinefunction(client.score):
            async with client:
                return await getattr(client, method)(*arguments, **named)
        with client:
            return await asyncio.to_thread(getattr(client, method), *arguments, **named)

    return call
