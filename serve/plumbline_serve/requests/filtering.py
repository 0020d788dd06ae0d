"""Accept or reject items: the cheapest scorer first, and no further work on what is already rejected."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from plumbline_models.core.errors import InvalidFieldError, PlumblineError
from plumbline_models.core.protocols import Scorer
from plumbline_models.networks.attribution.words import count_words
from plumbline_serve.messages import (
    FilterReply,
    FilterRequest,
    ItemFailure,
    ItemVerdict,
    ScoreOrError,
    Threshold,
)
from plumbline_serve.request_context import ANYONE, Caller
from plumbline_serve.requests.pipeline import Pipeline
from plumbline_serve.requests.validation import Case


@dataclass(slots=True)
class _Judged:
    case: Case
    scores: dict[str, ScoreOrError] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    error: PlumblineError | None = None


async def filter_items(pipeline: Pipeline, request: FilterRequest, caller: Caller = ANYONE) -> FilterReply:
    """Judge items by thresholds that must all hold; raises as `Service.filter` does.

    Args:
        pipeline: Of the process.
        request: As the caller sent it.
        caller: Who calls.
    """
    order = _cheapest_first(pipeline, request.policy)
    judged = [_Judged(case) for case in pipeline.checks.cases(request.items, request.images)]
    for each in judged:
        _count_words(each, order, request.policy)
    async with pipeline.session(request, caller) as session:
        await pipeline.admit(session, [each.case for each in judged if request.explain or not each.failed], order)
        for scorer in order:
            open_cases = [each for each in judged if each.error is None and (request.explain or not each.failed)]
            found = await pipeline.run(session, [each.case for each in open_cases], [scorer])
            for each, scores in zip(open_cases, found, strict=True):
                each.scores |= scores
                if each.failed and isinstance(scores[scorer.info.name], PlumblineError):
                    continue  # rejected already: what cannot be explained stands among the scores
                each.error = pipeline.failure(each.case, scores)
                if each.error is None:
                    each.failed += _failures(scorer.info.name, scores, request.policy, known=each.failed)
    return FilterReply(results=[_verdict(each) for each in judged], timing_ms=session.timing())


def _cheapest_first(pipeline: Pipeline, policy: Sequence[Threshold]) -> list[Scorer]:
    if not policy:
        raise InvalidFieldError(
            "The policy has no conditions.",
            errors=[{"pointer": "/policy/all", "detail": "must not be empty"}],
        )
    for index, threshold in enumerate(policy):
        if threshold.min is None and threshold.max is None:
            pointer = f"/policy/all/{index}"
            raise InvalidFieldError(
                "A condition needs min or max.", errors=[{"pointer": pointer, "detail": "needs min or max"}]
            )
    scorers = {t.scorer: pipeline.checks.scorer(t.scorer, f"/policy/all/{i}/scorer") for i, t in enumerate(policy)}
    return sorted(scorers.values(), key=lambda scorer: scorer.relative_cost)


def _count_words(judged: _Judged, scorers: Sequence[Scorer], policy: Sequence[Threshold]) -> None:
    """Reject an item whose text has too few words for a scorer's value to say anything."""
    case = judged.case
    for scorer in scorers:
        name = scorer.info.name
        min_words = max((each.min_words or 0 for each in policy if each.scorer == name), default=0)
        if not min_words or case.error is not None or case.lacks(scorer) is not None:
            continue
        num_words = count_words(case.text or "", most=min_words)
        if num_words < min_words:
            judged.failed.append(name)
            judged.reasons[name] = f"The text has {num_words} words; at least {min_words} are asked for."


def _failures(
    name: str, scores: dict[str, ScoreOrError], policy: Sequence[Threshold], *, known: Sequence[str]
) -> list[str]:
    score = scores[name]
    conditions = [threshold for threshold in policy if threshold.scorer == name]
    held = not isinstance(score, PlumblineError) and all(_holds(score.value, condition) for condition in conditions)
    return [] if held or name in known else [name]


def _holds(value: float, condition: Threshold) -> bool:
    above = condition.min is None or value >= condition.min
    below = condition.max is None or value <= condition.max
    return above and below


def _verdict(judged: _Judged) -> ItemVerdict | ItemFailure:
    if judged.error is not None:
        return ItemFailure(judged.case.id, judged.error)
    return ItemVerdict(
        id=judged.case.id,
        verdict="reject" if judged.failed else "accept",
        failed=judged.failed,
        scores=judged.scores,
        reasons=judged.reasons,
    )
