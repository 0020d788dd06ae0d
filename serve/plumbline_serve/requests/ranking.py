"""Order images for a text, or texts for an image."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from plumbline_models.core.errors import InvalidFieldError, PlumblineError, UnknownScorerError
from plumbline_models.core.protocols import Score, Scorer
from plumbline_serve.messages import Ranked, RankReply, RankRequest, ScoreOrError
from plumbline_serve.request_context import ANYONE, Caller
from plumbline_serve.requests.pipeline import Pipeline
from plumbline_serve.requests.validation import Case


async def rank(pipeline: Pipeline, request: RankRequest, caller: Caller = ANYONE) -> RankReply:
    """Score N images for one text, or N texts for one image, best first; raises as `Service.rank` does.

    Args:
        pipeline: Of the process.
        request: As the caller sent it.
        caller: Who calls.
    """
    scorer = _scorer(pipeline, request.scorer)
    cases = _cases(pipeline, request)
    async with pipeline.session(request, caller) as session:
        found = await pipeline.run(session, cases, [scorer])
    ranked, errors = _ranked(pipeline, scorer, zip(cases, found, strict=True))
    if len(request.texts) == 1:
        ranked = _with_probabilities(ranked, [scores.get(scorer.info.name) for scores in found])
    return RankReply(scorer.info.name, ranked[: request.top_k], errors, session.timing())


def _ranked(
    pipeline: Pipeline, scorer: Scorer, scored: Iterable[tuple[Case, Mapping[str, ScoreOrError]]]
) -> tuple[list[Ranked], dict[int, PlumblineError]]:
    """Places, the best first and ties by index; and what could not be scored, by index."""
    ranked: list[Ranked] = []
    errors: dict[int, PlumblineError] = {}
    for index, (case, scores) in enumerate(scored):
        score = scores.get(scorer.info.name)
        error = pipeline.failure(case, scores)
        if error is not None:
            errors[index] = error
        elif score is not None and not isinstance(score, PlumblineError):
            ranked.append(Ranked(index, score.value, truncated=bool(score.details.get("truncated"))))
    sign = -1.0 if scorer.info.higher_is_better else 1.0
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


def _scorer(pipeline: Pipeline, name: str | None) -> Scorer:
    if name is None:
        matching = (s for s in pipeline.scorers.values() if s.info.needs == {"image", "text"})
        if (scorer := next(matching, None)) is None:
            raise UnknownScorerError("No scorer is loaded that holds a text against an image.")
        return scorer
    scorer = pipeline.checks.scorer(name, "/scorer")
    if "text" not in scorer.info.needs:
        raise InvalidFieldError(
            f"{name} does not look at the text, so it cannot rank by it.",
            errors=[{"pointer": "/scorer", "detail": "takes no text"}],
        )
    if others := scorer.info.needs - {"image", "text"}:
        raise InvalidFieldError(
            f"{name} needs {', '.join(sorted(others))} as well, so it cannot rank by image and text.",
            errors=[{"pointer": "/scorer", "detail": "needs more than an image and a text"}],
        )
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
