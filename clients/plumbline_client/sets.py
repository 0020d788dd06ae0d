"""What is asked about sets of images."""

import hashlib
import math
import sys
from array import array
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from typing_extensions import Self

from plumbline_client.documents import Document, given
from plumbline_client.errors import UsageError
from plumbline_client.images import Image, ImageLike
from plumbline_client.items import images_of, texts_of
from plumbline_client.options import CallOptions
from plumbline_client.replies import Embedding
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
NEAR_DUPLICATE = 0.98
"""Cosine from which on two images are near-duplicates, where the caller does not say."""
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


class DiversityOptions(CallOptions, total=False):
    """What can be asked of a set beside its members."""

    texts: Iterable[str] | None
    """The prompt of each member, for SCE."""
    weights: Iterable[float] | None
    """How much each member counts in the Vendi score; None: all alike."""
    orders: Iterable[float] | None
    """Of the Vendi score, 0.5 to 1000 or `math.inf`; None: 1, 2 and infinity."""
    near_duplicate: float | None
    """Least cosine of near-duplicates, by default 0.98; None: only equal members are found."""
    scorer: str | None
    """Whose encoders to use; None: the first loaded scorer's that has both."""


class DistanceOptions(CallOptions, total=False):
    """What can be asked of two sets beside their members."""

    reference: str | None
    """In place of the second set: the name of one that is kept."""
    rbf_sigma: float | None
    """Width of the Gaussian kernel; None: 0.5."""
    scorer: str | None
    """Whose encoder to use; None: that of the reference, else the first loaded scorer's that has both."""


class ReferSetOptions(CallOptions, total=False):
    """What can be chosen for a set that is kept."""

    scorer: str | None
    """Whose encoder to use; None: the first loaded scorer's that has both."""


class AuditOptions(CallOptions, total=False):
    """What can be asked of a set beside its groups."""

    members: SetLike | None
    """Images, or an `EncodingSet`; None where labels are all that is known."""
    labels: Iterable[str | None] | None
    """The group of each member, None where nobody can tell."""
    prompts: Iterable[str] | None
    """A text for each group, in place of labels: each member gets that of the nearest."""
    margin: float | None
    """By how much the best group's probability has to be above the second; None: 0.2."""
    pair: tuple[str, str] | None
    """The two groups whose gap is meant; None: the largest and the smallest."""
    wanted: Iterable[float] | None
    """The share that each group should have; None: all even."""
    association: float | None
    """Share of the stereotypical, for the composite."""
    elements: Mapping[str, Iterable[str]] | None
    """What images are asked about, by kind: explicit, implied, forbidden, markers."""
    is_official: bool
    """Whether groups are those that were seen, as T2I-BiasBench's program has it."""
    scorer: str | None
    """Whose encoders to use."""


class DiversityRequest(Request[DiversityReply]):
    """How many different images a set holds."""

    path = "/v1/sets/diversity"
    reply = DiversityReply

    def __init__(self, members: SetLike, chosen: Mapping[str, Any]) -> None:
        orders = _listed(chosen.get("orders"))
        self._members = _set_of(members)
        self._chosen = {"near_duplicate": chosen.get("near_duplicate", NEAR_DUPLICATE)} | given(
            texts=_texts(chosen.get("texts")),
            weights=_listed(chosen.get("weights"), float),
            orders=None if orders is None else ["inf" if each == math.inf else each for each in orders],
            scorer=chosen.get("scorer"),
        )

    def document(self) -> Document:
        """Make the set's members, and what was chosen."""
        return self._members.document() | self._chosen


class DistanceRequest(Request[DistanceReply]):
    """How far a set is from another, or from one that the service keeps."""

    path = "/v1/sets/distance"
    reply = DistanceReply

    def __init__(self, a: SetLike, b: SetLike | None, chosen: Mapping[str, Any]) -> None:
        self._sets = {"a": _set_of(a)} | ({} if b is None else {"b": _set_of(b)})
        self._chosen = given(**chosen)

    def document(self) -> Document:
        """Make `a`, `b` or `reference`, and what was chosen."""
        return {name: each.document() for name, each in self._sets.items()} | self._chosen


class ReferSetRequest(Request[ReferenceSetEntry]):
    """Keep a set under a name, for others to be compared with."""

    path = REFERENCE_SETS
    reply = ReferenceSetEntry

    def __init__(self, name: str, members: SetLike, chosen: Mapping[str, Any]) -> None:
        self._document = {"name": name} | _set_of(members).document() | given(**chosen)

    def document(self) -> Document:
        """Make `name`, the set's members, and `scorer`."""
        return self._document


class ListReferenceSetsRequest(Request[ReferenceSetsReply]):
    """List the sets that are kept."""

    method = "GET"
    path = REFERENCE_SETS
    reply = ReferenceSetsReply


class AuditRequest(Request[AuditReply]):
    """How evenly a set is spread over groups."""

    path = "/v1/sets/audit"
    reply = AuditReply

    def __init__(self, groups: Iterable[str], chosen: Mapping[str, Any]) -> None:
        members, elements = chosen.get("members"), chosen.get("elements")
        self._document = {} if members is None else _set_of(members).document()
        self._document |= {"groups": list(groups)} | given(
            labels=_listed(chosen.get("labels")),
            prompts=_texts(chosen.get("prompts")),
            margin=chosen.get("margin"),
            pair=_listed(chosen.get("pair")),
            wanted=_listed(chosen.get("wanted")),
            association=chosen.get("association"),
            elements=None if elements is None else {kind: list(names) for kind, names in elements.items()},
            compat="official" if chosen.get("is_official") else None,
            scorer=chosen.get("scorer"),
        )

    def document(self) -> Document:
        """Make the set's members, what they are labelled by, and what was chosen."""
        return self._document


def _listed(values: Iterable[Any] | None, kind: Callable[[Any], Any] | None = None) -> list[Any] | None:
    if values is None:
        return None
    return [each if kind is None else kind(each) for each in values]


def _texts(texts: Iterable[str] | None) -> list[str] | None:
    return None if texts is None else list(texts_of(texts))


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
