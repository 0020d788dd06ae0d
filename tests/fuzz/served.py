"""One service behind both edges for hostile and random requests: REST in this process, gRPC on a real socket."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio
import httpx
import schemathesis
from hypothesis import HealthCheck, settings
from pydantic import ByteSize
from schemathesis.schemas import BaseSchema

from plumbline_serve.assembly import assembled
from plumbline_serve.edge import GrpcEdge, create_app
from plumbline_serve.edge.grpc.unreadable import add_scoring
from plumbline_serve.settings import CacheSettings, Limits, Settings
from plumbline_wire.v1 import scoring_pb2_grpc

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

LIMITS = Limits(
    max_items=8, max_image_bytes=2**16, max_pixels=250_000, max_request_bytes=2**20, max_text_chars=200, max_upload_s=5
)
CACHES = CacheSettings(
    image_bytes=ByteSize(2**20), text_bytes=ByteSize(2**20), pair_bytes=ByteSize(2**20), caption_bytes=ByteSize(2**20)
)
"""Full after a few hundred requests, so that what grows after these is not a cache."""
WAIT_S = 60.0
USUAL_EXAMPLES = 100
"""Of a test of weight 1 in a usual run; the profile `full` has ten times as many."""
ALLOWED_5XX = frozenset({503, 504})
NUM_CASES: Counter[str] = Counter()
"""Requests sent, by what they were."""


def cases(weight: float) -> Callable[[F], F]:
    """How many examples a test has, as a part of those of its profile."""
    num_examples = max(1, round(settings.default.max_examples * weight)) if settings.default else 1
    quiet = list(HealthCheck)  # of the tests' own speed, and fixtures that are the same for every example
    decorate: Callable[[F], F] = settings(max_examples=num_examples, deadline=None, suppress_health_check=quiet)
    return decorate


class Servicer:
    """The edge under the names of the schema, as the gateway has it."""

    def __init__(self, edge: GrpcEdge) -> None:
        self.Score, self.Filter, self.Rank, self.Embed = edge.score, edge.filter, edge.rank, edge.embed
        self.Select, self.Diversity, self.Distance, self.Audit = edge.select, edge.diversity, edge.distance, edge.audit
        self.ReferSet, self.ListReferenceSets = edge.refer_set, edge.list_reference_sets
        self.DeleteReferenceSet = edge.delete_reference_set
        self.ListScorers, self.ListModels, self.ScoreStream = edge.list_scorers, edge.list_models, edge.score_stream


class Served:
    """A loaded service on an event loop of its own, for tests to call from theirs."""

    key: str | None = None
    """Sent with each request that has none of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop, client: httpx.AsyncClient, channel: grpc.Channel) -> None:
        self._loop = loop
        self._client = client
        self.channel = channel
        self.stub = scoring_pb2_grpc.ScoringStub(channel)
        document = self.rest("GET", "/openapi.json").json()
        self.schema: BaseSchema = schemathesis.openapi.from_dict(document)

    def rest(
        self, method: str, path: str, content: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """The reply to a request that is sent as it is."""
        own = {} if self.key is None else {"authorization": f"Bearer {self.key}"}
        sent = self._client.request(method, path, content=content, headers=own | dict(headers or {}))
        return asyncio.run_coroutine_threadsafe(sent, self._loop).result(WAIT_S)

    def rpc(self, name: str, message: Any) -> Any:
        """The reply, or the error as it was raised."""
        try:
            own = [] if self.key is None else [("authorization", f"Bearer {self.key}")]
            return getattr(self.stub, name)(message, timeout=WAIT_S, metadata=[("x-request-id", "fuzz"), *own])
        except grpc.RpcError as error:
            return error


@contextmanager
def opened(cache_dir: Path, **changes: Any) -> Iterator[Served]:
    """The embedded networks on the backend that computes nothing, behind both edges.

    Args:
        cache_dir: As the settings have it.
        **changes: Further settings.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(WAIT_S)

    stack = AsyncExitStack()
    store, audits = f"sqlite:///{cache_dir}/store.db", {"audits": True}
    options = {"limits": LIMITS, "caches": CACHES, "store": store, "edge": audits, **changes}
    chosen = Settings(backend="fake", precision="fp32", cache_dir=cache_dir, **options)
    client, port = run(_serve(stack, chosen))
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Served(loop, client, channel)
    finally:
        run(stack.aclose())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _serve(stack: AsyncExitStack, chosen: Settings) -> tuple[httpx.AsyncClient, int]:
    assembly = await stack.enter_async_context(assembled(chosen))
    in_flight = assembly.bytes_in_flight
    app = create_app(assembly.service, chosen, assembly.instruments, bytes_in_flight=in_flight)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")
    server = grpc.aio.server()
    edge = GrpcEdge(assembly.service, chosen, assembly.instruments, bytes_in_flight=in_flight)
    add_scoring(Servicer(edge), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stack.push_async_callback(client.aclose)
    stack.push_async_callback(server.stop, None)
    return client, port


def problems(document: Any) -> Iterator[Mapping[str, Any]]:
    """Every problem within a reply, at whatever depth."""
    if isinstance(document, Mapping):
        if {"code", "status", "detail"} <= document.keys():
            yield document
        for value in document.values():
            yield from problems(value)
    elif isinstance(document, list):
        for value in document:
            yield from problems(value)


def check_problems(document: Any) -> None:
    """No part of a reply failed through the service's own fault."""
    for problem in problems(document):
        assert problem["status"] < 500 or problem["status"] in ALLOWED_5XX, problem
