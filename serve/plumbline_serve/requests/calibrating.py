"""Thresholds that are found from labelled scores, kept by name, and used in a filter's conditions."""

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from plumbline_models.core.errors import InvalidFieldError, NoThresholdError, PlumblineError, UnknownArtefactError
from plumbline_models.decisions.conformal import Direction, calibrate_with_groups
from plumbline_models.decisions.conformal import Threshold as Found
from plumbline_serve.messages import Combination, FilterRequest, Term, Threshold
from plumbline_serve.messages.decisions import Calibration, CalibrationRequest, GroupThreshold
from plumbline_serve.requests.binding import Bindings, bound_to_of
from plumbline_serve.requests.combining import Judge, combinations
from plumbline_serve.requests.pipeline import Pipeline
from plumbline_serve.scheduling.request_context import ANYONE, Caller
from plumbline_serve.store import Artefact, Store

MAX_GROUPS: Final = 1000


@dataclass(frozen=True, slots=True)
class Cut:
    """A calibration as a condition holds values against it."""

    calibration: Calibration
    higher_is_better: bool
    decimals: int | None = None
    """Of the scores that it was made of, as callers were shown them, and of values held against it; None: all."""

    def fault(self, group: str | None) -> PlumblineError | None:
        """Why an item of that group cannot be judged; None if it can.

        Args:
            group: As the item has it; None: that of all labels is meant.
        """
        known, name = self.calibration, self.calibration.name
        if group is None or not known.groups:
            return _no_threshold(name, known.detail) if known.threshold is None else None
        if group not in known.groups:
            return InvalidFieldError(f"The calibration {name} has no group {group[:64]!r}.", calibration=name)
        found = known.groups[group]
        return _no_threshold(f"{name} of {group[:64]!r}", found.detail) if found.threshold is None else None

    def keeps(self, value: float, group: str | None) -> bool:
        """Whether a value is on the better side, for an item that can be judged.

        Args:
            value: The scorer's.
            group: As for `fault`.
        """
        known = self.calibration
        threshold = known.threshold if group is None or not known.groups else known.groups[group].threshold
        if threshold is None:
            return False
        sign = 1.0 if self.higher_is_better else -1.0
        if known.direction == "keep_good":
            return sign * self._shown(value) >= sign * self._shown(threshold)
        last_rejected = math.nextafter(threshold, -sign * math.inf)
        return sign * self._shown(value) > sign * self._shown(last_rejected)

    def _shown(self, value: float) -> float:
        return float(value) if self.decimals is None else round(float(value), self.decimals)


class Calibrations:
    """The thresholds that are kept.

    Args:
        store: Where.
        bindings: Say what they hold for.
        decimals: Of the scores that callers are shown, and give back with labels; None: all.
    """

    def __init__(self, store: Store, bindings: Bindings, *, decimals: int | None = None) -> None:
        self._store = store
        self._bindings = bindings
        self._decimals = decimals

    async def make(self, pipeline: Pipeline, request: CalibrationRequest, caller: Caller = ANYONE) -> Calibration:
        """Find a threshold and keep it, in the place of one of its name; raises as `Service.calibrate` does.

        Args:
            pipeline: Of the process.
            request: As the caller sent it.
            caller: Who calls.
        """
        judge = _judge(pipeline, request)
        if len(set(request.groups or ())) > MAX_GROUPS:
            fault = {"pointer": "/groups", "detail": f"must name at most {MAX_GROUPS} groups"}
            raise InvalidFieldError(f"The request names more than {MAX_GROUPS} groups.", errors=[fault])
        async with pipeline.session(request, caller):
            whole, groups = await asyncio.to_thread(
                calibrate_with_groups,
                request.scores,
                request.labels,
                request.groups,
                alpha=request.alpha,
                direction=request.direction,
                higher_is_better=judge.higher_is_better,
                confidence=request.confidence,
            )
            bound_to = await self._bindings.of_judge(pipeline, judge)
            document = {**_document(request, whole, groups), "decimals": self._decimals}
            artefact = Artefact("calibration", request.name, bound_to, document)
            await self._store.put(artefact)
        return _calibration(artefact)

    async def entries(self) -> list[Calibration]:
        """All that are kept, by name."""
        return [_calibration(artefact) for artefact in await self._store.all_of("calibration")]

    async def entry(self, name: str) -> Calibration:
        """The one of a name; raises as `Store.get` does."""
        return _calibration(await self._store.get("calibration", name))

    async def delete(self, name: str) -> None:
        """Forget the one of a name; raises as `Store.delete` does."""
        await self._store.delete("calibration", name)

    async def complete(self, pipeline: Pipeline, request: FilterRequest) -> FilterRequest:
        """The request with the combinations that conditions are on and that their calibrations alone say.

        Args:
            pipeline: Of the process.
            request: As the caller sent it.

        Raises:
            UnknownArtefactError: There is no calibration that could say what a condition is on.
        """
        combine = dict(request.combine)
        for index, condition in enumerate(request.policy):
            name, calibration = condition.scorer, condition.calibration
            if calibration is None or name in combine or pipeline.checks.is_scorer(name):
                continue
            said = _calibration(await self._artefact(calibration, _pointer(index))).combine
            combine |= {each: combination for each, combination in said.items() if each == name}
        return replace(request, combine=combine)

    async def cuts(self, pipeline: Pipeline, policy: Sequence[Threshold], judges: Iterable[Judge]) -> Mapping[str, Cut]:
        """What the conditions of a policy hold values against, by the calibration's name.

        Args:
            pipeline: Of the process.
            policy: The conditions.
            judges: The scorers and combinations that they are on.

        Raises:
            UnknownArtefactError: There is no such calibration.
            BoundToOtherError: It was made with another scorer or combination, other weights or conventions.
            NoThresholdError: It has no threshold, and no groups that might have one.
        """
        found: dict[str, Cut] = {}
        known = {judge.name: judge for judge in judges}
        for index, condition in enumerate(policy):
            if (name := condition.calibration) is None:
                continue
            artefact = await self._artefact(name, _pointer(index))
            judge = known[condition.scorer]
            artefact.check_bound_to(await self._bindings.of_judge(pipeline, judge))
            cut = Cut(_calibration(artefact), judge.higher_is_better, artefact.document.get("decimals"))
            if not cut.calibration.groups and (fault := cut.fault(None)) is not None:
                raise fault
            found[name] = cut
        return found

    async def _artefact(self, name: str, pointer: str) -> Artefact:
        try:
            return await self._store.get("calibration", name)
        except UnknownArtefactError as error:
            raise UnknownArtefactError(error.detail, errors=[{"pointer": pointer, "detail": "is not kept"}]) from error


def _pointer(index: int) -> str:
    """To the calibration of a condition."""
    return f"/policy/all/{index}/calibration"


def _judge(pipeline: Pipeline, request: CalibrationRequest) -> Judge:
    """Whose scores they are: a scorer's, or those of the request's combination."""
    for judge in combinations(pipeline.checks, request.combine).values():
        return judge
    return Judge.of(pipeline.checks.scorer(request.scorer or "", "/scorer"))


def _document(request: CalibrationRequest, whole: Found, groups: Mapping[str, Found]) -> dict[str, Any]:
    """What is kept of a calibration beside its binding, as JSON."""
    return {
        "alpha": request.alpha,
        "direction": request.direction,
        "confidence": request.confidence,
        **asdict(_threshold(whole, request.direction)),
        "groups": {name: asdict(_threshold(found, request.direction)) for name, found in groups.items()},
        "combine": {name: asdict(combination) for name, combination in request.combine.items()},
    }


def _threshold(found: Found, direction: Direction) -> GroupThreshold:
    kind = "good" if direction == "keep_good" else "bad"
    lacking = f"There are {found.num_used} scores of {kind} ones; at least {found.least_n} are needed."
    detail = lacking if found.value is None else ""
    return GroupThreshold(found.value, found.k, found.num_used, found.coverage, found.coverage_p05, detail)


def _no_threshold(name: str, detail: str) -> NoThresholdError:
    return NoThresholdError(f"The calibration {name} has no threshold. {detail}")


def _calibration(artefact: Artefact) -> Calibration:
    document = {name: value for name, value in artefact.document.items() if name != "decimals"}
    groups = {name: GroupThreshold(**found) for name, found in document.pop("groups").items()}
    combine = {name: _combination(found) for name, found in document.pop("combine", {}).items()}
    return Calibration(
        name=artefact.name,
        scorer=artefact.bound_to.scorer,
        bound_to=bound_to_of(artefact),
        created=artefact.created_text,
        groups=groups,
        combine=combine,
        **document,
    )


def _combination(document: Mapping[str, Any]) -> Combination:
    return Combination(document["method"], [Term(**term) for term in document["terms"]])
