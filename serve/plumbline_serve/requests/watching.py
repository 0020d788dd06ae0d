"""References that scores are compared with, kept by scorer, and what is said of those that are given now."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from plumbline_models.core.errors import InvalidFieldError, PlumblineError, RequestError
from plumbline_models.core.protocols import Scorer, ScorerInfo
from plumbline_serve.drift import DriftMonitor, Reference
from plumbline_serve.messages.decisions import MADE
from plumbline_serve.messages.drift import DriftReply, ReferenceEntry, ReferenceRequest
from plumbline_serve.requests.binding import Bindings, bound_to_of
from plumbline_serve.requests.classifying import Classifiers
from plumbline_serve.requests.pipeline import Pipeline
from plumbline_serve.scheduling.request_context import ANYONE, Caller
from plumbline_serve.store import Artefact, Binding, Store

DECIMALS: Final = "privacy.score_decimals"
"""The convention of scores that are rounded."""


class References:
    """The references that are kept, one for each scorer.

    Args:
        store: Where.
        bindings: Say what they hold for.
        classifiers: Scorers as well.
        decimals: Of the scores that callers are shown, which are those that are counted; None: all.
    """

    def __init__(
        self, store: Store, bindings: Bindings, classifiers: Classifiers, *, decimals: int | None = None
    ) -> None:
        self._store = store
        self._bindings = bindings
        self._classifiers = classifiers
        self._decimals = decimals

    async def make(
        self, pipeline: Pipeline, request: ReferenceRequest, monitor: DriftMonitor, caller: Caller = ANYONE
    ) -> ReferenceEntry:
        """Keep a reference, in the place of the one of its scorer; raises as `Service.refer` does.

        Args:
            pipeline: Of the process.
            request: As the caller sent it.
            monitor: Knows what is counted now.
            caller: Who calls.
        """
        scorer = pipeline.checks.scorer(request.scorer, "/scorer")
        if (request.values is None) != request.from_live:
            fault = {"pointer": "", "detail": "must have either values or from_live"}
            raise InvalidFieldError("A reference is made either of values or of what is counted now.", errors=[fault])
        are_probabilities = _are_probabilities(scorer.info)
        async with pipeline.session(request, caller):
            if request.values is not None:
                found = Reference.of_values(request.values, are_probabilities=are_probabilities)
            else:
                found = Reference.of_live(
                    await monitor.slices(),
                    request.scorer,
                    are_probabilities=are_probabilities,
                    now_s=time.time(),
                    made=scorer.conventions.get(MADE),
                )
            bound_to = await self._bound_to(pipeline, scorer)
            artefact = Artefact("reference", request.scorer, bound_to, found.document())
            await self._store.put(artefact)
            await monitor.look()
        return _entry(artefact)

    async def entries(self) -> list[ReferenceEntry]:
        """All that are kept, by scorer."""
        return [_entry(artefact) for artefact in await self._store.all_of("reference")]

    async def delete(self, scorer: str) -> None:
        """Forget the one of a scorer; raises as `Store.delete` does."""
        await self._store.delete("reference", scorer)

    async def fitting(self, pipeline: Pipeline) -> tuple[Mapping[str, Reference], Mapping[str, PlumblineError]]:
        """The references of what is loaded and of classifiers over it, by scorer, and why others cannot be used.

        Args:
            pipeline: Of the process.
        """
        found: dict[str, Reference] = {}
        errors: dict[str, PlumblineError] = {}
        if not self._store.may_hold_any:
            return found, errors
        for artefact in await self._store.all_of("reference"):
            try:
                known = await self._classifiers.beside(pipeline, [artefact.name])
                scorer = known.checks.scorer(artefact.name, "/scorer")
                artefact.check_bound_to(await self._bound_to(known, scorer))
            except RequestError as error:
                errors[artefact.name] = error
            else:
                found[artefact.name] = Reference.of_artefact(artefact)
        return found, errors

    async def report(self, pipeline: Pipeline, monitor: DriftMonitor) -> DriftReply:
        """What is known of drift now.

        Args:
            pipeline: Of the process.
            monitor: Looks.
        """
        _, errors = await self.fitting(pipeline)
        return DriftReply(await monitor.look(), errors)

    async def _bound_to(self, pipeline: Pipeline, scorer: Scorer) -> Binding:
        """What counted scores come from: rounded ones lie elsewhere than exact ones."""
        found = await self._bindings.of_scorer(pipeline, scorer)
        if self._decimals is None:
            return found
        return replace(found, conventions={**found.conventions, DECIMALS: str(self._decimals)})


def _are_probabilities(info: ScorerInfo) -> bool:
    return info.low == 0.0 and info.high == 1.0


def _entry(artefact: Artefact) -> ReferenceEntry:
    found = Reference.from_document(artefact.document)
    return ReferenceEntry(
        scorer=artefact.name,
        n=found.scores.num,
        edges=found.scores.edges,
        counts=found.scores.counts,
        images=list(found.images),
        bound_to=bound_to_of(artefact),
        created=artefact.created_text,
    )
