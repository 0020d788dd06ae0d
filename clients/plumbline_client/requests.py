"""Requests to the service, in their REST shape, free of any transport.

A request makes a document: the JSON body, with `Image` objects where images stand. `rest_wire` and `grpc_wire` carry
it; both bring back JSON of the same shape, which the request reads into a class of `replies`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar, Generic, Literal, TypeVar, cast

from pydantic import BaseModel

from plumbline_client.images import Image, ImageLike, image_of
from plumbline_client.items import (
    Combination,
    Combinations,
    Item,
    ItemLike,
    Question,
    Threshold,
    combinations_of,
    images_of,
    items_of,
    policy_of,
    scorers_of,
    texts_of,
    texts_or_images_of,
)
from plumbline_client.options import Priority
from plumbline_client.problems import ReplyModel
from plumbline_client.replies import (
    EmbedReply,
    FilterReply,
    ModelsReply,
    RankReply,
    ScoreReply,
    ScorersReply,
)

Document = dict[str, Any]
"""JSON-ready, but for `Image` objects."""
T = TypeVar("T", bound=BaseModel)


class Request(Generic[T]):
    """One request; `reply` is the class that its reply is read into."""

    method: ClassVar[str] = "POST"
    path: ClassVar[str]
    reply: type[T]

    def document(self) -> Document:
        """Make the request's JSON body; entries that the caller left open are left out."""
        return {}

    def read(self, body: bytes) -> T:
        """Read the reply's JSON body.

        Raises:
            ValidationError: It is none.
        """
        return self.reply.model_validate_json(body)


class ScoreRequest(Request[ScoreReply]):
    """Score items in one batch."""

    path = "/v1/score"
    reply = ScoreReply

    def __init__(
        self, items: Iterable[ItemLike], scorers: Iterable[str] | None = None, combine: Combinations | None = None
    ) -> None:
        self._items = items_of(items)
        self._scorers = scorers_of(scorers)
        self._combine = combinations_of(combine)

    def document(self) -> Document:
        """Make `scorers`, `combine`, `images` and `items`."""
        return _given(scorers=self._scorers) | _combine_document(self._combine) | _items_document(self._items)


class FilterRequest(Request[FilterReply]):
    """Judge items by thresholds that must all hold."""

    path = "/v1/filter"
    reply = FilterReply

    def __init__(
        self,
        items: Iterable[ItemLike],
        policy: Iterable[Threshold],
        *,
        combine: Combinations | None = None,
        explain: bool = False,
    ) -> None:
        self._items = items_of(items)
        self._policy = policy_of(policy)
        self._combine = combinations_of(combine)
        self._explain = explain

    def document(self) -> Document:
        """Make `policy`, `combine`, `images`, `items` and `explain`."""
        policy = {"policy": {"all": [_fields_document(each) for each in self._policy]}}
        explained = {"explain": True} if self._explain else {}
        return policy | _combine_document(self._combine) | explained | _items_document(self._items)


class RankRequest(Request[RankReply]):
    """Order images for a text, or texts for an image."""

    path = "/v1/rank"
    reply = RankReply

    def __init__(
        self,
        query: str | ImageLike,
        candidates: Iterable[ImageLike] | Iterable[str],
        *,
        scorer: str | None = None,
        combine: Combinations | None = None,
        top_k: int | None = None,
    ) -> None:
        self._query: Document
        if isinstance(query, str):
            self._query = {"text": query, "images": images_of(cast("Iterable[ImageLike]", candidates))}
        else:
            self._query = {"image": image_of(query), "texts": texts_of(cast("Iterable[str]", candidates))}
        self._chosen = _given(scorer=scorer, top_k=top_k) | _combine_document(combinations_of(combine))

    def document(self) -> Document:
        """Make `text` and `images`, or `image` and `texts`; `scorer`, `combine` and `top_k`."""
        return self._query | self._chosen


class EmbedRequest(Request[EmbedReply]):
    """Embed images or texts."""

    path = "/v1/embed"
    reply = EmbedReply

    def __init__(self, inputs: Iterable[ImageLike] | Iterable[str], *, scorer: str | None = None) -> None:
        self._inputs = texts_or_images_of(inputs)
        self._scorer = scorer

    def document(self) -> Document:
        """Make `images` or `texts`; `scorer`; and of REST, base64: gRPC carries bytes anyway."""
        name = "images" if self._inputs and isinstance(self._inputs[0], Image) else "texts"
        return {name: self._inputs, "encoding": "base64"} | _given(scorer=self._scorer)


class ListScorersRequest(Request[ScorersReply]):
    """List the loaded scorers."""

    method = "GET"
    path = "/v1/scorers"
    reply = ScorersReply


class ListModelsRequest(Request[ModelsReply]):
    """List the loaded encoders."""

    method = "GET"
    path = "/v1/models"
    reply = ModelsReply


class Readiness(ReplyModel):
    """Whether the service says it is ready: anybody may answer 200, so the word is looked for."""

    status: Literal["ready", "not_ready"]

    @property
    def is_ready(self) -> bool:
        """Whether everything is loaded."""
        return self.status == "ready"


class ReadinessRequest(Request[Readiness]):
    """Ask whether everything is loaded."""

    method = "GET"
    path = "/readyz"
    reply = Readiness


def claims_document(timeout_ms: float | None, priority: Priority) -> Document:
    """Make what every request may say of itself; what is as by default is left out: older services do not know it.

    Args:
        timeout_ms: When an answer is of no use any more; None: never.
        priority: How urgent it is.
    """
    return _given(timeout_ms=timeout_ms, priority=None if priority == "normal" else priority)


def _given(**entries: Any) -> Document:
    return {key: value for key, value in entries.items() if value is not None}


def _combine_document(combine: Mapping[str, Combination]) -> Document:
    """Make `combine`; none where there is none: older services do not know it."""
    documents = {
        name: {"method": each.method, "terms": [_fields_document(term) for term in each.terms]}
        for name, each in combine.items()
    }
    return {"combine": documents} if documents else {}


def _fields_document(given: Any) -> Document:
    """Make an object of a dataclass, without what is None."""
    return _given(**{each.name: getattr(given, each.name) for each in fields(given)})


def _items_document(items: Sequence[Item]) -> Document:
    """Make `items`, and `images` for those that several items share."""
    shared = _shared_images(items)
    keys = {id(image): key for key, image in shared.items()}
    entries = [
        _given(
            id=item.id,
            image=keys.get(id(item.image), item.image),
            text=item.text,
            references=list(item.references) or None,
            reference_image=keys.get(id(item.reference_image), item.reference_image),
            phrases=list(item.phrases) or None,
            questions=[_question(each) for each in item.questions] or None,
        )
        for item in items
    ]
    return ({"images": shared} if shared else {}) | {"items": entries}


def _question(question: Question) -> Document:
    expected = None if question.expect == "yes" else question.expect
    parents = list(question.depends_on) or None
    return {"text": question.text} | _given(expect=expected, tag=question.tag, depends_on=parents)


def _shared_images(items: Sequence[Item]) -> Mapping[str, Image]:
    seen: dict[int, tuple[Image, int]] = {}
    for named in (image for item in items for image in (item.image, item.reference_image)):
        if named is not None:
            image, uses = seen.get(id(named), (named, 0))
            seen[id(image)] = (image, uses + 1)
    shared = [image for image, uses in seen.values() if uses > 1]
    return {f"image-{index}": image for index, image in enumerate(shared)}
