"""What the small services of tests say about decisions: thresholds are kept in memory, and the largest image wins."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from plumbline_models.core.errors import BoundToOtherError, ImageUndecodableError, PlumblineError, UnknownArtefactError
from plumbline_serve.messages import (
    ClassifierRequest,
    EncodedImage,
    ScorerEntry,
    SelectReply,
    SelectRequest,
    Timing,
)
from plumbline_serve.messages.decisions import BoundTo, Calibration, CalibrationRequest, ClassifierEntry, GroupThreshold
from plumbline_serve.messages.drift import DriftEntry, DriftReply, ReferenceEntry, ReferenceRequest, StatisticShift
from plumbline_serve.messages.sets import ReferenceSetEntry, ReferenceSetRequest
from plumbline_serve.scheduling.request_context import ANYONE, Caller

THIRD = 1 / 3  # has no short decimal form


class SmallDecisions(ABC):
    """Answers by simple rules."""

    def __init__(self) -> None:
        self.kept: dict[str, Calibration] = {}
        self.calibrated: list[CalibrationRequest] = []
        self.selected: list[SelectRequest] = []
        self.learnt: dict[str, ClassifierEntry] = {}
        self.referred: dict[str, ReferenceEntry] = {}
        self.sets: dict[str, ReferenceSetEntry] = {}

    async def select(self, request: SelectRequest, caller: Caller = ANYONE) -> SelectReply:
        self.selected.append(request)
        values: list[float | None] = []
        errors: dict[int, PlumblineError] = {}
        for index, image in enumerate(request.images):
            values.append(len(image.data) / 3 if isinstance(image, EncodedImage) else None)
            if values[-1] is None:
                errors[index] = ImageUndecodableError("There is no image.")
        known = {index: value for index, value in enumerate(values) if value is not None}
        correlation = request.correlation
        return SelectReply(
            index=max(known, key=lambda index: known[index], default=None),
            scorer=request.scorer or "weight",
            values=values,
            certified_gain=None if correlation is None else correlation / 3,
            max_certified_n=None if correlation is None else 2,
            overoptimised=None if correlation is None else len(known) > 2,
            errors=errors,
            timing_ms=Timing(decode=0.1, queue=0.2, compute=THIRD, total=2.5),
            probabilities=[value and THIRD for value in values] if request.temperature else (),
        )

    async def calibrate(self, request: CalibrationRequest, caller: Caller = ANYONE) -> Calibration:
        self.calibrated.append(request)
        groups = {name: GroupThreshold(THIRD, 1, 1, 0.5, 0.05) for name in request.groups or ()}
        self.kept[request.name] = Calibration(
            name=request.name,
            scorer=request.scorer or next(iter(request.combine)),
            alpha=request.alpha,
            direction=request.direction,
            threshold=None,
            k=20,
            num_used=len(request.scores),
            coverage=None,
            coverage_p05=None,
            bound_to=BoundTo("00", {"scale": "2"}),
            created="2026-11-28T00:00:00.000Z",
            confidence=request.confidence,
            groups=groups,
            combine=request.combine,
            detail="Too few.",
        )
        return self.kept[request.name]

    async def calibrations(self) -> Sequence[Calibration]:
        return list(self.kept.values())

    async def calibration(self, name: str) -> Calibration:
        if name not in self.kept:
            raise UnknownArtefactError("There is no such calibration.")
        return self.kept[name]

    async def delete_calibration(self, name: str) -> None:
        await self.calibration(name)
        del self.kept[name]

    async def classify(self, request: ClassifierRequest, caller: Caller = ANYONE) -> ClassifierEntry:
        num_images = sum(map(len, request.classes.values()))
        self.learnt[request.name] = ClassifierEntry(
            name=request.name,
            scorer=request.scorer or "weight",
            classes=list(request.classes),
            num_images=num_images,
            mixing=0.1,
            accuracy_cv=THIRD,
            accuracy_zero_shot=0.25,
            bound_to=BoundTo("00", {"scale": "2"}),
            created="2026-11-28T00:00:00.000Z",
        )
        return self.learnt[request.name]

    async def classifiers(self) -> Sequence[ClassifierEntry]:
        return list(self.learnt.values())

    async def named_scorers(self) -> Sequence[ScorerEntry]:
        loaded = await self.scorers()
        return [*loaded, *(replace(loaded[0], id=f"classifier:{name}") for name in self.learnt)]

    @abstractmethod
    async def scorers(self) -> Sequence[ScorerEntry]: ...

    async def delete_classifier(self, name: str) -> None:
        if self.learnt.pop(name, None) is None:
            raise UnknownArtefactError("There is no such classifier.")

    async def refer(self, request: ReferenceRequest, caller: Caller = ANYONE) -> ReferenceEntry:
        num = len(request.values or ())
        bound_to, created = BoundTo("00", {"scale": "2"}), "2026-11-28T00:00:00.000Z"
        images = ["brightness"] if request.from_live else []
        self.referred[request.scorer] = ReferenceEntry(
            request.scorer, num, [THIRD], [num, 0], images, bound_to, created
        )
        return self.referred[request.scorer]

    async def references(self) -> Sequence[ReferenceEntry]:
        return list(self.referred.values())

    async def delete_reference(self, scorer: str) -> None:
        if self.referred.pop(scorer, None) is None:
            raise UnknownArtefactError("There is no such reference.")

    async def refer_set(self, request: ReferenceSetRequest, caller: Caller = ANYONE) -> ReferenceSetEntry:
        bound_to, created = BoundTo("00", {"images.alpha": "white"}), "2026-11-28T00:00:00.000Z"
        entry = ReferenceSetEntry(request.name, request.encoder or "mini", request.num_members, 2, bound_to, created)
        self.sets[request.name] = entry
        return entry

    async def reference_sets(self) -> Sequence[ReferenceSetEntry]:
        return list(self.sets.values())

    async def delete_reference_set(self, name: str) -> None:
        if self.sets.pop(name, None) is None:
            raise UnknownArtefactError("There is no such reference set.")

    async def drift(self) -> DriftReply:
        images = {"edges": StatisticShift(0.5, THIRD)}
        entry = DriftEntry(THIRD, 1e-9, 100, 200, None, 1.5, "high", ["score"], images)
        few = DriftEntry(None, None, 100, 7, None, 1.0, "none", [], {})
        refused = {"gone": BoundToOtherError("The reference gone was made with other weights.")}
        return DriftReply({"weight": entry, "few": few}, refused)
