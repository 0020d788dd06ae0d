"""What a request asks of encoders: what is encoded, what it is known by, and what preprocessing it takes."""

from collections.abc import Hashable, Sequence
from itertools import chain
from typing import NamedTuple, TypeAlias

from plumbline_models.core.protocols import Embedded, Encoder, PairInput
from plumbline_serve.encoding_cache import EncodingKey, encoding_key
from plumbline_serve.messages import ImageSource
from plumbline_serve.requests.contents import file_digest
from plumbline_serve.requests.images import RequestImage
from plumbline_serve.scheduling.work import Work

LEAST_CHARS = 20
"""What every text takes beside its characters."""


class Pair(NamedTuple):
    """An image and the text that is compared with it."""

    image: ImageSource
    text: str
    template: Hashable | None = None
    """How the text is put, where the scorer says so."""


Need: TypeAlias = tuple[Encoder, Sequence[ImageSource] | Sequence[str] | Sequence[Pair]]
"""An encoder, and what it will be asked for."""
Input: TypeAlias = RequestImage | str | PairInput
"""What an encoder preprocesses."""


def work_of(encoder: Encoder, given: Input) -> Work:
    """What preprocessing asks of its pool.

    Args:
        encoder: Whose preprocessing.
        given: What is preprocessed.
    """
    if isinstance(given, RequestImage):
        return given.work(encoder)
    text = given.caption if isinstance(given, PairInput) else given
    return reading_work(encoder.key, text)


def reading_work(kind: str, text: str) -> Work:
    """What reading a text takes.

    Args:
        kind: Of reading: texts of a kind take time by their length.
        text: It.
    """
    return Work(kind, len(text) + LEAST_CHARS)


def scoring_work(scorer: str, batch: Embedded) -> Work:
    """What scoring takes.

    Args:
        scorer: The name of one: its cases take time by the length of their texts, which it may read once more.
        batch: Its cases.
    """
    texts = [*(batch.texts or ()), *chain(*(batch.reference_texts or ())), *chain(*(batch.phrase_texts or ()))]
    texts += [question.text for question in chain(*(batch.questions or ()))]
    return Work(scorer, sum(map(len, texts)) + LEAST_CHARS * (len(batch.texts or ()) + 1))


def key_of(
    encoder: Encoder,
    image: RequestImage | None,
    text: str | None,
    *,
    template: Hashable | None = None,
    is_alone: bool = False,
) -> EncodingKey:
    """What an encoding is known by: that of an image, of a text, or of both together.

    Args:
        encoder: Whose encoding it is.
        image: Open.
        text: Within the limits.
        template: How it is put, where the scorer says so.
        is_alone: As `EncodingKey` has it.
    """
    parts = [] if image is None else [image.digest]
    parts += [] if text is None else [text.encode("utf-8", "surrogatepass")]
    parts += [] if template is None else [repr(template).encode()]
    return encoding_key(encoder, *parts, is_alone=is_alone)


def key_of_file(encoder: Encoder, sha256: bytes, *, is_alone: bool = False) -> EncodingKey:
    """What the encoding of an image file is known by, as `key_of` has it.

    Args:
        encoder: Whose encoding it is.
        sha256: Of the file.
        is_alone: As `EncodingKey` has it.
    """
    return encoding_key(encoder, file_digest(sha256), is_alone=is_alone)
