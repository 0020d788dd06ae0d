"""A service that only counts bytes, behind the real edges on real sockets."""

import asyncio
import socket
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal

import grpc.aio
import numpy as np
import uvicorn
from grpc_health.v1 import health_pb2_grpc

from plumbline_models.core.errors import DeadlineExceededError as ServiceDeadlineError
from plumbline_models.core.errors import ImageUndecodableError, MissingTextError, OverloadedError, UnknownScorerError
from plumbline_models.core.protocols import Score
from plumbline_models.sets.audit import spread
from plumbline_models.sets.sce import Sce
from plumbline_models.sets.zero_shot import Guess
from plumbline_serve import messages
from plumbline_serve.batching import GroupState
from plumbline_serve.edge.grpc.servicer import GrpcEdge
from plumbline_serve.edge.rest.app import create_app
from plumbline_serve.messages import audits as audit_messages
from plumbline_serve.messages import sets as set_messages
from plumbline_serve.scheduling.request_context import ANYONE, Caller
from plumbline_serve.settings import Settings
from plumbline_wire.v1 import scoring_pb2_grpc
from tests.decisions import SmallDecisions

KEY = "a-key-of-the-tests"
PIXELS = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
TIMING = messages.Timing(decode=0.1, queue=0.2, compute=1 / 3, total=1.0)


def weigh(source: str | messages.ImageSource | None) -> float:
    """A number that no byte can be lost from without changing it."""
    if isinstance(source, messages.RawImage):
        return sum(source.data) / 7 + source.height * 1000 + source.width
    assert isinstance(source, messages.EncodedImage)
    if source.data == b"broken":
        raise ImageUndecodableError("This is no image.")
    return sum(source.data) / 7


class CountingService(SmallDecisions):
    """Scores bytes by their sum; remembers requests."""

    is_ready = True
    groups: dict[str, GroupState] = {}  # noqa: RUF012 - none are added

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Any] = []

    async def score(self, request: messages.ScoreRequest, caller: Caller = ANYONE) -> messages.ScoreReply:
        self.requests.append(request)
        if request.scorers is not None and "unknown" in request.scorers:
            raise UnknownScorerError("There is no such scorer.")
        return messages.ScoreReply([self._item(item, request.images) for item in request.items], TIMING)

    def _item(self, item: messages.Item, images: Any) -> messages.ItemResult:
        image = item.frames[0] if item.frames else item.image
        try:
            value = weigh(images[image] if isinstance(image, str) else image)
        except ImageUndecodableError as error:
            return messages.ItemFailure(item.id, error)
        details = {"cosine": value / 3, "words": [], "depth": {"near": value}}
        spoken = MissingTextError("There is no text.") if item.text is None else Score(len(item.text) / 7)
        flags = None
        if self.requests[-1].guards is not None:
            explained = {"drop": 1 / 3} if self.requests[-1].guards.explain else {}
            flags = messages.GuardFlags(
                fooling_suspect=True,
                ood_score=1 / 3,
                adversarial_suspect=None,
                policy="g1-0",
                calibration_stale=True,
                explained=explained,
            )
        return messages.ItemScores(item.id, {"weight": Score(value, details), "length": spoken}, flags)

    async def filter(self, request: messages.FilterRequest, caller: Caller = ANYONE) -> messages.FilterReply:
        self.requests.append(request)
        (threshold,) = request.policy
        results = []
        for item in request.items:
            value = weigh(item.image)
            is_in = threshold.min is None or value >= threshold.min
            failed = [] if is_in else [threshold.scorer]
            verdict: Literal["accept", "reject"] = "accept" if is_in else "reject"
            results.append(messages.ItemVerdict(item.id, verdict, failed, {threshold.scorer: Score(value)}))
        return messages.FilterReply(results, TIMING, calibration_stale=threshold.calibration == "stale")

    async def rank(self, request: messages.RankRequest, caller: Caller = ANYONE) -> messages.RankReply:
        self.requests.append(request)
        values: dict[int, float] = dict(enumerate(map(len, request.texts)))
        errors = {}
        if len(request.images) > 1:
            values = {}
            for index, image in enumerate(request.images):
                try:
                    values[index] = weigh(image)
                except ImageUndecodableError as error:
                    errors[index] = error
        order = sorted(values, key=lambda index: -values[index])[: request.top_k]
        places = [messages.Ranked(index, float(values[index])) for index in order]
        return messages.RankReply(request.scorer or "weight", places, errors, TIMING)

    async def embed(self, request: messages.EmbedRequest, caller: Caller = ANYONE) -> messages.EmbedReply:
        if request.texts == ["late"]:
            raise ServiceDeadlineError("The deadline passed.")
        if request.texts == ["busy"]:
            raise OverloadedError("The queue is full.", retry_after_s=0.25)
        vectors = [np.array([len(text) / 7, 1.0], np.float32) for text in request.texts]
        return messages.EmbedReply("counting/text", 2, vectors, TIMING)

    async def measure(self, request: set_messages.SetRequest, caller: Caller = ANYONE) -> set_messages.SetReply:
        self.requests.append(request)
        if isinstance(request, audit_messages.AuditRequest):
            shares = [audit_messages.GroupShare("a", 2, 1 / 3, None)]
            ends = {"parity_gap": (0.1, 1 / 3)}
            guesses = [Guess(None, 0.5)]
            rates = audit_messages.ElementRates(0.25, None, 1 / 3, None, 2)
            return audit_messages.AuditReply(
                "Beware.", "counting", 2, 1, shares, ["b"], 0.5, spread([2, 1], None), ends, rates, TIMING, guesses
            )
        if isinstance(request, set_messages.DiversityRequest):
            errors = {1: ImageUndecodableError("This is no image.")}
            sce = Sce(1.5, 2.5, None, 0.5, 2.0, reliable=False)
            vendi = {"1": 1 / 3}
            return set_messages.DiversityReply(
                n=2, vendi=vendi, vendi_centred=vendi, mean_pairwise=None, duplicates=[[0, 2]], identical=[], sce=sce,
                encoder="counting", timing_ms=TIMING, errors=errors,
            )  # fmt: skip
        return set_messages.DistanceReply("counting", 2, 3, 1 / 3, 0.5, -0.25, 1e-9, request.rbf_sigma, TIMING)

    async def scorers(self) -> list[messages.ScorerEntry]:
        return [
            messages.ScorerEntry(
                id="weight",
                summary="s",
                low=0.0,
                high=None,
                higher_is_better=True,
                needs_text=False,
                needs=["image"],
                encoders=["counting"],
                precision="fp32",
                backend="fake",
                paper="arXiv:1",
                licence="MIT",
                conventions={"scale": "2"},
                context_length=77,
            )
        ]

    async def encoders(self) -> list[messages.EncoderEntry]:
        return [
            messages.EncoderEntry(
                "counting", "image", "a", "s", "l", "00", 2, "fake", "fp32", "cpu", {"note": "n"}, "unknown"
            )
        ]

    async def metrics(self) -> bytes:
        return b""


class Servicer(health_pb2_grpc.HealthServicer):
    """The edge under the names of the schema, as the gateway has it."""

    def __init__(self, edge: GrpcEdge) -> None:
        self.Score, self.Filter, self.Rank, self.Embed = edge.score, edge.filter, edge.rank, edge.embed
        self.Select, self.Diversity, self.Distance, self.Audit = edge.select, edge.diversity, edge.distance, edge.audit
        self.ReferSet, self.ListReferenceSets = edge.refer_set, edge.list_reference_sets
        self.DeleteReferenceSet = edge.delete_reference_set
        self.ListScorers, self.ListModels = edge.list_scorers, edge.list_models
        self.ScoreStream, self.Check, self.Watch = edge.score_stream, edge.check, edge.watch


@dataclass
class Running:
    service: CountingService
    rest: str
    grpc: str = ""
    over: threading.Event = field(default_factory=threading.Event)


async def serve(running: Running, settings: Settings, listening: socket.socket, is_up: Future[None]) -> None:
    """Start both servers, say that they are up, and stop them once `running.over` is set."""
    config = uvicorn.Config(create_app(running.service, settings), log_level="error", lifespan="off", ws="none")
    rest = uvicorn.Server(config)
    over_grpc = grpc.aio.server()
    servicer = Servicer(GrpcEdge(running.service, settings))
    scoring_pb2_grpc.add_ScoringServicer_to_server(servicer, over_grpc)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, over_grpc)
    running.grpc = f"127.0.0.1:{over_grpc.add_insecure_port('127.0.0.1:0')}"
    await over_grpc.start()
    task = asyncio.ensure_future(rest.serve([listening]))
    is_up.set_result(None)
    await asyncio.to_thread(running.over.wait)
    rest.should_exit = True
    await task
    await over_grpc.stop(None)
