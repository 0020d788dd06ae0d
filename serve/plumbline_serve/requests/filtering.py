"""Accept or reject items: the cheapest scorer first, and no further work on what is already rejected."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from plumbline_models.core.errors import InvalidFieldError, PlumblineError
from plumbline_models.networks.attribution.words import count_words
from plumbline_serve.messages import (
    FilterReply,
    FilterRequest,
    ItemFailure,
    ItemVerdict,
    ScoreOrError,
    Threshold,
)
from plumbline_serve.requests.calibrating import Calibrations, Cut
from plumbline_serve.requests.combining import Judge, combinations, scorers_of
from plumbline_serve.requests.pipeline import Pipeline
from plumbline_serve.requests.validation import Case
from plumbline_serve.scheduling.request_context import ANYONE, Caller


@dataclass(slots=True)
class _Judged:
    case: Case
    scores: dict[str, ScoreOrError] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    error: PlumblineError | None = None


async def filter_items(
    pipeline: Pipeline, request: FilterRequest, caller: Caller = ANYONE, *, calibrations: Calibrations | None = None
) -> FilterReply:
    """Judge items by thresholds that must all hold; raises as `Service.filter` does.

    Args:
        pipeline: Of the process.
        request: As the caller sent it.
        caller: Who calls.
        calibrations: What conditions may name; None: nothing.
    """
    order = _cheapest_first(pipeline, request)
    judged = [_Judged(case) for case in pipeline.checks.cases(request.items, request.images)]
    for each in judged:
        _count_words(each, order, request.policy)
    ran: set[str] = set()
    async with pipeline.session(request, caller) as session:
        cuts = {} if calibrations is None else await calibrations.cuts(pipeline, request.policy, order)
        for each in judged:
            each.error = _group_fault(pipeline, each.case, cuts)
        waiting = [each.case for each in judged if each.error is None and (request.explain or not each.failed)]
        await pipeline.admit(session, waiting, scorers_of(order))
        for judge in order:
            new = [scorer for scorer in judge.scorers if scorer.info.name not in ran]
            ran |= {scorer.info.name for scorer in new}
            still_open = [each for each in judged if each.error is None and (request.explain or not each.failed)]
            if new:
                found = await pipeline.run(session, [each.case for each in still_open], new)
                for each, scores in zip(still_open, found, strict=True):
                    each.scores |= scores
            for each in still_open:
                _judge(pipeline, each, judge, request.policy, cuts)
    return FilterReply(results=[_verdict(each) for each in judged], timing_ms=session.timing())


def _group_fault(pipeline: Pipeline, case: Case, cuts: Mapping[str, Cut]) -> PlumblineError | None:
    """Why calibrations have no threshold for an item's group."""
    faults = (fault for cut in cuts.values() if (fault := cut.fault(case.group)) is not None)
    if case.error is not None or (fault := next(faults, None)) is None:
        return None
    return pipeline.failure(replace(case, error=fault), {})


def _judge(
    pipeline: Pipeline, judged: _Judged, judge: Judge, policy: Sequence[Threshold], cuts: Mapping[str, Cut]
) -> None:
    """Hold an item, whose scores are known, against the conditions on one scorer or combination."""
    own: dict[str, ScoreOrError] = {}
    if judged.case.error is None:
        own = {judge.name: pipeline.judge(judge, judged.case, judged.scores)}
        judged.scores |= own
        if judged.failed and isinstance(own[judge.name], PlumblineError):
            return  # rejected already: what cannot be explained stands among the scores
    judged.error = pipeline.failure(judged.case, own)
    if judged.error is None and judge.name not in judged.failed:
        conditions = [each for each in policy if each.scorer == judge.name]
        judged.failed += [] if _holds(own[judge.name], conditions, cuts, judged.case.group) else [judge.name]


def _cheapest_first(pipeline: Pipeline, request: FilterRequest) -> list[Judge]:
    policy = request.policy
    if not policy:
        raise InvalidFieldError(
            "The policy has no conditions.",
            errors=[{"pointer": "/policy/all", "detail": "must not be empty"}],
        )
    for index, threshold in enumerate(policy):
        if threshold.min is None and threshold.max is None and threshold.calibration is None:
            pointer = f"/policy/all/{index}"
            raise InvalidFieldError(
                "A condition needs min, max or calibration.",
                errors=[{"pointer": pointer, "detail": "needs min, max or calibration"}],
            )
    known = combinations(pipeline.checks, request.combine)
    if unused := known.keys() - {threshold.scorer for threshold in policy}:
        name = min(unused)
        raise InvalidFieldError(
            f"No condition of the policy is on the combination {name}.",
            errors=[{"pointer": f"/combine/{name}", "detail": "stands in no condition"}],
        )
    judges: dict[str, Judge] = {}
    for index, threshold in enumerate(policy):
        name, pointer = threshold.scorer, f"/policy/all/{index}/scorer"
        judges[name] = known.get(name) or Judge.of(pipeline.checks.scorer(name, pointer))
    return sorted(judges.values(), key=lambda judge: judge.relative_cost)


def _count_words(judged: _Judged, judges: Sequence[Judge], policy: Sequence[Threshold]) -> None:
    """Reject an item whose text has too few words for a value to say anything."""
    case = judged.case
    for name, scorers in ((judge.name, judge.scorers) for judge in judges):
        min_words = max((each.min_words or 0 for each in policy if each.scorer == name), default=0)
        if not min_words or case.error is not None or any(case.lacks(scorer) for scorer in scorers):
            continue
        num_words = count_words(case.text or "", most=min_words)
        if num_words < min_words:
            judged.failed.append(name)
            judged.reasons[name] = f"The text has {num_words} words; at least {min_words} are asked for."


def _holds(score: ScoreOrError, conditions: Sequence[Threshold], cuts: Mapping[str, Cut], group: str | None) -> bool:
    """Whether a score meets every condition on it, for an item of a group."""
    if isinstance(score, PlumblineError):
        return False
    value = score.value
    return all(
        (each.min is None or value >= each.min)
        and (each.max is None or value <= each.max)
        and (each.calibration is None or cuts[each.calibration].keeps(value, group))
        for each in conditions
    )


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
