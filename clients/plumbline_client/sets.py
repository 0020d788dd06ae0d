"""What is asked about sets of images."""

import hashlib
import math
import sys
from array import array
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import quote

from typing_extensions import Self

from plumbline_client.documents import Document, given
from plumbline_client.errors import UsageError
from plumbline_client.images import Image, ImageLike
from plumbline_client.items import images_of, texts_of
from plumbline_client.replies import Deleted, Embedding
from plumbline_client.requests import Request
from plumbline_client.set_replies import (
    AuditReply,
    DistanceReply,
    DiversityReply,
    ReferenceSetEntry,
    ReferenceSetsReply,
)

Vector: TypeAlias = Embedding | Iterable[float]
"""An encoding: of `embed`, or any numbers, which are sent as float32."""
REFERENCE_SETS = "/v1/sets/references"
_DIGEST_CHARS = 64


@dataclass(frozen=True, slots=True)
class EncodingSet:
    """A set of images; made by one of the class methods. A list of images stands for `EncodingSet.images` of it."""

    form: str
    members: Sequence[Any]
    encoder: str | None = None

    @classmethod
    def images(cls, images: Iterable[ImageLike]) -> Self:
        """Take images, which the service encodes."""
        return cls("images", images_of(images))

    @classmethod
    def embeddings(cls, vectors: Iterable[Vector], *, encoder: str | None = None) -> Self:
        """Take encodings of one length, of any length.

        Args:
            vectors: Of `embed`, or numbers.
            encoder: What made them: sets of encoders with two names are not compared.

        Raises:
            ProblemError: One of `embed` is an error.
        """
        return cls("embeddings", [_base64(each) for each in vectors], encoder)

    @classmethod
    def seen(cls, images: Iterable[Image | str]) -> Self:
        """Name images that the service has encoded before, and may keep: by their files, or by the files' SHA-256.

        Raises:
            UsageError: One is no file and no SHA-256 in hex.
        """
        return cls("hashes", [_sha256(each) for each in images])

    def document(self) -> Document:
        """Make its JSON."""
        return {self.form: list(self.members)} | given(encoder=self.encoder)


SetLike: TypeAlias = EncodingSet | Iterable[ImageLike]
"""A set, or its images."""


class DiversityRequest(Request[DiversityReply]):
    """How many different images a set holds."""

    path = "/v1/sets/diversity"
    reply = DiversityReply

    def __init__(
        self,
        members: SetLike,
        *,
        texts: Iterable[str] | None = None,
        weights: Iterable[float] | None = None,
        orders: Iterable[float] | None = None,
        near_duplicate: float | None = 0.98,
        scorer: str | None = None,
    ) -> None:
        self._members = _set_of(members)
        self._chosen = {"near_duplicate": near_duplicate} | given(
            texts=None if texts is None else texts_of(texts),
            weights=None if weights is None else [float(each) for each in weights],
            orders=None if orders is None else ["inf" if each == math.inf else each for each in orders],
            scorer=scorer,
        )

    def document(self) -> Document:
        """Make the set's members, and what was chosen."""
        return self._members.document() | self._chosen


class DistanceRequest(Request[DistanceReply]):
    """How far a set is from another, or from one that the service keeps."""

    path = "/v1/sets/distance"
    reply = DistanceReply

    def __init__(
        self,
        a: SetLike,
        b: SetLike | None = None,
        *,
        reference: str | None = None,
        rbf_sigma: float | None = None,
        scorer: str | None = None,
    ) -> None:
        self._sets = {"a": _set_of(a)} | ({} if b is None else {"b": _set_of(b)})
        self._chosen = given(reference=reference, rbf_sigma=rbf_sigma, scorer=scorer)

    def document(self) -> Document:
        """Make `a`, `b` or `reference`, and what was chosen."""
        return {name: each.document() for name, each in self._sets.items()} | self._chosen


class ReferSetRequest(Request[ReferenceSetEntry]):
    """Keep a set under a name, for others to be compared with."""

    path = REFERENCE_SETS
    reply = ReferenceSetEntry

    def __init__(self, name: str, members: SetLike, *, scorer: str | None = None) -> None:
        self._document = {"name": name} | _set_of(members).document() | given(scorer=scorer)

    def document(self) -> Document:
        """Make `name`, the set's members, and `scorer`."""
        return self._document


class ListReferenceSetsRequest(Request[ReferenceSetsReply]):
    """List the sets that are kept."""

    method = "GET"
    path = REFERENCE_SETS
    reply = ReferenceSetsReply


class DeleteReferenceSetRequest(Request[Deleted]):
    """Forget a set."""

    method = "DELETE"
    reply = Deleted

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = f"{REFERENCE_SETS}/{quote(name, safe='')}"


class AuditRequest(Request[AuditReply]):
    """How evenly a set is spread over groups."""

    path = "/v1/sets/audit"
    reply = AuditReply

    def __init__(
        self,
        groups: Iterable[str],
        *,
        members: SetLike | None = None,
        labels: Iterable[str | None] | None = None,
        prompts: Iterable[str] | None = None,
        **chosen: Any,
    ) -> None:
        self._document = {} if members is None else _set_of(members).document()
        self._document |= {"groups": list(groups)} | given(
            labels=None if labels is None else list(labels),
            prompts=None if prompts is None else texts_of(prompts),
            **chosen,
        )

    def document(self) -> Document:
        """Make the set's members, what they are labelled by, and what was chosen."""
        return self._document


def _set_of(members: SetLike) -> EncodingSet:
    return members if isinstance(members, EncodingSet) else EncodingSet.images(members)


def _base64(vector: Vector) -> str:
    if isinstance(vector, Embedding):
        numbers = vector.floats()
    else:
        try:
            numbers = array("f", vector)
        except (TypeError, OverflowError) as error:
            raise UsageError(f"An encoding is made of numbers that float32 can hold: {error}.") from error
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return b64encode(numbers.tobytes()).decode()


def _sha256(image: Image | str) -> str:
    if isinstance(image, str):
        if len(image) != _DIGEST_CHARS:
            raise UsageError("An image seen before is named by the SHA-256 of its file, 64 letters of hex.")
        return image
    if not isinstance(image, Image) or image.content is None or image.shape is not None:
        raise UsageError(
            "Only an image file has a SHA-256 that the service knows it by; pixels and addresses have none."
        )
    return hashlib.sha256(image.content).hexdigest()
