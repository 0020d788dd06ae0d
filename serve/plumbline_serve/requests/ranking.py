"""Order images for a text, or texts for an image."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from plumbline_models.core.errors import InvalidFieldError, PlumblineError, UnknownScorerError
from plumbline_models.core.protocols import Score, Scorer
from plumbline_serve.messages import Ranked, RankReply, RankRequest, ScoreOrError
from plumbline_serve.messages.decisions import CLASSIFIER_PREFIX
from plumbline_serve.requests.combining import Judge, combinations
from plumbline_serve.requests.pipeline import Pipeline
from plumbline_serve.requests.validation import Case
from plumbline_serve.scheduling.request_context import ANYONE, Caller


async def rank(
    pipeline: Pipeline, request: RankRequest, caller: Caller = ANYONE, *, reads_text: bool = True
) -> RankReply:
    """Score N images for one text, or N texts for one image, best first; raises as `Service.rank` does.

    Args:
        pipeline: Of the process.
        request: As the caller sent it.
        caller: Who calls.
        reads_text: Whether what ranks must look at the text.
    """
    judge = _judge(pipeline, request, reads_text=reads_text)
    cases = _cases(pipeline, request)
    async with pipeline.session(request, caller) as session:
        found = await pipeline.run(session, cases, judge.scorers)
    ranked, errors = _ranked(pipeline, judge, zip(cases, found, strict=True))
    if len(request.texts) == 1:
        ranked = _with_probabilities(ranked, [scores.get(judge.name) for scores in found])
    return RankReply(judge.name, ranked[: request.top_k], errors, session.timing())


def _ranked(
    pipeline: Pipeline, judge: Judge, scored: Iterable[tuple[Case, Mapping[str, ScoreOrError]]]
) -> tuple[list[Ranked], dict[int, PlumblineError]]:
    """Places, the best first and ties by index; and what could not be scored, by index."""
    ranked: list[Ranked] = []
    errors: dict[int, PlumblineError] = {}
    for index, (case, scores) in enumerate(scored):
        score = None if case.error else pipeline.judge(judge, case, scores)
        error = pipeline.failure(case, {} if score is None else {judge.name: score})
        if error is not None:
            errors[index] = error
        elif isinstance(score, Score):
            ranked.append(Ranked(index, score.value, truncated=bool(score.details.get("truncated"))))
    sign = -1.0 if judge.higher_is_better else 1.0
    ranked.sort(key=lambda place: (sign * place.value, place.index))
    return ranked, errors


def _with_probabilities(ranked: Sequence[Ranked], scores: Sequence[ScoreOrError | None]) -> list[Ranked]:
    """Places of images of one text, with the probability that each is preferred; the scores are by index."""
    logits = [score.logit if isinstance(score, Score) else None for score in (scores[each.index] for each in ranked)]
    known = [logit for logit in logits if logit is not None]
    if not known or len(known) < len(ranked):
        return list(ranked)
    return [replace(each, probability=p) for each, p in zip(ranked, probabilities(known), strict=True)]


def probabilities(logits: Sequence[float]) -> list[float]:
    """The softmax of logits: each in [0, 1], together 1.

    Args:
        logits: At least one.
    """
    largest = max(logits)
    weights = [math.exp(logit - largest) for logit in logits]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def _judge(pipeline: Pipeline, request: RankRequest, *, reads_text: bool) -> Judge:
    """What ranks: the scorer or combination that the request names, or that it leaves the choice of."""
    known = combinations(pipeline.checks, request.combine)
    if request.scorer is None and len(known) > 1:
        raise InvalidFieldError(
            "The request has several combinations, and names none to rank by.",
            errors=[{"pointer": "/scorer", "detail": "must name one of the combinations"}],
        )
    judge = known.get(request.scorer or next(iter(known), ""))
    if judge is None:
        # A classifier may rank images for what the text says, as far as images show it.
        is_learnt = (request.scorer or "").startswith(CLASSIFIER_PREFIX) and len(request.texts) == 1
        return Judge.of(_scorer(pipeline, request.scorer, reads_text=reads_text and not is_learnt))
    for index, scorer in enumerate(judge.scorers):
        _check_needs(scorer, f"/combine/{judge.name}/terms/{index}/scorer")
    if reads_text and not any("text" in scorer.info.needs for scorer in judge.scorers):
        raise InvalidFieldError(
            f"No term of {judge.name} looks at the text, so it cannot rank by it.",
            errors=[{"pointer": f"/combine/{judge.name}/terms", "detail": "take no text"}],
        )
    return judge


def _check_needs(scorer: Scorer, pointer: str) -> None:
    """Refuse a scorer of more than what is ranked."""
    if others := scorer.info.needs - {"image", "text"}:
        raise InvalidFieldError(
            f"{scorer.info.name} needs {', '.join(sorted(others))} as well, so it cannot rank by image and text.",
            errors=[{"pointer": pointer, "detail": "needs more than an image and a text"}],
        )


def _scorer(pipeline: Pipeline, name: str | None, *, reads_text: bool) -> Scorer:
    if name is None:
        matching = (s for s in pipeline.scorers.values() if s.info.needs == {"image", "text"})
        if (scorer := next(matching, None)) is None:
            raise UnknownScorerError("No scorer is loaded that holds a text against an image.")
        return scorer
    scorer = pipeline.checks.scorer(name, "/scorer")
    if reads_text and "text" not in scorer.info.needs:
        raise InvalidFieldError(
            f"{name} does not look at the text, so it cannot rank by it.",
            errors=[{"pointer": "/scorer", "detail": "takes no text"}],
        )
    _check_needs(scorer, "/scorer")
    return scorer


def _cases(pipeline: Pipeline, request: RankRequest) -> list[Case]:
    num_images, num_texts = len(request.images), len(request.texts)
    pipeline.checks.count(num_images and num_texts and max(num_images, num_texts))
    if min(num_images, num_texts) > 1:
        raise InvalidFieldError(
            "Give one text and many images, or one image and many texts.",
            errors=[{"pointer": "", "detail": f"{num_images} images and {num_texts} texts"}],
        )
    pairs = [(image, text) for image in request.images for text in request.texts]
    return [Case(str(i), image, text, pipeline.checks.text(text)) for i, (image, text) in enumerate(pairs)]
