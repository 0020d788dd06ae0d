"""The images of a request as members of a set, from the encodings that its scorers made: nothing is encoded twice."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plumbline_models.core.errors import InvalidFieldError, PlumblineError
from plumbline_models.sets.video import pooled
from plumbline_serve.messages import ImageSource
from plumbline_serve.requests.embedding import towers
from plumbline_serve.requests.images import RequestImage
from plumbline_serve.requests.pipeline import Pipeline
from plumbline_serve.requests.session import RequestSession
from plumbline_serve.requests.validation import Case
from plumbline_serve.scheduling.concurrency import together

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SetMember:
    """One image, or a video by the mean of its frames, as sets are measured by."""

    image: Vector
    """`[D]`, of any length."""
    text: Vector | None
    """`[T]`: that of its prompt; None: it has none."""
    content: bytes
    """A digest of its files: equal ones have equal content."""


class MembersLook:
    """Has the session of a request give its cases as members, once they are scored; a `GuardLook` that flags nothing.

    `members` holds one for each case afterwards; None where its images could not be encoded.
    """

    def __init__(self) -> None:
        self.members: list[SetMember | None] = []

    async def __call__(self, pipeline: Pipeline, session: RequestSession, cases: Sequence[Case]) -> list[None]:
        """Take what was encoded; what no scorer of a case had encoded is encoded now."""
        image, text = towers(pipeline, None)
        sound = [case for case in cases if case.error is None]
        images = [source for case in sound for source in _sources(case)]
        await session.open(images)
        texts = list(dict.fromkeys(case.text for case in sound if case.text is not None))
        found: list[Mapping[Any, Any]] = await together(
            [session.image_encodings(image, images), session.text_encodings(text, texts)]
        )
        self.members = [None if case.error else _member(session, case, *found) for case in cases]
        return [None] * len(cases)


def member_of(images: Sequence[Vector], text: Vector | None, contents: Sequence[bytes]) -> SetMember | None:
    """A member of the encodings of one image, or of a video's frames; None where frames have no common direction.

    Args:
        images: One or more.
        text: Of its prompt.
        contents: A digest of each file.
    """
    content = contents[0] if len(contents) == 1 else hashlib.sha256(b"".join(contents)).digest()
    try:
        vector = images[0] if len(images) == 1 else pooled(images).astype(np.float32)
    except InvalidFieldError:
        return None
    return SetMember(vector, text, content)


def _member(
    session: RequestSession, case: Case, of_images: Mapping[Any, Any], of_texts: Mapping[Any, Any]
) -> SetMember | None:
    sources = _sources(case)
    opened = [session.opened(source) for source in sources]
    contents = [each.digest for each in opened if isinstance(each, RequestImage)]
    encodings = [of_images[source] for source in sources]
    text = None if case.text is None else of_texts[case.text]
    if not sources or any(isinstance(each, PlumblineError) for each in (*opened, *encodings, text)):
        return None
    vectors = [np.asarray(each, np.float32) for each in encodings]
    return member_of(vectors, None if text is None else np.asarray(text, np.float32), contents)


def _sources(case: Case) -> list[ImageSource]:
    return [each.image for each in case.by_frame() if each.image is not None]
