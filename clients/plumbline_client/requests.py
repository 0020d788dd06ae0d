"""Requests to the service, in their REST shape, free of any transport.

A request makes a document: the JSON body, with `Image` objects where images stand. `rest_wire` and `grpc_wire` carry
it; both bring back JSON of the same shape, which the request reads into a class of `replies`.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Generic, Literal, TypeVar, cast
from urllib.parse import quote

from pydantic import BaseModel
from typing_extensions import Self

from plumbline_client.documents import Document, combine_document, fields_document, given, items_document, plain
from plumbline_client.images import Image, ImageLike, image_of
from plumbline_client.items import (
    Combinations,
    ItemLike,
    Threshold,
    combinations_of,
    images_of,
    items_of,
    policy_of,
    scorers_of,
    texts_of,
    texts_or_images_of,
)
from plumbline_client.joining import join_ranking, join_results, join_vectors
from plumbline_client.problems import Problem, ReplyModel
from plumbline_client.replies import (
    Calibration,
    CalibrationsReply,
    Deleted,
    EmbedReply,
    FilterReply,
    ModelsReply,
    RankReply,
    ScoreReply,
    ScorersReply,
    SelectReply,
)

T = TypeVar("T", bound=BaseModel)
R = TypeVar("R", ScoreReply, FilterReply)
CALIBRATIONS = "/v1/calibrations"


class Request(Generic[T]):
    """One request; `reply` is the class that its reply is read into.

    One that holds more than a service takes at a time is cut into parts; see `parts`.
    """

    method: ClassVar[str] = "POST"
    path: str
    reply: type[T]
    entries: Sequence[Any] = ()
    """Items, images or texts between which it may be cut; none where it stays whole."""
    base: Sequence[Any] = ()
    """What each part holds besides."""

    @property
    def beside(self) -> "Sequence[Request[Any]]":
        """What must be asked as well to join the replies to parts."""
        return ()

    def cut(self, start: int, stop: int) -> Self:
        """Make the part for some of the entries."""
        part = copy.copy(self)
        part.entries = self.entries[start:stop]
        return part

    def join(self, replies: Sequence[tuple[int, T]], beside: Sequence[Any]) -> T:
        """Make the reply to the whole.

        Args:
            replies: To the parts, in order, each with the index of its first entry.
            beside: To `beside`.
        """
        raise NotImplementedError

    def refused(self, problem: Problem) -> T | None:
        """Make the reply to a part of one entry that a service takes no request of; None: its whole fails with it."""
        del problem
        return None

    def document(self) -> Document:
        """Make the request's JSON body; entries that the caller left open are left out."""
        return {}

    def read(self, body: bytes) -> T:
        """Read the reply's JSON body.

        Raises:
            ValidationError: It is none.
        """
        return self.reply.model_validate_json(body)


class _OfItems(Request[R]):
    """A request of items, whose reply is one of results in their order."""

    def cut(self, start: int, stop: int) -> Self:
        """Make the part for some of the items; those without an id keep their index in the whole."""
        part, numbered = super().cut(start, stop), enumerate(self.entries[start:stop], start)
        part.entries = [item if item.id is not None else replace(item, id=str(index)) for index, item in numbered]
        return part

    def refused(self, problem: Problem) -> R | None:
        """Make the reply to an item that is too large: it fails alone."""
        failed = {"id": self.entries[0].id or "0", "status": "error", "error": problem}
        return self.reply.model_validate({"results": [failed]})

    def join(self, replies: Sequence[tuple[int, R]], beside: Sequence[Any]) -> R:
        """As `Request.join`."""
        del beside
        return join_results([reply for _, reply in replies])


class ScoreRequest(_OfItems[ScoreReply]):
    """Score items in one batch."""

    path = "/v1/score"
    reply = ScoreReply

    def __init__(
        self,
        items: Iterable[ItemLike],
        scorers: Iterable[str] | None = None,
        combine: Combinations | None = None,
        guards: Mapping[str, bool] | None = None,
    ) -> None:
        self.entries = items_of(items)
        self._scorers = scorers_of(scorers)
        self._combine = combinations_of(combine)
        self._guards = None if guards is None else dict(guards)

    def document(self) -> Document:
        """Make `scorers`, `combine`, `guards`, `images` and `items`."""
        chosen = given(scorers=self._scorers, guards=self._guards)
        return chosen | combine_document(self._combine) | items_document(self.entries)


class FilterRequest(_OfItems[FilterReply]):
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
        self.entries = items_of(items)
        self._policy = policy_of(policy)
        self._combine = combinations_of(combine)
        self._explain = explain

    def document(self) -> Document:
        """Make `policy`, `combine`, `images`, `items` and `explain`."""
        policy = {"policy": {"all": [fields_document(each) for each in self._policy]}}
        explained = {"explain": True} if self._explain else {}
        return policy | combine_document(self._combine) | explained | items_document(self.entries)


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
        query_name, entries_name = ("text", "images") if isinstance(query, str) else ("image", "texts")
        self.base = (query,) if isinstance(query, str) else (image_of(query),)
        if isinstance(query, str):
            self.entries = images_of(cast("Iterable[ImageLike]", candidates))
        else:
            self.entries = texts_of(cast("Iterable[str]", candidates))
        self._names = query_name, entries_name
        self._combine = combinations_of(combine)
        self._scorer, self._top_k = scorer, top_k

    @property
    def beside(self) -> Sequence[Request[Any]]:
        """Ask whether higher is better, where a scorer ranks; of combinations it is."""
        is_combined = self._scorer in self._combine or (self._scorer is None and len(self._combine) == 1)
        return () if is_combined else (ListScorersRequest(),)

    def join(self, replies: Sequence[tuple[int, RankReply]], beside: Sequence[Any]) -> RankReply:
        """As `Request.join`; how probable a place is among all, parts do not tell."""
        entries = beside[0].scorers if beside else ()
        directions = {entry.id: entry.higher_is_better for entry in entries}
        is_higher_better = directions.get(replies[0][1].scorer, True)
        return join_ranking(replies, higher_is_better=is_higher_better, top_k=self._top_k)

    def document(self) -> Document:
        """Make `text` and `images`, or `image` and `texts`; `scorer`, `combine` and `top_k`."""
        query = dict(zip(self._names, (self.base[0], list(self.entries)), strict=True))
        return query | given(scorer=self._scorer, top_k=self._top_k) | combine_document(self._combine)


class SelectRequest(Request[SelectReply]):
    """Choose one of N images for a text."""

    path = "/v1/select"
    reply = SelectReply

    def __init__(self, text: str, images: Iterable[ImageLike], chosen: Document, combine: Combinations | None) -> None:
        interval = chosen.pop("correlation_interval", None)
        self._text = text
        self._images = images_of(images)
        self._chosen = given(**chosen, correlation_interval=None if interval is None else list(interval))
        self._combine = combinations_of(combine)

    def document(self) -> Document:
        """Make `text`, `images`, `combine`, and what was chosen of the other fields."""
        return {"text": self._text, "images": self._images} | self._chosen | combine_document(self._combine)


class CalibrateRequest(Request[Calibration]):
    """Find a threshold from labelled scores, and keep it; gRPC does not have it."""

    path = CALIBRATIONS
    reply = Calibration

    def __init__(
        self, name: str, scorer: str | None, scores: Sequence[float], labels: Sequence[bool], chosen: Document
    ) -> None:
        combine, groups = combine_document(combinations_of(chosen.get("combine"))), chosen.get("groups")
        labelled = {"name": name, "scores": plain(scores), "labels": plain(labels)}
        options = chosen | {"combine": None, "groups": None if groups is None else plain(groups)}
        self._document = labelled | given(scorer=scorer, **options) | combine

    def document(self) -> Document:
        """Make every field that is given."""
        return self._document


class ListCalibrationsRequest(Request[CalibrationsReply]):
    """List the calibrations that are kept; gRPC does not have it."""

    method = "GET"
    path = CALIBRATIONS
    reply = CalibrationsReply


class ForgetRequest(Request[Deleted]):
    """Forget what is kept under a name; gRPC has it of reference sets alone."""

    method = "DELETE"
    reply = Deleted

    def __init__(self, kind: str, name: str) -> None:
        self.kind, self.name = kind, name
        self.path = f"{kind}/{quote(name, safe='')}"

    def document(self) -> Document:
        """Make `name`, which REST has in its path."""
        return {"name": self.name}


class EmbedRequest(Request[EmbedReply]):
    """Embed images or texts."""

    path = "/v1/embed"
    reply = EmbedReply

    def __init__(self, inputs: Iterable[ImageLike] | Iterable[str], *, scorer: str | None = None) -> None:
        self.entries = texts_or_images_of(inputs)
        self._scorer = scorer

    def join(self, replies: Sequence[tuple[int, EmbedReply]], beside: Sequence[Any]) -> EmbedReply:
        """As `Request.join`."""
        del beside
        return join_vectors(replies)

    def document(self) -> Document:
        """Make `images` or `texts`; `scorer`; and of REST, base64: gRPC carries bytes anyway."""
        name = "images" if self.entries and isinstance(self.entries[0], Image) else "texts"
        return {name: list(self.entries), "encoding": "base64"} | given(scorer=self._scorer)


class ListScorersRequest(Request[ScorersReply]):
    """List the scorers: those that are loaded, then the classifiers that the service keeps."""

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
