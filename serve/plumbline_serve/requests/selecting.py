"""Choose one of N images for a text, with what the choice is certain to gain in what people want.

The gain is that of the best of so many, by the theorem in `decisions.best_of_n`. Of a draw by temperature nothing is
certified: it changes the images less, and gains less by the score, and by how much depends on the scores' law.
"""

import asyncio
import random
from collections.abc import Sequence

from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.decisions.best_of_n import MAX_N, certified_gain, largest_certified_n
from plumbline_serve.messages import Ranked, RankReply, RankRequest, SelectReply, SelectRequest
from plumbline_serve.requests.pipeline import Pipeline
from plumbline_serve.requests.ranking import probabilities, rank
from plumbline_serve.scheduling.request_context import ANYONE, Caller


async def select(pipeline: Pipeline, request: SelectRequest, caller: Caller = ANYONE) -> SelectReply:
    """Score N images for one text and choose one; raises as `Service.select` does.

    Args:
        pipeline: Of the process.
        request: As the caller sent it.
        caller: Who calls.
    """
    lowest = _lowest_correlation(request)
    ranked = await rank(
        pipeline,
        RankRequest(
            request.images,
            [request.text],
            scorer=request.scorer,
            combine=request.combine,
            timeout_ms=request.timeout_ms,
            priority=request.priority,
            deterministic=request.deterministic,
        ),
        caller,
        reads_text=False,  # the images of one prompt may well be chosen by how good they look
    )
    num_images = _num_chosen_from(ranked.ranking)
    gain, largest_n = await asyncio.to_thread(certificate, num_images, lowest)
    values: list[float | None] = [None] * len(request.images)
    for place in ranked.ranking:
        values[place.index] = place.value
    index, drawn = _choice(ranked, request, num_images=len(values))
    return SelectReply(
        index=index,
        scorer=ranked.scorer,
        values=values,
        certified_gain=None if request.temperature is not None else gain,
        max_certified_n=largest_n,
        overoptimised=None if largest_n is None else num_images > largest_n,
        errors=ranked.errors,
        timing_ms=ranked.timing_ms,
        probabilities=drawn,
        truncated=any(place.truncated for place in ranked.ranking),
    )


def certificate(num_images: int, correlation: float | None) -> tuple[float | None, int | None]:
    """What the best of so many is certain to gain, and the largest number that gains anything.

    Args:
        num_images: To choose from.
        correlation: The least that it may be; None: it is not known, and where it is not above 0, nothing is certain.
    """
    if correlation is None:
        return None, None
    if correlation <= 0.0:
        return None, 1
    gain = certified_gain(num_images, correlation) if 1 <= num_images <= MAX_N else None
    return gain, largest_certified_n(correlation)


def _num_chosen_from(ranking: Sequence[Ranked]) -> int:
    """How many images the score chose from: of equals it chose none, so that they count as one."""
    return 1 if ranking and ranking[0].value == ranking[-1].value else len(ranking)


def _lowest_correlation(request: SelectRequest) -> float | None:
    """The lower end of the interval, else the correlation itself."""
    interval = request.correlation_interval
    if interval is None:
        return request.correlation
    low, high = interval
    if low > high or (request.correlation is not None and not low <= request.correlation <= high):
        fault = {"pointer": "/correlation_interval", "detail": "must hold the correlation between its ends"}
        raise InvalidFieldError("The interval does not hold the correlation between its ends.", errors=[fault])
    return low


def _choice(ranked: RankReply, request: SelectRequest, *, num_images: int) -> tuple[int | None, Sequence[float | None]]:
    """The chosen image, and by image how likely each was where one is drawn."""
    if not ranked.ranking:
        return None, ()
    if request.temperature is None:
        return ranked.ranking[0].index, ()
    weights = _soft(ranked.ranking, request.temperature)
    drawn: list[float | None] = [None] * num_images
    for place, weight in zip(ranked.ranking, weights, strict=True):
        drawn[place.index] = weight
    source = random.Random(request.seed)  # noqa: S311 - not for secrets  # nosec B311
    return source.choices([place.index for place in ranked.ranking], weights)[0], drawn


def _soft(ranking: Sequence[Ranked], temperature: float) -> list[float]:
    """The softmax over places, the best first, whichever way their values go."""
    best = ranking[0].value
    return probabilities([-abs(place.value - best) / temperature for place in ranking])
