"""The service in one object: score, filter, rank and embed, and what is said about the service itself."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from plumbline_models.core.errors import DrainingError, NotReadyError, SupersededError
from plumbline_serve.batching import Compute, GroupState
from plumbline_serve.drift import DriftMonitor
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
    SelectReply,
    SelectRequest,
)
from plumbline_serve.messages.decisions import Calibration, CalibrationRequest
from plumbline_serve.requests.calibrating import Calibrations
from plumbline_serve.requests.classifying import Classifiers, scorers_named
from plumbline_serve.requests.combining import scorers_behind
from plumbline_serve.requests.core import Core, ReplyT, RequestT
from plumbline_serve.requests.decision_service import DecisionService
from plumbline_serve.requests.disclosure import Disclosure
from plumbline_serve.requests.embedding import embed
from plumbline_serve.requests.filtering import filter_items
from plumbline_serve.requests.guarding import Guards
from plumbline_serve.requests.listing import encoder_entry, loaded_entry
from plumbline_serve.requests.pipeline import Pipeline
from plumbline_serve.requests.ranking import rank
from plumbline_serve.requests.reference_sets import ReferenceSets
from plumbline_serve.requests.scored_members import MembersLook, SetMember
from plumbline_serve.requests.selecting import select
from plumbline_serve.requests.set_service import SetService
from plumbline_serve.requests.watching import References
from plumbline_serve.scheduling.concurrency import Deadline
from plumbline_serve.scheduling.request_context import ANYONE, Caller

SWITCH_TIMEOUT_S = 10.0  # what a gateway needs to follow its encoders is a part of a second
DRAIN_RETRY_AFTER_S = 2.0  # another replica, or the restarted one, is there by then


class CoreService(DecisionService, SetService):
    """Answers every edge; see `Service`.

    Args:
        pipeline: Answers requests.
        compute: Says what is loaded, and whether it works.
        exposition: Makes the text of the metrics.
        calibrations: Those that are kept.
        classifiers: The same.
        references: The same.
        reference_sets: The same.
        guards: The same.
        monitor: Looks for drift.
        disclosure: How much callers are shown; default: all.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        compute: Compute,
        *,
        exposition: Callable[[], Awaitable[bytes]],
        calibrations: Calibrations,
        classifiers: Classifiers,
        references: References,
        reference_sets: ReferenceSets,
        guards: Guards,
        monitor: DriftMonitor,
        disclosure: Disclosure | None = None,
    ) -> None:
        DecisionService.__init__(self, classifiers, references, guards, monitor)
        SetService.__init__(self, reference_sets)
        self._disclosure = disclosure or Disclosure()
        self._core = Core(pipeline, compute)
        self._calibrations = calibrations
        self._former: list[Core] = []
        self._switched = asyncio.Event()
        self._exposition = exposition
        self.is_loaded = False
        self.is_draining = False

    @property
    def is_ready(self) -> bool:
        """As `Service.is_ready`."""
        return self.is_loaded and not self.is_draining and self._core.compute.is_ready

    @property
    def num_active(self) -> int:
        """Requests that are being answered, by this configuration or by one before."""
        return sum(core.num_active for core in (self._core, *self._former))

    @property
    def groups(self) -> Mapping[str, GroupState]:
        """As `Service.groups`."""
        return self._core.compute.groups

    def switch(self, pipeline: Pipeline, compute: Compute) -> Core:
        """Answer requests that come from now on by another configuration.

        Args:
            pipeline: Answers them.
            compute: As for `CoreService`.

        Returns:
            The one before, in which requests may still be under way.
        """
        former, self._core = self._core, Core(pipeline, compute)
        self._former = [*(core for core in self._former if core.num_active), former]
        self._switched.set()
        self._switched = asyncio.Event()
        return former

    async def drain(self, timeout_s: float) -> int:
        """Take no new work and wait for what is under way.

        Returns:
            Requests still under way when the time was up; 0 if all were answered.
        """
        self.is_draining = True
        return sum(await asyncio.gather(*(core.until_idle(timeout_s) for core in (self._core, *self._former))))

    async def score(self, request: ScoreRequest, caller: Caller = ANYONE) -> ScoreReply:
        """As `Service.score`."""
        look = None if request.guards is None else self._look(request.guards)
        reply = await self._answered(request, lambda pipeline, request: pipeline.score(request, caller, look=look))
        return self._disclosure.of_scores(self._with_staleness(reply) if look else reply)

    async def score_as_set(
        self, request: ScoreRequest, caller: Caller = ANYONE
    ) -> tuple[ScoreReply, Sequence[SetMember | None]]:
        """The scores, and the items as members of a set, by the towers of the first loaded scorer that has such.

        Args:
            request: Without guards.
            caller: Who calls.

        Returns:
            The reply, and a member for each item; None where its image could not be encoded.

        Raises:
            UnknownScorerError: No loaded scorer has encoders of images and texts into one space.
        """
        look = MembersLook()
        reply = await self._answered(request, lambda pipeline, request: pipeline.score(request, caller, look=look))
        return self._disclosure.of_scores(reply), look.members

    async def filter(self, request: FilterRequest, caller: Caller = ANYONE) -> FilterReply:
        """As `Service.filter`."""
        kept = self._calibrations
        request = await kept.complete(self.pipeline, request)
        reply = await self._answered(
            request, lambda pipeline, request: filter_items(pipeline, request, caller, calibrations=kept)
        )
        calibrated = scorers_behind((each.scorer for each in request.policy if each.calibration), request.combine)
        reply = self._disclosure.of_scores(reply)
        return replace(reply, calibration_stale=any(map(self._monitor.has_drifted, calibrated)))

    async def rank(self, request: RankRequest, caller: Caller = ANYONE) -> RankReply:
        """As `Service.rank`."""
        reply = await self._answered(request, lambda pipeline, request: rank(pipeline, request, caller))
        return self._disclosure.of_scores(reply)

    async def select(self, request: SelectRequest, caller: Caller = ANYONE) -> SelectReply:
        """As `Service.select`."""
        reply = await self._answered(request, lambda pipeline, request: select(pipeline, request, caller))
        return self._disclosure.of_scores(reply)

    async def calibrate(self, request: CalibrationRequest, caller: Caller = ANYONE) -> Calibration:
        """As `Service.calibrate`."""
        return await self._answered(
            request, lambda pipeline, request: self._calibrations.make(pipeline, request, caller)
        )

    async def calibrations(self) -> Sequence[Calibration]:
        """As `Service.calibrations`."""
        return await self._calibrations.entries()

    async def calibration(self, name: str) -> Calibration:
        """As `Service.calibration`."""
        return await self._calibrations.entry(name)

    async def delete_calibration(self, name: str) -> None:
        """As `Service.delete_calibration`."""
        await self._calibrations.delete(name)

    async def embed(self, request: EmbedRequest, caller: Caller = ANYONE) -> EmbedReply:
        """As `Service.embed`."""
        self._disclosure.check_embeddings(caller)
        reply = await self._answered(request, lambda pipeline, request: embed(pipeline, request, caller))
        if reply.dim:
            return self._disclosure.of_vectors(reply, caller)
        dims = {info.key: info.dim for info in await self._core.compute.infos()}
        return replace(reply, dim=dims.get(reply.encoder, 0))  # nothing could be embedded

    async def scorers(self) -> Sequence[ScorerEntry]:
        """As `Service.scorers`."""
        infos = {info.key: info for info in await self._core.compute.infos()}
        return [loaded_entry(scorer, infos) for scorer in self._core.pipeline.scorers.values()]

    async def encoders(self) -> Sequence[EncoderEntry]:
        """As `Service.encoders`."""
        scorers = self._core.pipeline.scorers.values()
        return [encoder_entry(info, scorers) for info in await self._core.compute.infos()]

    async def metrics(self) -> bytes:
        """As `Service.metrics`."""
        return await self._exposition()

    @property
    def pipeline(self) -> Pipeline:
        """What answers now."""
        return self._core.pipeline

    async def _beside(
        self, pipeline: Pipeline, request: RequestT, how: Callable[[Pipeline, RequestT], Awaitable[ReplyT]]
    ) -> ReplyT:
        """Answer with the classifiers that the request names beside what is loaded."""
        return await how(await self._classifiers.beside(pipeline, scorers_named(request)), request)

    async def _answered(self, request: RequestT, how: Callable[[Pipeline, RequestT], Awaitable[ReplyT]]) -> ReplyT:
        """The reply. A request whose configuration's encoders went away meanwhile is made again under the next one."""
        if self.is_draining:
            raise DrainingError("The service is about to stop.", retry_after_s=DRAIN_RETRY_AFTER_S)
        if not self.is_loaded:
            raise NotReadyError("The service is still loading.", retry_after_s=DRAIN_RETRY_AFTER_S)
        deadline = Deadline.after_ms(request.timeout_ms)
        while True:
            core, switched = self._core, self._switched
            reply = await core.answer(request, lambda pipeline, request: self._beside(pipeline, request, how))
            if not isinstance(reply, SupersededError):
                return reply
            left_s = deadline.remaining_s
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(switched.wait(), SWITCH_TIMEOUT_S if left_s is None else left_s)
            if self._core is core:
                raise reply
            left_s = deadline.remaining_s
            request = replace(request, timeout_ms=None if left_s is None else left_s * 1000)
