"""Scores as the service gives them, from image bytes on, in this process."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from plumbline_models.core.protocols import Score
from plumbline_serve.messages import EncodedImage, Item, ItemScores, ScoreRequest
from plumbline_serve.requests.service import CoreService

CHUNK = 64
Scores = Mapping[str, Score]


async def score(
    service: CoreService, asked: Sequence[tuple[EncodedImage, str | None]], scorers: Sequence[str]
) -> list[Scores]:
    """Scores of images and texts, in order.

    Raises:
        PlumblineError: One of them cannot be scored.
    """
    items = [Item(id=str(place), image=image, text=text) for place, (image, text) in enumerate(asked)]
    found: list[Scores] = []
    for first in range(0, len(items), CHUNK):
        reply = await service.score(ScoreRequest(items[first : first + CHUNK], scorers=scorers))
        found += [_scores(result) for result in reply.results]
    return found


def encoded(pixels: NDArray[np.uint8]) -> EncodedImage:
    """A PNG, which loses nothing."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return EncodedImage(buffer.getvalue())


def _scores(result: object) -> Scores:
    if not isinstance(result, ItemScores):
        raise result.error  # type: ignore[attr-defined]
    for one in result.scores.values():
        if not isinstance(one, Score):
            raise one
    return result.scores  # type: ignore[return-value]
