"""A small service that gives every kind of answer there is, by rules that a test can reckon."""

import asyncio
import base64
import threading
from typing import Any

import numpy as np

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
from plumbline_serve.batching import GroupState
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
from plumbline_serve.messages.audits import AuditReply, AuditRequest, ElementRates, GroupShare
from plumbline_serve.messages.sets import DistanceReply, DistanceRequest, DiversityReply
from plumbline_serve.scheduling.request_context import ANYONE, Caller
from tests.decisions import SmallDecisions

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
        return DiversityReply(
                n=3, vendi=scores, vendi_centred=scores, mean_pairwise=None, duplicates=[[0, 2]], identical=[], sce=sce,
                encoder=request.encoder, timing_ms=TIMING, errors=errors,
            )  # fmt: skip

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
