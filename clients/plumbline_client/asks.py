"""What can be asked of the service, in its REST shape, free of any transport.

An ask makes a document: the JSON body, with `Image` objects where images stand. `rest_wire` and `grpc_wire` carry
it; both bring back JSON of the same shape, which the ask reads into a class of `answers`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel

from plumbline_client.answers import (
    EmbedResponse,
    FilterResponse,
    ModelsResponse,
    RankResponse,
    ScoreResponse,
    ScorersResponse,
)
from plumbline_client.errors import UsageError
from plumbline_client.images import Image
from plumbline_client.problems import Answer

Document = dict[str, Any]
"""JSON-ready, but for `Image` objects."""
T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Item:
    """One image, one text, or both."""

    image: Image | None = None
    text: str | None = None
    id: str | None = None
    """Comes back in the result; None: the item's index, as a string."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """One condition of a filter; both bounds are inclusive, at least one is set."""

    scorer: str
    min: float | None = None
    max: float | None = None
    min_words: int | None = None
    """Fewest words of a text that the value is trusted for; an item with fewer is rejected, and `reasons` says so."""


class Ask(Generic[T]):
    """One question; `answer` is the class that its answer is read into."""

    method: ClassVar[str] = "POST"
    path: ClassVar[str]
    answer: type[T]

    def document(self) -> Document:
        """Make the request's JSON body; entries that the caller left open are left out."""
        return {}

    def read(self, body: bytes) -> T:
        """Read the answer's JSON body.

        Raises:
            ValidationError: It is none.
        """
        return self.answer.model_validate_json(body)


@dataclass(frozen=True, slots=True)
class Score(Ask[ScoreResponse]):
    """Score items in one batch."""

    path = "/v1/score"
    answer = ScoreResponse

    items: Sequence[Item]
    scorers: Sequence[str] | None = None

    def document(self) -> Document:
        """Make `scorers`, `images` and `items`."""
        chosen = {} if self.scorers is None else {"scorers": list(self.scorers)}
        return chosen | _items_document(self.items)


@dataclass(frozen=True, slots=True)
class Filter(Ask[FilterResponse]):
    """Judge items by thresholds that must all hold."""

    path = "/v1/filter"
    answer = FilterResponse

    items: Sequence[Item]
    policy: Sequence[Threshold]
    explain: bool = False

    def document(self) -> Document:
        """Make `policy`, `images`, `items` and `explain`."""
        thresholds = [_given(**{name.name: getattr(each, name.name) for name in fields(each)}) for each in self.policy]
        explained = {"explain": True} if self.explain else {}
        return {"policy": {"all": thresholds}} | explained | _items_document(self.items)


@dataclass(frozen=True, slots=True)
class Rank(Ask[RankResponse]):
    """Order images for a text, or texts for an image."""

    path = "/v1/rank"
    answer = RankResponse

    query: str | Image
    candidates: Sequence[Image] | Sequence[str]
    scorer: str | None = None
    top_k: int | None = None

    def document(self) -> Document:
        """Make `text` and `images`, or `image` and `texts`; `scorer` and `top_k`."""
        sides = ("text", "images", Image) if isinstance(self.query, str) else ("image", "texts", str)
        wanted = _all_of(self.candidates, sides[2])
        return {sides[0]: self.query, sides[1]: wanted} | _given(scorer=self.scorer, top_k=self.top_k)


@dataclass(frozen=True, slots=True)
class Embed(Ask[EmbedResponse]):
    """Embed images or texts."""

    path = "/v1/embed"
    answer = EmbedResponse

    inputs: Sequence[Image] | Sequence[str]
    scorer: str | None = None

    def document(self) -> Document:
        """Make `images` or `texts`; `scorer`; and ask REST for base64, gRPC carries bytes anyway."""
        first = next(iter(self.inputs), "")
        kind, name = (Image, "images") if isinstance(first, Image) else (str, "texts")
        wanted = _all_of(self.inputs, kind)
        return {name: wanted, "encoding": "base64"} | _given(scorer=self.scorer)


class ListScorers(Ask[ScorersResponse]):
    """List the loaded scorers."""

    method = "GET"
    path = "/v1/scorers"
    answer = ScorersResponse


class ListModels(Ask[ModelsResponse]):
    """List the loaded encoders."""

    method = "GET"
    path = "/v1/models"
    answer = ModelsResponse


class Readiness(Answer):
    """Whether the service says it is ready."""

    is_ready: bool = True


class Ready(Ask[Readiness]):
    """Ask whether everything is loaded."""

    method = "GET"
    path = "/readyz"
    answer = Readiness

    def read(self, body: bytes) -> Readiness:
        """Read nothing: the status says it all."""
        del body
        return Readiness()


def _given(**entries: Any) -> Document:
    return {key: value for key, value in entries.items() if value is not None}


def _all_of(values: Sequence[Any], kind: type) -> list[Any]:
    if isinstance(values, str) or not all(isinstance(value, kind) for value in values):
        raise UsageError(f"Every one must be a {kind.__name__}, in a list.")
    return list(values)


def _items_document(items: Sequence[Item]) -> Document:
    """Make `items`, and `images` for those that several items share."""
    shared = _shared_images(items)
    keys = {id(image): key for key, image in shared.items()}
    entries = [_given(id=item.id, image=keys.get(id(item.image), item.image), text=item.text) for item in items]
    return ({"images": shared} if shared else {}) | {"items": entries}


def _shared_images(items: Sequence[Item]) -> Mapping[str, Image]:
    seen: dict[int, tuple[Image, int]] = {}
    for item in items:
        if item.image is not None:
            image, uses = seen.get(id(item.image), (item.image, 0))
            seen[id(image)] = (image, uses + 1)
    shared = [image for image, uses in seen.values() if uses > 1]
    return {f"image-{index}": image for index, image in enumerate(shared)}
