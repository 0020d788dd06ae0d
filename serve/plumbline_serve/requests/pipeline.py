"""The request path as code: check, open, encode, score, reply. No Ray, no HTTP, no torch."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeAlias

from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import Embedded, Scorer
from plumbline_serve.concurrency import Deadline, together
from plumbline_serve.encoding_cache import EncodingOrError
from plumbline_serve.messages import (
    ItemFailure,
    ItemResult,
    ItemScores,
    Request,
    ScoreOrError,
    ScoreReply,
    ScoreRequest,
)
from plumbline_serve.request_context import ANYONE, Caller, RequestContext
from plumbline_serve.requests.inputs import Need
from plumbline_serve.requests.session import RequestSession, SessionTools
from plumbline_serve.requests.validation import Case, Checks

Column: TypeAlias = list[EncodingOrError]
"""One encoder's encoding or error for each case."""
CaseScores: TypeAlias = dict[str, ScoreOrError]
"""One case's scores by scorer."""
CASES_PER_PIECE = 8
"""Cases scored before other requests have their turn: so many of the longest texts take some milliseconds."""


class PipelineObserver(Protocol):
    """What the pipeline tells the metrics."""

    def stage(self, stage: str, seconds: float) -> None:
        """A stage has handled an image.

        Args:
            stage: `fetch`, `decode`, or `fit`: preprocessing.
            seconds: What it took.
        """
        ...

    def scored(self, scorer: str, score: ScoreOrError) -> None:
        """An item was scored.

        Args:
            scorer: Its name.
            score: What the item got, or why it got none.
        """
        ...

    def item_failed(self, error: PlumblineError) -> None:
        """Nothing about an item could be scored."""
        ...

    def expired(self, stage: str) -> None:
        """A deadline passed in this stage."""
        ...


class Pipeline:
    """Scores batches of items; filter, rank and embed take the same steps.

    Args:
        scorers: By name.
        checks: What must hold of a request.
        tools: What requests share.
        observer: Hears of every stage and score.
    """

    def __init__(
        self, scorers: Mapping[str, Scorer], checks: Checks, *, tools: SessionTools, observer: PipelineObserver
    ) -> None:
        self.scorers = scorers
        self.checks = checks
        self._tools = tools
        self._observer = observer

    async def score(self, request: ScoreRequest, caller: Caller = ANYONE) -> ScoreReply:
        """Score items in one batch; raises as `Service.score` does.

        Args:
            request: As the caller sent it.
            caller: Who calls.
        """
        scorers = self.checks.scorers(request.scorers)
        cases = self.checks.cases(request.items, request.images)
        async with self.session(request, caller) as session:
            scores = await self.run(session, cases, scorers)
        results = [self._result(case, found) for case, found in zip(cases, scores, strict=True)]
        return ScoreReply(results=results, timing_ms=session.timing())

    @asynccontextmanager
    async def session(self, request: Request, caller: Caller = ANYONE) -> AsyncIterator[RequestSession]:
        """One request's shared state, under its deadline.

        Args:
            request: How long its caller waits, and how urgent it is.
            caller: Who calls.

        Raises:
            DeadlineExceededError: The deadline passed; work that still waits is dropped.
        """
        deadline = Deadline.after_ms(request.timeout_ms)
        context = RequestContext(deadline, caller, request.priority)
        session = RequestSession(self._tools, context, on_stage=self._observer.stage)
        try:
            async with asyncio.timeout(deadline.remaining_s):
                yield session
        except TimeoutError as error:
            self._observer.expired("request")
            raise deadline.error("request") from error
        finally:
            session.close()

    async def admit(self, session: RequestSession, cases: Sequence[Case], scorers: Sequence[Scorer]) -> None:
        """Open the images of cases, and see that they could be scored with every scorer in time.

        Args:
            session: The request's.
            cases: Checked.
            scorers: All that may run.

        Raises:
            OverloadedError: They could not.
        """
        await self._admit(session, cases, self._plan(cases, scorers)[1])

    async def run(
        self, session: RequestSession, cases: Sequence[Case], scorers: Sequence[Scorer] | None
    ) -> list[CaseScores]:
        """Score every case with every scorer; scorers run side by side.

        Args:
            session: The request's.
            cases: Checked.
            scorers: None: for each case those that it has the inputs for.

        Returns:
            Scores by scorer for each case; empty for one that is wrong or that nothing applies to.
        """
        scores, plan = self._plan(cases, scorers)
        await self._admit(session, cases, plan)
        found = await together(
            _score_cases(session, self.scorers[name], [cases[index] for index in indices])
            for name, indices in plan.items()
        )
        for (name, indices), column in zip(plan.items(), found, strict=True):
            for index, score in zip(indices, column, strict=True):
                scores[index][name] = score
                self._observer.scored(name, score)
        return scores

    def failure(self, case: Case, scores: Mapping[str, ScoreOrError]) -> PlumblineError | None:
        """Why nothing about the case could be scored; None if something was.

        Args:
            case: As it was scored.
            scores: All that `run` found for it.
        """
        errors = [score for score in scores.values() if isinstance(score, PlumblineError)]
        if case.error is None and len(errors) < len(scores):
            return None
        error = case.error or next(iter(errors), None) or self._nothing_applies(case)
        self._observer.item_failed(error)
        return error

    async def _admit(self, session: RequestSession, cases: Sequence[Case], plan: Mapping[str, Sequence[int]]) -> None:
        used = sorted({index for indices in plan.values() for index in indices})
        await session.open([image for index in used if (image := cases[index].image) is not None])
        chosen = ((self.scorers[name], [cases[index] for index in indices]) for name, indices in plan.items())
        session.admit(need for scorer, wanted in chosen for need in _needs(scorer, wanted))

    def _plan(
        self, cases: Sequence[Case], scorers: Sequence[Scorer] | None
    ) -> tuple[list[CaseScores], dict[str, list[int]]]:
        """What is said without scoring, for each case, and the indices of the cases to score, by scorer."""
        scores: list[CaseScores] = [{} for _ in cases]
        plan: dict[str, list[int]] = {}
        for index, case in enumerate(cases):
            for scorer in () if case.error else scorers or self.scorers.values():
                if (lacking := case.lacks(scorer)) is None:
                    plan.setdefault(scorer.info.name, []).append(index)
                elif scorers is not None:
                    scores[index][scorer.info.name] = lacking
        return scores, plan

    def _result(self, case: Case, scores: CaseScores) -> ItemResult:
        """The case's scores, or its failure where there is not one value among them."""
        error = self.failure(case, scores)
        return ItemScores(case.id, scores) if error is None else ItemFailure(case.id, error)

    def _nothing_applies(self, case: Case) -> PlumblineError:
        lacking = (case.lacks(scorer) for scorer in self.scorers.values())
        return next((error for error in lacking if error), PlumblineError("No scorer is loaded."))


def _needs(scorer: Scorer, cases: Sequence[Case]) -> Iterator[Need]:
    """What a scorer asks of its encoders."""
    images = [case.image for case in cases if case.image is not None]
    texts = [case.text for case in cases if case.text is not None]
    if scorer.image is not None:
        yield scorer.image, images
    if scorer.text is not None:
        yield scorer.text, texts
    if scorer.pair is not None:
        yield scorer.pair, list(zip(images, texts, strict=True))


async def _score_cases(session: RequestSession, scorer: Scorer, cases: Sequence[Case]) -> list[ScoreOrError]:
    """A score or an error for each case, in order; one case's error never touches another."""
    encodings = await _encode_cases(session, scorer, cases)
    scores = [_first_error(encodings, index) for index in range(len(cases))]
    sound = [index for index, error in enumerate(scores) if error is None]
    for first in range(0, len(sound), CASES_PER_PIECE):
        piece = sound[first : first + CASES_PER_PIECE]
        chosen = {name: [column[index] for index in piece] for name, column in encodings.items()}
        batch = Embedded(texts=[cases[index].text or "" for index in piece], **chosen)
        for index, score in zip(piece, await session.score(scorer, batch), strict=True):
            scores[index] = score
    return [score for score in scores if score is not None]


async def _encode_cases(session: RequestSession, scorer: Scorer, cases: Sequence[Case]) -> dict[str, Column]:
    """What each of the scorer's encoders makes of the cases; image and text encoders run side by side."""
    images = [case.image for case in cases if case.image is not None]
    texts = [case.text for case in cases if case.text is not None]
    wanted: dict[str, Coroutine[Any, Any, Column]] = {}
    if scorer.image is not None:
        wanted["images"] = _column(session.image_encodings(scorer.image, images), images)
    if scorer.text is not None:
        wanted["captions"] = _column(session.text_encodings(scorer.text, texts), texts)
    columns = dict(zip(wanted, await together(wanted.values()), strict=True))
    if scorer.pair is not None:
        pairs = list(zip(images, texts, strict=True))
        encodings = dict(zip(images, columns["images"], strict=True))
        columns["pairs"] = await _column(session.pair_encodings(scorer.pair, pairs, encodings), pairs)
    return columns


async def _column(encodings: Coroutine[Any, Any, Mapping[Any, EncodingOrError]], inputs: Sequence[Any]) -> Column:
    found = await encodings
    return [found[each] for each in inputs]


def _first_error(columns: Mapping[str, Column], index: int) -> ScoreOrError | None:
    encodings = (column[index] for column in columns.values())
    return next((encoding for encoding in encodings if isinstance(encoding, PlumblineError)), None)
