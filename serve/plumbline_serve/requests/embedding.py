"""Unit-norm vectors of images or texts, from the encoders that a scorer already holds."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from plumbline_models.core.errors import InvalidFieldError, PlumblineError, UnknownScorerError
from plumbline_models.core.protocols import Encoder, Scorer
from plumbline_models.networks.clip.tokens import is_cut
from plumbline_serve.encoding_cache import EncodingOrError
from plumbline_serve.messages import EmbedReply, EmbedRequest
from plumbline_serve.requests.pipeline import Pipeline
from plumbline_serve.requests.session import RequestSession
from plumbline_serve.requests.validation import Checks
from plumbline_serve.scheduling.request_context import ANYONE, Caller

_ROUNDING: Final = 1e-3  # what encoders of unit norm stay within, also at 16 bits


async def embed(pipeline: Pipeline, request: EmbedRequest, caller: Caller = ANYONE) -> EmbedReply:
    """Embed images or texts; raises as `Service.embed` does.

    Args:
        pipeline: Of the process.
        request: As the caller sent it.
        caller: Who calls.
    """
    if request.images and request.texts:
        raise InvalidFieldError(
            "Give images or texts, not both.",
            errors=[{"pointer": "/texts", "detail": "images are given as well"}],
        )
    pipeline.checks.count(len(request.images) or len(request.texts))
    image, text = towers(pipeline, request.scorer)
    async with pipeline.session(request, caller) as session:
        if request.images:
            encodings = await _image_encodings(session, image, request)
        else:
            encodings = await _text_encodings(session, text, checks=pipeline.checks, texts=request.texts)
        embedded = _embedded(request.texts, encodings)
        told = await session.read_texts(partial(_read, text), [request.texts[index] for index in embedded])
    vectors = [each if isinstance(each, PlumblineError) else _unit(np.asarray(each, np.float32)) for each in encodings]
    dim = next((vector.size for vector in vectors if not isinstance(vector, PlumblineError)), 0)
    encoder = image if request.images else text
    truncated = tuple(index for index, (is_truncated, _) in zip(embedded, told, strict=True) if is_truncated)
    num_tokens = sum(num for _, num in told)
    return EmbedReply(encoder.key, dim, vectors, session.timing(), truncated=truncated, num_tokens=num_tokens)


def _read(encoder: Encoder, text: str) -> tuple[bool, int]:
    """Whether a text's end is left out, and its tokens; towers that pad texts read the padding."""
    return is_cut(encoder, text), len(encoder.preprocess(text))


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Some scorers' encodings carry a scale as their length."""
    length = float(np.linalg.norm(vector))
    return vector if abs(length - 1) < _ROUNDING or length == 0 else vector / np.float32(length)


def towers(pipeline: Pipeline, name: str | None) -> tuple[Encoder, Encoder]:
    """A scorer's two towers into one space, of images and of texts; only a scorer that compares them has such.

    Args:
        pipeline: Of the process.
        name: Of the scorer; None: the first that has them.

    Raises:
        UnknownScorerError: It has none, or is not loaded.
    """
    named: Sequence[Scorer] = [pipeline.checks.scorer(name, "/scorer")] if name else list(pipeline.scorers.values())
    for scorer in named:
        if scorer.image is not None and scorer.text is not None:
            return scorer.image, scorer.text
    raise UnknownScorerError(
        f"{name or 'No loaded scorer'} has {'no ' if name else ''}encoders of images and texts into one space.",
        errors=[{"pointer": "/scorer", "detail": "has no such encoders"}] if name else [],
    )


def image_encoders(pipeline: Pipeline) -> Mapping[str, Encoder]:
    """The loaded encoders of images, by key."""
    return {each.image.key: each.image for each in pipeline.scorers.values() if each.image is not None}


async def truncated_texts(
    session: RequestSession, encoder: Encoder, *, texts: Sequence[str], encodings: Sequence[EncodingOrError]
) -> list[int]:
    """Which of the embedded texts have an end that the encoder did not read, by index.

    Args:
        session: The request's.
        encoder: Of the texts.
        texts: In order.
        encodings: Of each, or why it has none.
    """
    embedded = _embedded(texts, encodings)
    found = await session.read_texts(partial(is_cut, encoder), [texts[index] for index in embedded])
    return [index for index, is_truncated in zip(embedded, found, strict=True) if is_truncated]


def _embedded(texts: Sequence[str], encodings: Sequence[EncodingOrError]) -> list[int]:
    return [index for index in range(len(texts)) if not isinstance(encodings[index], PlumblineError)]


async def _image_encodings(session: RequestSession, encoder: Encoder, request: EmbedRequest) -> list[EncodingOrError]:
    await session.open(request.images)
    await session.admit([(encoder, request.images)])
    encodings = await session.image_encodings(encoder, request.images)
    return [encodings[image] for image in request.images]


async def _text_encodings(
    session: RequestSession, encoder: Encoder, *, checks: Checks, texts: Sequence[str]
) -> list[EncodingOrError]:
    errors = {text: error for text in texts if (error := checks.text(text)) is not None}
    sound = [text for text in texts if text not in errors]
    await session.admit([(encoder, sound)])
    encodings = await session.text_encodings(encoder, sound)
    return [errors.get(text) or encodings[text] for text in texts]
