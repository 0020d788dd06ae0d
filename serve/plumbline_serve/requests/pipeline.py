"""The road of a request: check, decode and fit, encode, score, reply. No Ray, no HTTP, no torch."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import Scorer
from plumbline_serve.concurrency import Deadline, together
from plumbline_serve.messages import (
    ItemFailure,
    ItemResult,
    ItemScores,
    ScoreOrError,
    ScoreReply,
    ScoreRequest,
    Timing,
)
from plumbline_serve.requests.scoring import score_cases
from plumbline_serve.requests.session import RequestSession, SessionTools
from plumbline_serve.requests.validation import Case, Checks


class PipelineObserver(Protocol):
    """What the pipeline tells the metrics."""

    def stage(self, stage: str, seconds: float) -> None:
        """An image spent that long in the stage decode or fit."""
        ...

    def scored(self, scorer: str, score: ScoreOrError) -> None:
        """An item got a score or an error from a scorer."""
        ...

    def item_failed(self, error: PlumblineError) -> None:
        """Nothing about an item could be scored."""
        ...

    def expired(self, stage: str) -> None:
        """A deadline passed in this stage."""
        ...


class Pipeline:
    """Scores batches of items; filter, rank and embed walk the same road."""

    def __init__(
        self, scorers: Mapping[str, Scorer], checks: Checks, *, tools: SessionTools, observer: PipelineObserver
    ) -> None:
        self.scorers = scorers
        self.checks = checks
        self._tools = tools
        self._observer = observer

    async def score(self, request: ScoreRequest) -> ScoreReply:
        """Score items in one batch; raises as `Service.score` does."""
        scorers = self.checks.scorers(request.scorers)
        cases = self.checks.cases(request.items, request.images)
        async with self.session(request.timeout_ms) as (session, timing):
            scores = await self.run(session, cases, scorers)
        results = [self.result(case, found) for case, found in zip(cases, scores, strict=True)]
        return ScoreReply(results=results, timing=timing())

    @asynccontextmanager
    async def session(self, timeout_ms: float | None) -> AsyncIterator[tuple[RequestSession, Callable[[], Timing]]]:
        """A workbench for one request, under its deadline, and what to ask for the time it has taken.

        Raises:
            DeadlineExceededError: The deadline passed; work that still waits is dropped.
        """
        started = time.perf_counter()
        deadline = Deadline.after_ms(timeout_ms)
        session = RequestSession(self._tools, deadline, on_stage=self._observer.stage)
        try:
            async with asyncio.timeout(deadline.remaining_s):
                yield session, lambda: _timing(session, started)
        except TimeoutError as error:
            self._observer.expired("request")
            raise deadline.error("request") from error
        finally:
            session.close()

    async def run(
        self, session: RequestSession, cases: Sequence[Case], scorers: Sequence[Scorer] | None
    ) -> list[dict[str, ScoreOrError]]:
        """Score every case with every scorer, or, for None, with those that it allows; scorers run side by side.

        Returns:
            Scores by scorer for each case; empty for one that is wrong or that nothing applies to.
        """
        found: list[dict[str, ScoreOrError]] = [{} for _ in cases]
        plan: dict[str, list[int]] = {}
        for index, case in enumerate(cases):
            for scorer in () if case.error else scorers or self.scorers.values():
                if (lacking := case.lacks(scorer)) is None:
                    plan.setdefault(scorer.info.name, []).append(index)
                elif scorers is not None:
                    found[index][scorer.info.name] = lacking
        await session.open([image for case in cases if (image := case.image) is not None])
        columns = await together(
            score_cases(session, self.scorers[name], [cases[index] for index in indices])
            for name, indices in plan.items()
        )
        for (name, indices), scores in zip(plan.items(), columns, strict=True):
            for index, score in zip(indices, scores, strict=True):
                found[index][name] = score
                self._observer.scored(name, score)
        return found

    def result(self, case: Case, found: Mapping[str, ScoreOrError]) -> ItemResult:
        """The case's scores, or its failure where there is not one value among them."""
        error = self.failure(case, found)
        return ItemScores(case.id, found) if error is None else ItemFailure(case.id, error)

    def failure(self, case: Case, found: Mapping[str, ScoreOrError]) -> PlumblineError | None:
        """Why nothing about the case could be scored; None if something was."""
        errors = [score for score in found.values() if isinstance(score, PlumblineError)]
        if case.error is None and len(errors) < len(found):
            return None
        error = case.error or next(iter(errors), None) or self._nothing_applies(case)
        self._observer.item_failed(error)
        return error

    def _nothing_applies(self, case: Case) -> PlumblineError:
        lacking = (case.lacks(scorer) for scorer in self.scorers.values())
        return next((error for error in lacking if error), PlumblineError("No scorer is loaded."))


def _timing(session: RequestSession, started: float) -> Timing:
    stage_seconds = session.stage_seconds
    return Timing(
        decode=(stage_seconds.decode + stage_seconds.preprocess) * 1000,
        queue=max(stage_seconds.queue, session.joined.seconds) * 1000,
        compute=stage_seconds.compute * 1000,
        total=(time.perf_counter() - started) * 1000,
    )
