"""Groups of the same picture: equal by content, or with a cosine near 1; groups that share a member are one.

A group is a connected component, so it does not depend on the order of the set; two of its members may be less alike
than the threshold, with others between them.
"""

from collections.abc import Hashable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from plumbline_models.sets.vectors import ROWS_AT_A_TIME, Matrix, StillWanted, always_wanted

_ROUNDING: Final = 1e-9
"""A cosine that falls short of the threshold by no more has reached it: that of a vector with itself may be below 1."""


def groups(
    unit: Matrix,
    contents: Sequence[Hashable],
    *,
    threshold: float | None,
    still_wanted: StillWanted = always_wanted,
) -> list[list[int]]:
    """Groups of two or more that are equal or nearly so.

    Args:
        unit: `[N, D]` of unit length.
        contents: What each was made of: equal ones belong together whatever their cosine.
        threshold: Least cosine of a near-duplicate; None: equal content alone counts.
        still_wanted: Called between pieces of the matrix of all pairs, of which N * N bytes are held.

    Returns:
        Indices in order, the groups by their first member.
    """
    equal = _equal(contents)
    if threshold is None:
        return equal
    joined = _adjacent(unit, threshold, still_wanted)
    for first, *others in equal:
        joined[first, others] = joined[others, first] = True
    return _components(joined)


def _equal(contents: Sequence[Hashable]) -> list[list[int]]:
    members: dict[Hashable, list[int]] = {}
    for index, content in enumerate(contents):
        members.setdefault(content, []).append(index)
    return [group for group in members.values() if len(group) > 1]


def _adjacent(unit: Matrix, threshold: float, still_wanted: StillWanted) -> NDArray[np.bool_]:
    found = np.zeros((len(unit), len(unit)), np.bool_)
    for first in range(0, len(unit), ROWS_AT_A_TIME):
        still_wanted()
        part = slice(first, first + ROWS_AT_A_TIME)
        found[part, first:] = unit[part] @ unit[first:].T >= threshold - _ROUNDING
    return found | found.T


def _components(joined: NDArray[np.bool_]) -> list[list[int]]:
    """Connected components of two or more, each looked up from its first member; every member is looked at once."""
    is_left = np.ones(len(joined), np.bool_)
    found: list[list[int]] = []
    for start in range(len(joined)):
        if not is_left[start]:
            continue
        is_left[start] = False
        group = waiting = [start]
        while waiting:
            near = np.flatnonzero(np.any(joined[waiting], axis=0) & is_left)
            is_left[near] = False
            waiting = near.tolist()
            group = group + waiting
        if len(group) > 1:
            found.append(sorted(group))
    return found
