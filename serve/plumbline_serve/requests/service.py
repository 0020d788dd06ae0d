"""The service in one object: score, filter, rank and embed, and what is said about the service itself."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar, get_args

from plumbline_models.core.errors import DrainingError, NotReadyError
from plumbline_models.core.licences import licence_class
from plumbline_models.core.protocols import EncoderInfo, Need, Scorer
from plumbline_serve.batching import Compute, GroupState
from plumbline_serve.messages import (
    EmbedReply,
    EmbedRequest,
    EncoderEntry,
    FilterReply,
    FilterRequest,
    RankReply,
    RankRequest,
    ScorerEntry,
    ScoreReply,
    ScoreRequest,
)
from plumbline_serve.request_context import ANYONE, Caller
from plumbline_serve.requests.embedding import embed
from plumbline_serve.requests.filtering import filter_items
from plumbline_serve.requests.pipeline import Pipeline
from plumbline_serve.requests.ranking import rank

T = TypeVar("T")
DRAIN_RETRY_AFTER_S = 2.0  # another replica, or the restarted one, is there by then


class CoreService:
    """Answers every edge; see `Service`.

    Args:
        pipeline: Answers requests.
        compute: Says what is loaded, and whether it works.
        exposition: Makes the text of the metrics.
    """

    def __init__(self, pipeline: Pipeline, compute: Compute, *, exposition: Callable[[], Awaitable[bytes]]) -> None:
        self._pipeline = pipeline
        self._compute = compute
        self._exposition = exposition
        self._num_active = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.is_loaded = False
        self.is_draining = False

    @property
    def is_ready(self) -> bool:
        """As `Service.is_ready`."""
        return self.is_loaded and not self.is_draining and self._compute.is_ready

    @property
    def groups(self) -> Mapping[str, GroupState]:
        """As `Service.groups`."""
        return self._compute.groups

    async def drain(self, timeout_s: float) -> int:
        """Take no new work and wait for what is under way.

        Returns:
            Requests still under way when the time was up; 0 if all were answered.
        """
        self.is_draining = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        return self._num_active

    async def score(self, request: ScoreRequest, caller: Caller = ANYONE) -> ScoreReply:
        """As `Service.score`."""
        return await self._admitted(self._pipeline.score(request, caller))

    async def filter(self, request: FilterRequest, caller: Caller = ANYONE) -> FilterReply:
        """As `Service.filter`."""
        return await self._admitted(filter_items(self._pipeline, request, caller))

    async def rank(self, request: RankRequest, caller: Caller = ANYONE) -> RankReply:
        """As `Service.rank`."""
        return await self._admitted(rank(self._pipeline, request, caller))

    async def embed(self, request: EmbedRequest, caller: Caller = ANYONE) -> EmbedReply:
        """As `Service.embed`."""
        reply = await self._admitted(embed(self._pipeline, request, caller))
        if reply.dim:
            return reply
        dims = {info.key: info.dim for info in await self._compute.infos()}
        return dataclasses.replace(reply, dim=dims.get(reply.encoder, 0))  # nothing could be embedded

    async def scorers(self) -> Sequence[ScorerEntry]:
        """As `Service.scorers`."""
        infos = {info.key: info for info in await self._compute.infos()}
        return [_scorer_entry(scorer, infos) for scorer in self._pipeline.scorers.values()]

    async def encoders(self) -> Sequence[EncoderEntry]:
        """As `Service.encoders`."""
        scorers = self._pipeline.scorers.values()
        return [
            EncoderEntry(
                key=info.key,
                kind=info.kind,
                arch=info.arch,
                source=info.source,
                licence=info.licence,
                licence_class=licence_class(info.licence),
                sha256=info.sha256,
                dim=info.dim,
                backend=info.backend,
                precision=info.precision,
                device=info.device,
                notes={**info.notes, **_convention_notes(info.key, scorers)},
            )
            for info in await self._compute.infos()
        ]

    async def metrics(self) -> bytes:
        """As `Service.metrics`."""
        return await self._exposition()

    async def _admitted(self, work: Coroutine[Any, Any, T]) -> T:
        if self.is_draining or not self.is_loaded:
            work.close()
            if self.is_draining:
                raise DrainingError("The service is about to stop.", retry_after_s=DRAIN_RETRY_AFTER_S)
            raise NotReadyError("The service is still loading.", retry_after_s=DRAIN_RETRY_AFTER_S)
        self._num_active += 1
        self._idle.clear()
        try:
            return await work
        finally:
            self._num_active -= 1
            if not self._num_active:
                self._idle.set()


def _keys(scorer: Scorer) -> list[str]:
    return [encoder.key for encoder in (scorer.image, scorer.text, scorer.pair) if encoder is not None]


def _reader(scorer: Scorer) -> str:
    """The last of the scorer's encoders, whose encodings no other scorer is likely to read."""
    return next(reversed(_keys(scorer)), "")


def _convention_notes(key: str, scorers: Iterable[Scorer]) -> Mapping[str, str]:
    """The conventions of the scorers that read an encoder, as notes of it, such as `qualiclip.scale`."""
    readers = [scorer for scorer in scorers if _reader(scorer) == key]
    return {f"{each.info.name}.{name}": value for each in readers for name, value in each.conventions.items()}


def _scorer_entry(scorer: Scorer, infos: Mapping[str, EncoderInfo]) -> ScorerEntry:
    encoders = _keys(scorer)
    used = [infos[key] for key in encoders if key in infos]
    main = used[0] if used else None
    lengths = [info.context_length for info in used if info.context_length is not None]
    return ScorerEntry(
        id=scorer.info.name,
        summary=scorer.info.summary,
        low=scorer.info.low,
        high=scorer.info.high,
        higher_is_better=scorer.info.higher_is_better,
        needs_text="text" in scorer.info.needs,
        needs=[need for need in get_args(Need) if need in scorer.info.needs],
        encoders=encoders,
        precision=", ".join(dict.fromkeys(info.precision for info in used)),
        backend=main.backend if main else "",
        paper=scorer.info.source,
        licence=", ".join(dict.fromkeys(info.licence for info in used)),
        conventions=scorer.conventions,
        context_length=min(lengths, default=None),
    )
