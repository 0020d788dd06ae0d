"""What an edge may ask: the service as a protocol, so that edges are tested without encoders and without Ray."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from plumbline_serve.batching import GroupState
from plumbline_serve.messages import (
    ClassifierRequest,
    EmbedReply,
    EmbedRequest,
    EncoderEntry,
    FilterReply,
    FilterRequest,
    RankReply,
    RankRequest,
    ScorerEntry,
    ScoreReply,
    ScoreRequest,
    SelectReply,
    SelectRequest,
)
from plumbline_serve.messages.decisions import Calibration, CalibrationRequest, ClassifierEntry
from plumbline_serve.messages.drift import DriftReply, ReferenceEntry, ReferenceRequest
from plumbline_serve.messages.sets import ReferenceSetEntry, ReferenceSetRequest, SetReply, SetRequest
from plumbline_serve.scheduling.request_context import ANYONE, Caller


class Service(Protocol):
    """The whole product, in this process or behind it.

    Every method may raise any `RequestError` that concerns the request as a whole, `CapacityError` and
    `DeadlineExceededError`; what concerns one item stands in its result.
    """

    async def score(self, request: ScoreRequest, caller: Caller = ANYONE) -> ScoreReply:
        """Score items in one batch.

        Args:
            request: As the caller sent it.
            caller: Who calls.
        """
        ...

    async def filter(self, request: FilterRequest, caller: Caller = ANYONE) -> FilterReply:
        """Judge items by thresholds, cheapest scorer first.

        Args:
            request: As the caller sent it.
            caller: Who calls.
        """
        ...

    async def rank(self, request: RankRequest, caller: Caller = ANYONE) -> RankReply:
        """Order images for a text or texts for an image.

        Args:
            request: As the caller sent it.
            caller: Who calls.
        """
        ...

    async def select(self, request: SelectRequest, caller: Caller = ANYONE) -> SelectReply:
        """Choose one of N images for a text.

        Args:
            request: As the caller sent it.
            caller: Who calls.
        """
        ...

    async def calibrate(self, request: CalibrationRequest, caller: Caller = ANYONE) -> Calibration:
        """Find a threshold from labelled scores, and keep it in the place of one of its name.

        Args:
            request: As the caller sent it.
            caller: Who calls.
        """
        ...

    async def calibrations(self) -> Sequence[Calibration]:
        """List the thresholds that are kept, by name."""
        ...

    async def calibration(self, name: str) -> Calibration:
        """The threshold of that name.

        Raises:
            UnknownArtefactError: There is none.
        """
        ...

    async def delete_calibration(self, name: str) -> None:
        """Forget the threshold of that name.

        Raises:
            UnknownArtefactError: There is none.
        """
        ...

    async def classify(self, request: ClassifierRequest, caller: Caller = ANYONE) -> ClassifierEntry:
        """Learn a classifier from images, and keep it in the place of one of its name.

        Args:
            request: As the caller sent it.
            caller: Who calls.
        """
        ...

    async def classifiers(self) -> Sequence[ClassifierEntry]:
        """List the classifiers that are kept, by name."""
        ...

    async def delete_classifier(self, name: str) -> None:
        """Forget the classifier of that name.

        Raises:
            UnknownArtefactError: There is none.
        """
        ...

    async def refer(self, request: ReferenceRequest, caller: Caller = ANYONE) -> ReferenceEntry:
        """Keep what a scorer's scores are compared with, in the place of the one before.

        Args:
            request: As the caller sent it.
            caller: Who calls.
        """
        ...

    async def references(self) -> Sequence[ReferenceEntry]:
        """List the references that are kept, by scorer."""
        ...

    async def delete_reference(self, scorer: str) -> None:
        """Forget the reference of that scorer.

        Raises:
            UnknownArtefactError: There is none.
        """
        ...

    async def drift(self) -> DriftReply:
        """Compare the scores that are given with their references."""
        ...

    async def embed(self, request: EmbedRequest, caller: Caller = ANYONE) -> EmbedReply:
        """Embed images or texts.

        Args:
            request: As the caller sent it.
            caller: Who calls.
        """
        ...

    async def measure(self, request: SetRequest, caller: Caller = ANYONE) -> SetReply:
        """Work out what is asked about one set of images or two.

        Args:
            request: As the caller sent it.
            caller: Who calls.
        """
        ...

    async def refer_set(self, request: ReferenceSetRequest, caller: Caller = ANYONE) -> ReferenceSetEntry:
        """Keep a set of images, in the place of one of its name, for others to be compared with.

        Args:
            request: As the caller sent it.
            caller: Who calls.
        """
        ...

    async def reference_sets(self) -> Sequence[ReferenceSetEntry]:
        """List the sets that are kept, by name."""
        ...

    async def delete_reference_set(self, name: str) -> None:
        """Forget the set of that name.

        Raises:
            UnknownArtefactError: There is none.
        """
        ...

    async def scorers(self) -> Sequence[ScorerEntry]:
        """List the loaded scorers."""
        ...

    async def named_scorers(self) -> Sequence[ScorerEntry]:
        """List what a request may name as a scorer: those that are loaded, then the classifiers that are kept.

        Classifiers of other weights than those that are loaded are left out, and all where the store cannot be read.
        """
        ...

    async def encoders(self) -> Sequence[EncoderEntry]:
        """List the loaded encoders."""
        ...

    async def metrics(self) -> bytes:
        """Prometheus text exposition of the whole application, all replicas."""
        ...

    @property
    def is_ready(self) -> bool:
        """Every configured encoder is loaded, compiled and warmed, and does its work; the service is not draining."""
        ...

    @property
    def groups(self) -> Mapping[str, GroupState]:
        """How each group of encoders is, by name; empty where there are none beside this process."""
        ...
