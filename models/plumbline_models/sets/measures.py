"""Everything that is said of one set's diversity, worked out together."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from plumbline_models.sets.diversity import eigenvalues, mean_pairwise, order_name, vendi
from plumbline_models.sets.duplicates import groups
from plumbline_models.sets.sce import Sce, sce
from plumbline_models.sets.vectors import Matrix, StillWanted, always_wanted

NEAR_DUPLICATE: Final = 0.98
"""Cosine from which on two images are near-duplicates, where the caller does not say: encoders differ in it."""
ORDERS: Final = (1.0, 2.0, math.inf)
"""Of the Vendi score, where the caller does not say."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be worked out."""

    orders: Sequence[float] = ORDERS
    near_duplicate: float | None = NEAR_DUPLICATE
    """Least cosine of near-duplicates; None: only equal ones are found."""
    weights: Sequence[float] | None = None
    """How much each member counts in the Vendi score; None: all alike."""


@dataclass(frozen=True, slots=True)
class Diversity:
    """How many different members a set has, and which are the same."""

    n: int
    """Members that the values are of."""
    vendi: Mapping[str, float]
    """Effective number of different members, by order: 1 to `n`. Not to be compared across encoders."""
    vendi_centred: Mapping[str, float]
    """The same of the spread about the mean, which does not depend on how narrow the encoder's cone is."""
    mean_pairwise: float | None
    """Mean cosine of all pairs, -1 to 1; null for a single member."""
    duplicates: Sequence[Sequence[int]]
    """Groups of equal and near-duplicate members, by index, from 0; groups that share a member are one."""
    identical: Sequence[Sequence[int]]
    """Groups of members of equal content alone: the same file, or the same embedding."""
    sce: Sce | None
    """What of the diversity is the generator's; null without `texts`."""

    def renumbered(self, numbers: Sequence[int]) -> dict[str, Any]:
        """All values by name, with groups of members by other numbers.

        Args:
            numbers: Of each member, in order.
        """
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        grouped = ("duplicates", "identical")
        return values | {name: [[numbers[at] for at in group] for group in values[name]] for name in grouped}


def diversity_of(
    unit: Matrix,
    asked: Asked,
    *,
    contents: Sequence[Hashable] | None = None,
    texts: Matrix | None = None,
    still_wanted: StillWanted = always_wanted,
) -> Diversity:
    """All of it; seconds for thousands of members.

    Args:
        unit: `[N, D]` of unit length.
        asked: What.
        contents: What each member was made of; None: its row.
        texts: `[N, T]`, the encodings of the members' prompts; None: they have none.
        still_wanted: Called between the pieces of the work.
    """
    vendis: list[dict[str, float]] = []
    for is_centred in (False, True):
        still_wanted()
        spectrum = eigenvalues(unit, asked.weights, is_centred=is_centred)
        vendis.append({order_name(order): vendi(spectrum, order) for order in asked.orders})
    known = contents or [row.tobytes() for row in unit]
    return Diversity(
        n=len(unit),
        vendi=vendis[0],
        vendi_centred=vendis[1],
        mean_pairwise=mean_pairwise(unit),
        duplicates=groups(unit, known, threshold=asked.near_duplicate, still_wanted=still_wanted),
        identical=groups(unit, known, threshold=None),
        sce=None if texts is None else sce(texts, unit, still_wanted=still_wanted),
    )
