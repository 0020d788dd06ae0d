"""What the small services of tests say about decisions: thresholds are kept in memory, and the largest image wins."""

from collections.abc import Sequence

from plumbline_models.core.errors import ImageUndecodableError, PlumblineError, UnknownArtefactError
from plumbline_serve.decision_messages import BoundTo, Calibration, CalibrationRequest, GroupThreshold
from plumbline_serve.messages import EncodedImage, SelectReply, SelectRequest, Timing
from plumbline_serve.request_context import ANYONE, Caller

THIRD = 1 / 3  # has no short decimal form


class SmallDecisions:
    """Answers by simple rules."""

    def __init__(self) -> None:
        self.kept: dict[str, Calibration] = {}
        self.calibrated: list[CalibrationRequest] = []
        self.selected: list[SelectRequest] = []

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
            scorer=request.scorer,
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
