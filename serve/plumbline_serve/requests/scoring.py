"""What a scorer's encoders make of cases, and the scores that it makes of that."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from plumbline_models.core.errors import InvalidFieldError, PlumblineError
from plumbline_models.core.protocols import AsksQuestions, Embedded, Scorer
from plumbline_models.sets.video import pooled
from plumbline_serve.encoding_cache import EncodingOrError
from plumbline_serve.messages import ImageSource, ScoreOrError
from plumbline_serve.requests.inputs import Need, Pair
from plumbline_serve.requests.session import RequestSession
from plumbline_serve.requests.validation import Case
from plumbline_serve.scheduling.concurrency import together

Column: TypeAlias = list[EncodingOrError]
"""For each case one encoder's encoding, or a list of them, or an error."""
CASES_PER_PIECE: Final = 8
"""Cases scored before other requests have their turn: so many of the longest texts take some milliseconds."""


def needs_of(scorer: Scorer, cases: Sequence[Case]) -> Iterator[Need]:
    """What a scorer asks of its encoders.

    Args:
        scorer: Whose encoders.
        cases: They have what it needs.
    """
    if scorer.image is not None:
        yield scorer.image, images_of(scorer, cases)
    if scorer.text is not None:
        yield scorer.text, _texts(scorer, cases)
    if scorer.pair is not None:
        by_frame = [each for case in cases for each in case.by_frame()]
        yield scorer.pair, [pair for pairs in _pairs(scorer, by_frame) for pair in pairs]


async def score_cases(session: RequestSession, scorer: Scorer, cases: Sequence[Case]) -> list[ScoreOrError]:
    """A score or an error for each case, in order; one case's error never touches another.

    Args:
        session: The request's; the cases' images are open.
        scorer: What scores.
        cases: They have what it needs; the encodings of one with frames are taken together.
    """
    columns = await _encode_cases(session, scorer, cases)
    scores = [_first_error(columns, index) for index in range(len(cases))]
    sound = [index for index, error in enumerate(scores) if error is None]
    size = 1 if session.context.is_deterministic else CASES_PER_PIECE  # sums of arrays depend on their shapes
    for first in range(0, len(sound), size):
        piece = sound[first : first + size]
        chosen: dict[str, Any] = {name: [column[index] for index in piece] for name, column in columns.items()}
        batch = Embedded(
            texts=[cases[index].text or "" for index in piece],
            reference_texts=[cases[index].references for index in piece],
            phrase_texts=[cases[index].phrases for index in piece],
            questions=[cases[index].questions for index in piece],
            **chosen,
        )
        for index, score in zip(piece, await session.score(scorer, batch), strict=True):
            scores[index] = score
        if len(sound) > size:
            await asyncio.sleep(0)  # what is quick is done at once, and there may be hundreds of it
    return [score for score in scores if score is not None]


def images_of(scorer: Scorer, cases: Sequence[Case]) -> list[ImageSource]:
    """Every image that a scorer reads.

    Args:
        scorer: Of images.
        cases: They have what it needs.
    """
    given = [each.image for case in cases for each in case.by_frame()]
    if "reference_image" in scorer.info.needs:
        given += [case.reference_image for case in cases]
    return [image for image in given if image is not None]


def _texts(scorer: Scorer, cases: Sequence[Case]) -> list[str]:
    """Every text that the scorer's encoder of texts takes."""
    texts = [case.text for case in cases if case.text is not None]
    if "references" in scorer.info.needs:
        texts += [text for case in cases for text in case.references]
    if "phrases" in scorer.info.needs:
        texts += [text for case in cases for text in case.phrases]
    return texts


def _pairs(scorer: Scorer, cases: Sequence[Case]) -> list[list[Pair]]:
    """What the scorer's encoder of pairs takes of each case: its image with its text, or with each question."""
    if "questions" not in scorer.info.needs:
        return [[Pair(case.image, case.text)] for case in cases if case.image is not None and case.text is not None]
    template = scorer.template if isinstance(scorer, AsksQuestions) else None
    asked = [(case.image, case.questions) for case in cases if case.image is not None]
    return [[Pair(image, each.text, template) for each in questions] for image, questions in asked]


async def _encode_cases(session: RequestSession, scorer: Scorer, cases: Sequence[Case]) -> dict[str, Column]:
    """What each of the scorer's encoders makes of the cases; image and text encoders run side by side."""
    found: list[Mapping[Any, EncodingOrError]] = await together(
        (_image_encodings(session, scorer, cases), _text_encodings(session, scorer, cases))
    )
    of_images, of_texts = found
    columns: dict[str, Column] = {}
    if scorer.image is not None:
        columns["images"] = [_image(of_images, case) for case in cases]
        if "reference_image" in scorer.info.needs:
            columns["reference_images"] = [of_images[case.reference_image] for case in cases]
    if scorer.text is not None:
        columns["captions"] = [of_texts[case.text] for case in cases]
        if "references" in scorer.info.needs:
            columns["references"] = [_all_of(of_texts, case.references) for case in cases]
        if "phrases" in scorer.info.needs:
            columns["phrases"] = [_all_of(of_texts, case.phrases) for case in cases]
    if scorer.pair is not None:
        pairs = _pairs(scorer, cases)
        of_pairs = await session.pair_encodings(scorer.pair, [pair for some in pairs for pair in some], of_images)
        if "questions" in scorer.info.needs:
            columns["pairs"] = [_all_of(of_pairs, some) for some in pairs]
        else:
            columns["pairs"] = [of_pairs[pair] for (pair,) in pairs]
    return columns


async def _image_encodings(
    session: RequestSession, scorer: Scorer, cases: Sequence[Case]
) -> Mapping[ImageSource, EncodingOrError]:
    if scorer.image is None:
        return {}
    return await session.image_encodings(scorer.image, images_of(scorer, cases))


async def _text_encodings(
    session: RequestSession, scorer: Scorer, cases: Sequence[Case]
) -> Mapping[str, EncodingOrError]:
    return {} if scorer.text is None else await session.text_encodings(scorer.text, _texts(scorer, cases))


def _image(encodings: Mapping[Any, EncodingOrError], case: Case) -> EncodingOrError:
    """The encoding of the case's image, or of all its frames together."""
    if not case.frames:
        return encodings[case.image]
    found = _all_of(encodings, case.frames)
    try:
        return found if isinstance(found, PlumblineError) else pooled(found).astype(np.float32)
    except InvalidFieldError as error:
        return error


def _all_of(encodings: Mapping[Any, EncodingOrError], inputs: Sequence[Any]) -> EncodingOrError:
    """The encodings of some inputs, or what is wrong with the first that has none."""
    found = [encodings[each] for each in inputs]
    return next((each for each in found if isinstance(each, PlumblineError)), found)


def _first_error(columns: Mapping[str, Column], index: int) -> ScoreOrError | None:
    encodings = (column[index] for column in columns.values())
    return next((encoding for encoding in encodings if isinstance(encoding, PlumblineError)), None)
