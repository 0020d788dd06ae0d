"""One scorer over the cases that have what it needs: rows of its encoders, then its arithmetic."""

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import Embedded, Scorer
from plumbline_serve.concurrency import together
from plumbline_serve.encoding_cache import EncodingOrError
from plumbline_serve.messages import ImageSource, ScoreOrError
from plumbline_serve.requests.session import RequestSession
from plumbline_serve.requests.validation import Case

Column = list[EncodingOrError]
"""One encoder's row or error for each case."""
CASES_A_PIECE = 8
"""Cases scored before other requests have their turn: so many of the longest texts take some milliseconds."""


async def score_cases(session: RequestSession, scorer: Scorer, cases: Sequence[Case]) -> list[ScoreOrError]:
    """Score cases whose images the bench has opened.

    Returns:
        A score or an error for each case, in order; one case's error never touches another.
    """
    columns = await _columns(session, scorer, cases)
    errors = {i: error for i in range(len(cases)) if (error := _first_error(columns, i)) is not None}
    sound = [i for i in range(len(cases)) if i not in errors]
    if not sound:
        return [errors[i] for i in range(len(cases))]
    scores: dict[int, ScoreOrError] = {**errors}
    for first in range(0, len(sound), CASES_A_PIECE):
        part = sound[first : first + CASES_A_PIECE]
        chosen = {name: [column[i] for i in part] for name, column in columns.items()}
        batch = Embedded(texts=[cases[i].text or "" for i in part], **chosen)
        scores.update(zip(part, await session.on_thread(scorer.score, batch), strict=True))
    return [scores[i] for i in range(len(cases))]


def _first_error(columns: Mapping[str, Column], index: int) -> PlumblineError | None:
    rows = (column[index] for column in columns.values())
    return next((row for row in rows if isinstance(row, PlumblineError)), None)


async def _columns(session: RequestSession, scorer: Scorer, cases: Sequence[Case]) -> dict[str, Column]:
    """What each of the scorer's encoders makes of the cases; image and text encoders run side by side."""
    images = [case.image for case in cases if case.image is not None]
    texts = [case.text for case in cases if case.text is not None]
    asked: dict[str, Coroutine[Any, Any, Column]] = {}
    if scorer.image is not None:
        asked["images"] = _column(session.image_encodings(scorer.image, images), images)
    if scorer.text is not None:
        asked["captions"] = _column(session.text_encodings(scorer.text, texts), texts)
    columns = dict(zip(asked, await together(asked.values()), strict=True))
    if scorer.pair is not None:
        pairs: list[tuple[ImageSource, str]] = list(zip(images, texts, strict=True))
        image_encodings = dict(zip(images, columns["images"], strict=True))
        columns["pairs"] = await _column(session.pair_encodings(scorer.pair, pairs, image_encodings), pairs)
    return columns


async def _column(rows: Coroutine[Any, Any, Mapping[Any, EncodingOrError]], names: Sequence[Any]) -> Column:
    found = await rows
    return [found[name] for name in names]
