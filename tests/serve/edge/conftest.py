"""A small service that gives every kind of answer there is, and servers over it on real sockets."""
# ruff: noqa: N802 - the methods of a servicer are named by the schema

import asyncio
import base64
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
import numpy as np
import pytest
import uvicorn
from grpc_health.v1 import health_pb2_grpc

from plumbline_models.core.errors import (
    EngineError,
    ImageUndecodableError,
    MissingTextError,
    PlumblineError,
    error_classes,
)
from plumbline_models.core.protocols import Score
from plumbline_models.sets.audit import spread
from plumbline_models.sets.diversity import order_name
from plumbline_models.sets.sce import Sce
from plumbline_models.sets.zero_shot import Guess
from plumbline_serve.access_settings import AuthSettings
from plumbline_serve.audit_messages import AuditReply, AuditRequest, ElementRates, GroupShare
from plumbline_serve.batching import GroupState
from plumbline_serve.bytes_in_flight import BytesInFlight
from plumbline_serve.edge import Access, GrpcEdge, InferenceEdge, create_app
from plumbline_serve.edge.compat.inference_rpcs import METHODS, add_inference
from plumbline_serve.edge.grpc.unreadable import add_scoring
from plumbline_serve.messages import (
    Base64Image,
    BrokenImage,
    EmbedReply,
    EncodedImage,
    EncoderEntry,
    FilterReply,
    ItemFailure,
    ItemScores,
    ItemVerdict,
    Ranked,
    RankReply,
    RawImage,
    ScorerEntry,
    ScoreReply,
    Timing,
)
from plumbline_serve.request_context import ANYONE, Caller
from plumbline_serve.set_messages import DistanceReply, DistanceRequest, DiversityReply
from plumbline_serve.settings import Limits, Settings
from plumbline_wire.v1 import scoring_pb2_grpc
from tests.decisions import SmallDecisions
from tests.keys import add_key

WAIT_S = 30.0
TIMING = Timing(decode=0.1, queue=0.2, compute=1 / 3, total=2.5)
DIM = 3
ENCODERS = (
    EncoderEntry(
        key="mini/image", kind="image", arch="mini", source="embedded", licence="Apache-2.0", sha256="00", dim=DIM,
        backend="fake", precision="fp32", device="cpu", notes={"context": "77"}, licence_class="permissive", demo=True,
    ),
)  # fmt: skip
SCORERS = (
    ScorerEntry(
        id="sum", summary="adds up", low=0.0, high=None, higher_is_better=True, needs_text=False, needs=("image",),
        encoders=("mini/image",), precision="fp32", backend="fake", paper="arXiv:0000.00000",
        licence="Apache-2.0", conventions={"scale": "2"}, context_length=None, demo=True,
    ),
)  # fmt: skip


def image_bytes(image: Any) -> bytes:
    """The bytes of a source; raises what is wrong with it."""
    if isinstance(image, BrokenImage):
        raise image.error
    if isinstance(image, EncodedImage | RawImage):
        return image.data
    if isinstance(image, Base64Image):
        return base64.b64decode(image.text)
    raise ImageUndecodableError("The image cannot be read.")


def thirds(image: Any) -> Any:
    """A number of an image's bytes that has no short decimal form; the engine fails on some."""
    if image_bytes(image) == b"engine":
        raise EngineError("The engine gave no number.", encoder="mini/image")
    return np.float32(sum(image_bytes(image)) / 3)


class RuleService(SmallDecisions):
    """Answers by simple rules; a text `raise CODE` fails the request, `hang` never ends, `crash` is a bug."""

    def __init__(self) -> None:
        super().__init__()
        self.received: list[Any] = []
        self.callers: list[Caller] = []
        self.is_ready = True
        self.groups: dict[str, GroupState] = {}
        self.hanging = threading.Semaphore(0)
        self.cancelled = threading.Semaphore(0)

    async def score(self, request, caller=ANYONE):
        await self._obey(request, caller, [item.text for item in request.items])
        return ScoreReply([self._result(item, request.images) for item in request.items], TIMING)

    async def filter(self, request, caller=ANYONE):
        await self._obey(request, caller, [item.text for item in request.items])
        results = [self._result(item, request.images) for item in request.items]
        return FilterReply([self._verdict(result, request.policy[0]) for result in results], TIMING)

    async def rank(self, request, caller=ANYONE):
        await self._obey(request, caller, request.texts)
        values, errors = [], {}
        for index, image in enumerate(request.images if len(request.texts) == 1 else request.images * 2):
            try:
                values.append(Ranked(index, thirds(image)))
            except PlumblineError as error:
                errors[index] = error
        return RankReply("sum", sorted(values, key=lambda each: -each.value)[: request.top_k], errors, TIMING)

    async def embed(self, request, caller=ANYONE):
        await self._obey(request, caller, request.texts)
        vectors: list[Any] = [np.full(DIM, len(text) / 3, np.float32) for text in request.texts]
        for image in request.images:
            try:
                vectors.append(np.full(DIM, thirds(image), np.float32))
            except PlumblineError as error:
                vectors.append(error)
        return EmbedReply("mini/image", DIM, vectors, TIMING, truncated=[])

    async def measure(self, request, caller=ANYONE):
        await self._obey(request, caller, getattr(request, "texts", None) or ())
        wrong = ImageUndecodableError("The image cannot be read.")
        if isinstance(request, AuditRequest):
            shares = [GroupShare(name, 1, 1 / 3, None) for name in request.groups]
            guesses = [Guess(None, 0.5), Guess("a", 1 / 3)] if request.prompts else []
            rates = ElementRates(None, 0.5, 1 / 3, 0.0, 2) if request.elements else None
            measures = spread([2, 1], None, request.association)
            ends = {"parity_gap": (0.1, 1 / 3)}
            errors = {0: wrong} if request.images else {}
            said = (None, 2, 1, shares, ["b"], 1 / 3, measures, ends, rates, TIMING, guesses, errors)
            return AuditReply("Beware.", *said)
        if isinstance(request, DistanceRequest):
            return DistanceReply(
                "mini/image", 4, 2, 1 / 3, 0.25, -0.5, 1e-9, request.rbf_sigma, TIMING, errors_b={1: wrong}
            )
        scores = {order_name(order): 1 / 3 for order in request.orders}
        sce = Sce(1.5, 2.5, None, 1 / 3, 2.0, reliable=False) if request.texts else None
        errors = {0: wrong} if request.images else {}
        return DiversityReply(request.encoder, 3, scores, scores, None, [[0, 2]], [], sce, TIMING, errors)

    async def scorers(self):
        return SCORERS

    async def encoders(self):
        return ENCODERS

    async def metrics(self):
        return b"# HELP plumbline_requests_total Requests answered.\n"

    async def _obey(self, request, caller, texts) -> None:
        self.received.append(request)
        self.callers.append(caller)
        for text in filter(None, texts):
            if text.startswith("raise "):
                kind = next(kind for kind in error_classes() if kind.code == text.split()[1])
                raise kind(" ".join(text.split()[2:]) or "As told.", retry_after_s=1.2, path="/etc/secret")
            if text == "crash":
                raise ZeroDivisionError("secret at /etc/secret")
            if text == "hang":
                await self._hang()

    async def _hang(self) -> None:
        self.hanging.release()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.release()
            raise

    def _result(self, item, images):
        image = images.get(item.image) if isinstance(item.image, str) else item.image
        try:
            value = thirds(image)
        except PlumblineError as error:
            return ItemFailure(item.id, error)
        scores: dict[str, Any] = {"sum": Score(value)}
        if item.text is None:
            scores["worded"] = MissingTextError("worded needs a text.")
        else:
            word = {"text": item.text, "start": 0, "end": len(item.text), "attribution": value / 7, "misaligned": True}
            details = {"cosine": np.float32(0.1), "words": [word], "num_tokens": np.int64(5), "by_layer": [0.5]}
            scores["worded"] = Score(float(value), details)
        return ItemScores(item.id, scores)

    def _verdict(self, result, threshold):
        if isinstance(result, ItemFailure):
            return result
        accepted = result.scores["sum"].value >= (threshold.min or 0.0)
        failed = [] if accepted else [threshold.scorer]
        return ItemVerdict(result.id, "accept" if accepted else "reject", failed, result.scores)


class Notebook:
    """An observer whose notes a test can wait for: they are written once the answer has left."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str]] = []
        self.rejections: list[str] = []
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

    async def ListScorers(self, request, context):
        return await self.edge.list_scorers(request, context)

    async def ListModels(self, request, context):
        return await self.edge.list_models(request, context)

    async def ScoreStream(self, requests, context):
        async for reply in self.edge.score_stream(requests, context):
            yield reply

    async def Check(self, request, context):
        return await self.edge.check(request, context)

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
    return _edge


@pytest.fixture(scope="session")
def guarded_edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """Both edges, open to those who know a key."""
    keys = tmp_path_factory.mktemp("keys") / "keys.yaml"
    add_key(keys, "first-key", scopes=("score", "admin"))
    add_key(keys, "second-key")
    add_key(keys, "operator-key", scopes=("admin",))
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
