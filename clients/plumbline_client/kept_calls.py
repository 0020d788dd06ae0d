"""The methods for classifiers, references and drift, which clients over REST have, and those in this process."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from pydantic import Field
from typing_extensions import Unpack

from plumbline_client.decision_calls import AsyncDecisions, SyncDecisions
from plumbline_client.documents import Document, plain
from plumbline_client.images import ImageLike
from plumbline_client.items import images_of
from plumbline_client.options import CallOptions
from plumbline_client.problems import Problem, ReplyModel
from plumbline_client.replies import BoundTo
from plumbline_client.requests import ForgetRequest, Request

CLASSIFIERS, REFERENCES = "/v1/classifiers", "/v1/references"


class ClassifierEntry(ReplyModel):
    """One classifier."""

    name: str
    """It scores as `classifier:NAME`."""
    scorer: str
    """Whose encoders it reads."""
    classes: tuple[str, ...]
    """The scorer's value is the probability of the first."""
    num_images: int
    """That it was made from."""
    mixing: float
    """Weight of the discriminant beside the prompts; 0: the prompts alone answer as well."""
    accuracy_cv: float
    """Share of right answers on images that were left out, by folds."""
    accuracy_zero_shot: float
    """The same of the prompts alone."""
    bound_to: BoundTo
    created: str = ""
    """RFC 3339, in UTC."""


class ReferenceEntry(ReplyModel):
    """What the scores of one scorer are compared with."""

    scorer: str
    n: int
    """Scores in it; no score is kept, but how many lay where."""
    edges: tuple[float, ...]
    """Between which they were counted, a tenth of them in each part."""
    counts: tuple[int, ...]
    """One more than there are edges."""
    images: tuple[str, ...]
    """Statistics of images that it has as well; none where only values were given."""
    bound_to: BoundTo
    created: str = ""
    """RFC 3339, in UTC."""


class StatisticShift(ReplyModel):
    """How far a statistic of images is from what it was."""

    psi: float
    """Population stability index over quantiles of the reference."""
    p_value: float
    """How often windows of one law are as far apart."""


class DriftEntry(ReplyModel):
    """One scorer beside its reference."""

    psi: float | None = None
    """Population stability index over quantiles of the reference; None while fewer than 100 scores were given."""
    p_value: float | None = None
    """How often windows of one law are as far apart; fires below 0.001."""
    n: int
    """Scores in the reference."""
    m: int
    """Scores in the window that ends now, of all replicas."""
    entropy: float | None = None
    """Mean entropy of the scores in bits; None where they are no probabilities."""
    e_value: float
    """A bet against no drift, slice by slice; fires from 20 on."""
    severity: Literal["none", "low", "medium", "high", "critical"]
    """Of all signals together."""
    triggered: tuple[str, ...]
    """Those that fired."""
    images: Mapping[str, StatisticShift] = Field(default_factory=dict)
    """Of the images, by statistic; empty where the reference has none."""


class DriftReply(ReplyModel):
    """Every scorer that has a reference."""

    scorers: Mapping[str, DriftEntry]
    """By scorer; those whose reference fits what is loaded."""
    errors: Mapping[str, Problem] = Field(default_factory=dict)
    """By scorer, why its reference cannot be used."""


class ClassifiersReply(ReplyModel):
    """The classifiers that are kept."""

    classifiers: tuple[ClassifierEntry, ...]


class ReferencesReply(ReplyModel):
    """The references that are kept."""

    references: tuple[ReferenceEntry, ...]


class ClassifyRequest(Request[ClassifierEntry]):
    """Learn classes from a few images of each."""

    path = CLASSIFIERS
    reply = ClassifierEntry

    def __init__(
        self, name: str, classes: Mapping[str, Iterable[ImageLike]], prompts: Mapping[str, str], scorer: str | None
    ) -> None:
        images = {each: images_of(given) for each, given in classes.items()}
        self._document: Document = {"name": name, "classes": images, "prompts": dict(prompts)}
        self._document |= {} if scorer is None else {"scorer": scorer}

    def document(self) -> Document:
        """Make every field that is given."""
        return self._document


class ReferRequest(Request[ReferenceEntry]):
    """Keep what a scorer's scores are compared with."""

    path = REFERENCES
    reply = ReferenceEntry

    def __init__(self, scorer: str, values: Sequence[float] | None) -> None:
        chosen: Document = {"from_live": True} if values is None else {"values": plain(values)}
        self._document: Document = {"scorer": scorer} | chosen

    def document(self) -> Document:
        """Make `scorer`, and `values` or `from_live`."""
        return self._document


class ListClassifiersRequest(Request[ClassifiersReply]):
    """List the classifiers that are kept."""

    method = "GET"
    path = CLASSIFIERS
    reply = ClassifiersReply


class ListReferencesRequest(Request[ReferencesReply]):
    """List the references that are kept."""

    method = "GET"
    path = REFERENCES
    reply = ReferencesReply


class DriftRequest(Request[DriftReply]):
    """Compare the scores that are given with their references."""

    method = "GET"
    path = "/v1/drift"
    reply = DriftReply


class SyncKept(SyncDecisions):
    """A part of `Client` and of `Plumbline`."""

    def classify(
        self,
        name: str,
        classes: Mapping[str, Iterable[ImageLike]],
        prompts: Mapping[str, str],
        *,
        scorer: str | None = None,
        **options: Unpack[CallOptions],
    ) -> ClassifierEntry:
        """Learn classes from a few images of each, and keep that as a scorer `classifier:NAME`.

        Args:
            name: One of the same name is replaced.
            classes: Images by class, at least 2 of each; the scorer's value is the probability of the first.
            prompts: What a caption of each class says, by class.
            scorer: Whose encoders; None: those of the first loaded scorer with one of images and of texts.
            options: `timeout_ms`, `priority`, `deterministic`, `request_id`.
        """
        return self._send(ClassifyRequest(name, classes, prompts, scorer), options)

    def classifiers(self, **options: Unpack[CallOptions]) -> tuple[ClassifierEntry, ...]:
        """List the classifiers that are kept, by name."""
        return self._send(ListClassifiersRequest(), options).classifiers

    def delete_classifier(self, name: str, **options: Unpack[CallOptions]) -> None:
        """Forget a classifier.

        Args:
            name: Of the classifier.
            options: `timeout_ms`, `priority`, `deterministic`, `request_id`.
        """
        self._send(ForgetRequest(CLASSIFIERS, name), options)

    def refer(
        self, scorer: str, values: Sequence[float] | None = None, **options: Unpack[CallOptions]
    ) -> ReferenceEntry:
        """Keep what a scorer's scores are compared with from now on, in the place of the one before.

        Args:
            scorer: Whose scores.
            values: Of a time that was good, at least 100; None: what the service counts now, images included.
            options: `timeout_ms`, `priority`, `deterministic`, `request_id`.
        """
        return self._send(ReferRequest(scorer, values), options)

    def references(self, **options: Unpack[CallOptions]) -> tuple[ReferenceEntry, ...]:
        """List the references that are kept, by scorer."""
        return self._send(ListReferencesRequest(), options).references

    def delete_reference(self, scorer: str, **options: Unpack[CallOptions]) -> None:
        """Forget the reference of a scorer.

        Args:
            scorer: Its name.
            options: `timeout_ms`, `priority`, `deterministic`, `request_id`.
        """
        self._send(ForgetRequest(REFERENCES, scorer), options)

    def drift(self, **options: Unpack[CallOptions]) -> DriftReply:
        """Compare the scores that the service gives with their references."""
        return self._send(DriftRequest(), options)


class AsyncKept(AsyncDecisions):
    """A part of `AsyncClient` and of `AsyncPlumbline`; see `SyncKept`."""

    async def classify(
        self,
        name: str,
        classes: Mapping[str, Iterable[ImageLike]],
        prompts: Mapping[str, str],
        *,
        scorer: str | None = None,
        **options: Unpack[CallOptions],
    ) -> ClassifierEntry:
        """Learn classes from a few images of each, and keep that as a scorer; see `SyncKept.classify`."""
        return await self._send(ClassifyRequest(name, classes, prompts, scorer), options)

    async def classifiers(self, **options: Unpack[CallOptions]) -> tuple[ClassifierEntry, ...]:
        """List the classifiers that are kept, by name."""
        return (await self._send(ListClassifiersRequest(), options)).classifiers

    async def delete_classifier(self, name: str, **options: Unpack[CallOptions]) -> None:
        """Forget a classifier; see `SyncKept.delete_classifier`."""
        await self._send(ForgetRequest(CLASSIFIERS, name), options)

    async def refer(
        self, scorer: str, values: Sequence[float] | None = None, **options: Unpack[CallOptions]
    ) -> ReferenceEntry:
        """Keep what a scorer's scores are compared with; see `SyncKept.refer`."""
        return await self._send(ReferRequest(scorer, values), options)

    async def references(self, **options: Unpack[CallOptions]) -> tuple[ReferenceEntry, ...]:
        """List the references that are kept, by scorer."""
        return (await self._send(ListReferencesRequest(), options)).references

    async def delete_reference(self, scorer: str, **options: Unpack[CallOptions]) -> None:
        """Forget the reference of a scorer; see `SyncKept.delete_reference`."""
        await self._send(ForgetRequest(REFERENCES, scorer), options)

    async def drift(self, **options: Unpack[CallOptions]) -> DriftReply:
        """Compare the scores that the service gives with their references."""
        return await self._send(DriftRequest(), options)
