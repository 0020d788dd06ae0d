"""What the service keeps beside thresholds, and what it says of drift: classifiers and references."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from plumbline_serve.drift import DriftMonitor
from plumbline_serve.messages import (
    ClassifierRequest,
    GuardFlags,
    GuardOptions,
    ItemFailure,
    ItemResult,
    ScorerEntry,
    ScoreReply,
)
from plumbline_serve.messages.decisions import ClassifierEntry
from plumbline_serve.messages.drift import DriftReply, ReferenceEntry, ReferenceRequest
from plumbline_serve.requests.classifying import Classifiers
from plumbline_serve.requests.core import ReplyT, RequestT
from plumbline_serve.requests.guarding import Guards
from plumbline_serve.requests.pipeline import GuardLook, Pipeline
from plumbline_serve.requests.session import RequestSession
from plumbline_serve.requests.validation import Case
from plumbline_serve.requests.watching import References
from plumbline_serve.scheduling.request_context import ANYONE, Caller


class DecisionService(ABC):
    """A part of `CoreService`.

    Args:
        classifiers: Those that are kept.
        references: Those that are kept.
        guards: Those that are kept.
        monitor: Looks for drift.
    """

    def __init__(self, classifiers: Classifiers, references: References, guards: Guards, monitor: DriftMonitor) -> None:
        self._classifiers = classifiers
        self._references = references
        self.guards = guards
        self._monitor = monitor

    async def classify(self, request: ClassifierRequest, caller: Caller = ANYONE) -> ClassifierEntry:
        """As `Service.classify`."""
        return await self._answered(
            request, lambda pipeline, request: self._classifiers.make(pipeline, request, caller)
        )

    async def classifiers(self) -> Sequence[ClassifierEntry]:
        """As `Service.classifiers`."""
        return await self._classifiers.entries()

    async def named_scorers(self) -> Sequence[ScorerEntry]:
        """As `Service.named_scorers`."""
        return [*await self.scorers(), *await self._classifiers.scorers(self.pipeline)]

    async def delete_classifier(self, name: str) -> None:
        """As `Service.delete_classifier`."""
        await self._classifiers.delete(name)

    async def refer(self, request: ReferenceRequest, caller: Caller = ANYONE) -> ReferenceEntry:
        """As `Service.refer`."""
        make, monitor = self._references.make, self._monitor
        return await self._answered(request, lambda pipeline, request: make(pipeline, request, monitor, caller))

    async def references(self) -> Sequence[ReferenceEntry]:
        """As `Service.references`."""
        return await self._references.entries()

    async def delete_reference(self, scorer: str) -> None:
        """As `Service.delete_reference`."""
        await self._references.delete(scorer)

    async def drift(self) -> DriftReply:
        """As `Service.drift`."""
        return await self._references.report(self.pipeline, self._monitor)

    def _look(self, options: GuardOptions) -> GuardLook:
        """Has guards look as asked for."""

        async def look(pipeline: Pipeline, session: RequestSession, cases: Sequence[Case]) -> Sequence[GuardFlags]:
            return await self.guards.flags(pipeline, session, cases, options)

        return look

    def _with_staleness(self, reply: ScoreReply) -> ScoreReply:
        """The reply, whose guards know which scores drift."""

        def told(result: ItemResult) -> ItemResult:
            if isinstance(result, ItemFailure) or result.guards is None:
                return result
            is_stale = any(map(self._monitor.has_drifted, result.scores))
            return replace(result, guards=replace(result.guards, calibration_stale=is_stale))

        return replace(reply, results=[told(result) for result in reply.results])

    @abstractmethod
    async def scorers(self) -> Sequence[ScorerEntry]:
        """As `Service.scorers`."""

    @property
    @abstractmethod
    def pipeline(self) -> Pipeline:
        """What answers now."""

    @abstractmethod
    async def _answered(self, request: RequestT, how: Callable[[Pipeline, RequestT], Awaitable[ReplyT]]) -> ReplyT: ...
