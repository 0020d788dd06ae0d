"""The members of a set as they come: images that are encoded here, encodings of the caller's, or hashes of images."""

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Self, TypeVar

import numpy as np

from plumbline_models.core.errors import (
    InvalidFieldError,
    NoItemsError,
    PlumblineError,
    TooManyItemsError,
    UnknownImageError,
)
from plumbline_models.core.protocols import Encoder
from plumbline_models.sets.vectors import MAX_SET, GivenVector, Matrix, StillWanted, unit_rows
from plumbline_serve.encoding_cache import EncodingOrError
from plumbline_serve.messages.encoding_set import EncodingSet
from plumbline_serve.requests.images import RequestImage
from plumbline_serve.requests.inputs import key_of_file
from plumbline_serve.requests.session import RequestSession
from plumbline_serve.requests.validation import Checks
from plumbline_serve.scheduling.work import Work

R = TypeVar("R")

PAIR: Final = 2
"""Members that a distribution needs."""


@dataclass(frozen=True, slots=True)
class Members:
    """What of a set can be used."""

    vectors: Sequence[GivenVector]
    """In order; of callers they are unchecked."""
    places: Sequence[int]
    """The index of each in the request."""
    contents: Sequence[Hashable] | None
    """What each is known by; None: by its vector."""
    encoder: str | None
    """What made them."""
    errors: Mapping[int, PlumblineError] = field(default_factory=dict)
    """Why others cannot be used, by index."""
    pointer: str = "/embeddings"
    """To the members, as a JSON pointer."""

    def without(self, errors: Mapping[int, PlumblineError]) -> Self:
        """The members but for those with these errors, by index in the request."""
        kept = [at for at, place in enumerate(self.places) if place not in errors]
        return replace(
            self,
            vectors=[self.vectors[at] for at in kept],
            places=[self.places[at] for at in kept],
            contents=None if self.contents is None else [self.contents[at] for at in kept],
            errors={**errors, **self.errors},
        )

    def require(self, least: int) -> None:
        """See that so many can be used.

        Raises:
            PlumblineError: What the first of the others lacks, or that there are no others.
        """
        if len(self.vectors) < least:
            raise next(iter(self.errors.values()), NoItemsError(f"The set has one member; {least} are needed."))

    def matrix(self) -> Matrix:
        """The vectors as rows of unit length; takes milliseconds for thousands. Raises as `unit_rows`."""
        return unit_rows(self.vectors, self.pointer)


def check_set(checks: Checks, given: EncodingSet, pointer: str = "") -> None:
    """Check the form and the size of a set.

    Args:
        checks: The limits.
        given: As the caller sent it.
        pointer: JSON pointer to it.

    Raises:
        InvalidFieldError: It comes in more forms than one, or in none.
        TooManyItemsError: It has more images than a request may, or more members than a set.
        NoItemsError: It has no members.
    """
    forms = [name for name in ("images", "embeddings", "hashes") if getattr(given, name)]
    if len(forms) > 1:
        faults = [{"pointer": pointer or "", "detail": "must have exactly one of images, embeddings, hashes"}]
        raise InvalidFieldError("A set comes as images, embeddings or hashes.", errors=faults)
    if given.images:
        checks.count(len(given.images))
    num = given.num_members
    if num == 0:
        raise NoItemsError("The set has no members.")
    if num > MAX_SET:
        raise TooManyItemsError(f"The set has {num} members; at most {MAX_SET} are allowed.", num_items=num)


async def members_of(session: RequestSession, encoder: Encoder, given: EncodingSet, pointer: str = "") -> Members:
    """Encode a set's images, or look up what it names.

    Args:
        session: The request's; the set's images are open.
        encoder: Of images.
        given: As the caller sent it, checked.
        pointer: JSON pointer to it.
    """
    if given.embeddings:
        places = range(len(given.embeddings))
        return Members(given.embeddings, places, None, given.encoder, pointer=f"{pointer}/embeddings")
    if given.images:
        encodings = await session.image_encodings(encoder, given.images)
        opened = [session.opened(image) for image in given.images]
        contents = [each.digest if isinstance(each, RequestImage) else None for each in opened]
        return _sound([encodings[image] for image in given.images], contents, encoder, f"{pointer}/images")
    digests = [bytes.fromhex(each) for each in given.hashes]
    return _sound(_kept(session, encoder, digests), digests, encoder, f"{pointer}/hashes")


async def computed(session: RequestSession, function: Callable[[StillWanted], R], work: Work) -> R:
    """Work out values of whole sets, off the event loop, one request at a time.

    Args:
        session: The request's.
        function: Is given what ends it between two pieces of its work once nobody waits.
        work: What it takes: `work_on`.

    Raises:
        OverloadedError: It would be done too late, or wait too long for other sets.
        DeadlineExceededError: The deadline passed before it was done.
    """
    pool = session.tools.pools.sets
    session.tools.admission.admit_to(pool, session.context, pool.cost_s(work))
    is_gone, deadline = threading.Event(), session.context.deadline

    def still_wanted() -> None:
        if is_gone.is_set() or deadline.has_passed:
            raise deadline.error("sets")

    try:
        return await pool.run(function, still_wanted, context=session.context, work=work)
    finally:
        is_gone.set()


def work_on(kind: str, *members: Members) -> Work:
    """What values of all pairs take.

    Args:
        kind: Of value.
        members: Of each set.
    """
    num = sum(len(each.vectors) for each in members)
    return Work(kind, float(num) * num + 1)


def _kept(session: RequestSession, encoder: Encoder, digests: Sequence[bytes]) -> list[EncodingOrError]:
    keys = [key_of_file(encoder, each, is_alone=session.context.is_deterministic) for each in digests]
    stored = session.tools.cache.stored(list(dict.fromkeys(keys)))
    return [_unknown() if (found := stored.get(key)) is None else found for key in keys]


def _unknown() -> UnknownImageError:
    return UnknownImageError("The encoding of the image with this hash is not kept here; send the image.")


def _sound(
    encodings: Sequence[EncodingOrError], contents: Sequence[Hashable], encoder: Encoder, pointer: str
) -> Members:
    errors = {index: each for index, each in enumerate(encodings) if isinstance(each, PlumblineError)}
    places = [index for index in range(len(encodings)) if index not in errors]
    vectors = [np.asarray(encodings[index], np.float32) for index in places]
    return Members(vectors, places, [contents[index] for index in places], encoder.key, errors, pointer)
