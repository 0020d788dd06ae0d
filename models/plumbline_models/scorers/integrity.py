"""Integrity: is this a picture at all, or what a generator or a pipeline gives when it breaks.

No paper: thresholds on pixel statistics, calibrated on whole and broken pictures (docs/integrity.md). It reads decoded
pixels and needs no network, so that it comes first in `/v1/filter`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict

from plumbline_models.core.errors import MissingImageError, PlumblineError
from plumbline_models.core.protocols import BuildContext, Embedded, Encoder, Score, ScorerInfo
from plumbline_models.core.sections import parse_section
from plumbline_models.networks.integrity import Faults, IntegrityEncoder

THRESHOLD: Final = 0.5  # of the evidence for a fault


class IntegritySection(BaseModel):
    """The section `integrity` of the configuration: it has no fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Integrity:
    """One minus the strongest evidence for a fault.

    Args:
        image: Looks at images.
    """

    info: ClassVar[ScorerInfo] = ScorerInfo(
        name="integrity",
        summary="Is this a picture at all: not blank, noise, tiled, letterboxed or cut off. Below 0.5 it is not.",
        needs=frozenset({"image"}),
        low=0.0,
        high=1.0,
        higher_is_better=True,
        source="",
    )
    relative_cost: float = 0.0

    def __init__(self, image: Encoder) -> None:
        self.image: Encoder = image
        self.text: Encoder | None = None
        self.pair: Encoder | None = None
        self.conventions: Mapping[str, str] = {"value": "1 - largest evidence for a fault", "threshold": f"{THRESHOLD}"}

    @classmethod
    def build(cls, options: Mapping[str, Any], context: BuildContext) -> Self:
        """Make the scorer from its section of the configuration, which is empty.

        Args:
            options: The section, not validated yet.
            context: What scorers are built with; encoders are shared through it.

        Raises:
            ConfigError: The section is not empty.
        """
        parse_section(IntegritySection, options, scorer=cls.info.name)
        return cls(context.registry.take(IntegrityEncoder()))

    def score(self, batch: Embedded) -> Sequence[Score | PlumblineError]:
        """Score each image.

        Args:
            batch: `images` holds the evidence of each.

        Returns:
            Values in [0, 1], below 0.5 for a broken picture; `reasons` names its faults, the surest first.

        Raises:
            MissingImageError: The batch has no images.
        """
        if batch.images is None:
            raise MissingImageError("integrity needs an image.", scorer=self.info.name)
        return [_score(faults) for faults in batch.images]


def _score(faults: Faults) -> Score:
    surest_first = sorted(faults, key=lambda fault: -faults[fault])
    reasons = [fault for fault in surest_first if faults[fault] >= THRESHOLD]
    return Score(value=1 - max(faults.values()), details={"reasons": reasons})
