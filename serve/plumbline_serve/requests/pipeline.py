"""The request path as code: check, open, encode, score, reply. No Ray, no HTTP, no torch."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Protocol, TypeAlias

from plumbline_models.core.errors import EncodersAwayError, PlumblineError
from plumbline_models.core.protocols import EncoderInfo, Scorer
from plumbline_serve.drift import counted_as
from plumbline_serve.messages import (
    GuardFlags,
    ItemFailure,
    ItemResult,
    ItemScores,
    ScoreOrError,
    ScoreReply,
    ScoreRequest,
)
from plumbline_serve.messages.decisions import MADE
from plumbline_serve.messages.sets import AnyRequest
from plumbline_serve.requests.combining import Judge, combinations, scorers_of
from plumbline_serve.requests.frames import score_with_frames
from plumbline_serve.requests.inputs import Need
from plumbline_serve.requests.scoring import images_of, needs_of
from plumbline_serve.requests.session import RequestSession, SessionObserver, SessionTools
from plumbline_serve.requests.validation import Case, Checks
from plumbline_serve.scheduling.concurrency import Deadline, together
from plumbline_serve.scheduling.request_context import ANYONE, Caller, RequestContext

CaseScores: TypeAlias = dict[str, ScoreOrError]
"""One case's scores by scorer."""


class GuardLook(Protocol):
    """Has guards look at cases."""

    async def __call__(
        self, pipeline: "Pipeline", session: RequestSession, cases: Sequence[Case]
    ) -> Sequence[GuardFlags | None]:
        """What they say of each."""
        ...


class PipelineObserver(SessionObserver, Protocol):
    """What the pipeline tells the metrics."""

    def scored(self, scorer: str, score: ScoreOrError) -> None:
        """An item was scored.

        Args:
            scorer: Its name.
            score: What the item got, or why it got none.
        """
        ...

    def combined(self, method: str, score: ScoreOrError) -> None:
        """Scores of an item were combined.

        Args:
            method: How.
            score: What the item got, or why it got none.
        """
        ...

    def looked_at(self, flags: GuardFlags) -> None:
        """Guards looked at an item.

        Args:
            flags: What they say.
        """
        ...

    def item_failed(self, error: PlumblineError) -> None:
        """Nothing about an item could be scored."""
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

    async def infos(self) -> Mapping[str, EncoderInfo]:
        """The encoders that are loaded, by key."""
        return {info.key: info for info in await self._tools.compute.infos()}

    def beside(self, scorers: Mapping[str, Scorer]) -> "Pipeline":
        """The same with further scorers over the same encoders; where nothing is named they do not run.

        Args:
            scorers: By name.
        """
        known = {**self.scorers, **scorers}
        return Pipeline(known, self.checks.over(known), tools=self._tools, observer=self._observer)

    async def score(
        self, request: ScoreRequest, caller: Caller = ANYONE, *, look: GuardLook | None = None
    ) -> ScoreReply:
        """Score items in one batch; raises as `Service.score` does.

        Args:
            request: As the caller sent it.
            caller: Who calls.
            look: Has guards look at the items; None: nobody asked for them.
        """
        scorers = self.checks.scorers(request.scorers)
        judges = combinations(self.checks, request.combine)
        if scorers is not None:
            scorers = scorers_of([*map(Judge.of, scorers), *judges.values()])
        cases = self.checks.cases(request.items, request.images)
        async with self.session(request, caller) as session:
            scores = await self.run(session, cases, scorers)
            flags = [None] * len(cases) if look is None else await look(self, session, cases)
        for each in flags:
            if each is not None:
                self._observer.looked_at(each)
        for case, found in zip(cases, scores, strict=True):
            if case.error is None:
                found |= {name: self.judge(each, case, found) for name, each in judges.items()}
        results = [self._result(*each) for each in zip(cases, scores, flags, strict=True)]
        return ScoreReply(results=results, timing_ms=session.timing())

    def session(self, request: AnyRequest, caller: Caller = ANYONE) -> RequestSession:
        """One request's shared state, to be entered, under its deadline.

        Args:
            request: How long its caller waits, and how urgent it is.
            caller: Who calls.
        """
        deadline = Deadline.after_ms(request.timeout_ms)
        context = RequestContext(deadline, caller, request.priority, request.deterministic)
        return RequestSession(self._tools, context, self._observer)

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

    def needs(self, scorers: Sequence[Scorer], cases: Sequence[Case]) -> list[Need]:
        """What scorers ask of their encoders, for `RequestSession.admit`.

        Args:
            scorers: That will run.
            cases: They have what these need.
        """
        return [need for scorer in scorers for need in needs_of(scorer, cases)]

    async def run(
        self, session: RequestSession, cases: Sequence[Case], scorers: Sequence[Scorer] | None
    ) -> list[CaseScores]:
        """Score every case with every scorer; scorers run side by side.

        Args:
            session: The request's.
            cases: Checked.
            scorers: None: for each case those that it has the inputs for.

        Returns:
            Scores by scorer, in their order, for each case; empty for one that is wrong or that nothing applies to.

        Raises:
            EncodersAwayError: Of every scorer. Where others can score, each of its scores is this error.
        """
        scores, plan = self._plan(cases, scorers)
        await self._admit(session, cases, plan)
        found = await together(
            _unless_away(score_with_frames(session, self.scorers[name], [cases[index] for index in indices]))
            for name, indices in plan.items()
        )
        away = [column for column in found if isinstance(column, EncodersAwayError)]
        if away and len(away) == len(found):
            raise away[0]
        for (name, indices), column in zip(plan.items(), found, strict=True):
            counted = counted_as(name, self.scorers[name].conventions.get(MADE))
            for index, score in zip(indices, _each(column, len(indices)), strict=True):
                scores[index][name] = score
                self._observer.scored(name, score)
                session.given(counted, cases[index].image, score)
        order = [scorer.info.name for scorer in scorers or self.scorers.values()]
        return [{name: each[name] for name in order if name in each} for each in scores]

    def judge(self, judge: Judge, case: Case, scores: Mapping[str, ScoreOrError]) -> ScoreOrError:
        """What a case is judged by; see `Judge.score`.

        Args:
            judge: One scorer, or a combination.
            case: As it was scored; right in itself.
            scores: What `run` found for it.
        """
        score = judge.score(case, scores)
        if judge.combination is not None:
            self._observer.combined(judge.combination.method, score)
        return score

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
        chosen = [(self.scorers[name], [cases[index] for index in indices]) for name, indices in plan.items()]
        await session.open([image for scorer, wanted in chosen for image in images_of(scorer, wanted)])
        await session.admit(need for scorer, wanted in chosen for need in needs_of(scorer, wanted))

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

    def _result(self, case: Case, scores: CaseScores, guards: GuardFlags | None) -> ItemResult:
        """The case's scores, or its failure where there is not one value among them."""
        error = self.failure(case, scores)
        return ItemScores(case.id, scores, guards) if error is None else ItemFailure(case.id, error)

    def _nothing_applies(self, case: Case) -> PlumblineError:
        lacking = (case.lacks(scorer) for scorer in self.scorers.values())
        return next((error for error in lacking if error), PlumblineError("No scorer is loaded."))


async def _unless_away(scoring: Awaitable[list[ScoreOrError]]) -> list[ScoreOrError] | EncodersAwayError:
    """A scorer's scores, or that its encoders are away: callers get those of the other scorers all the same."""
    try:
        return await scoring
    except EncodersAwayError as error:
        return error


def _each(column: list[ScoreOrError] | EncodersAwayError, num_cases: int) -> Sequence[ScoreOrError]:
    return [column] * num_cases if isinstance(column, EncodersAwayError) else column
