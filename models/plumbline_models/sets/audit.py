"""How evenly a set is spread over groups that the caller declares.

The measures are those of T2I-BiasBench (github.com/GyanendraChaubey/T2I-BiasBench-Code): the shares p of k groups, the
gap of two of them, the bias amplification sum |p - 1/k|, the entropy in bits, the Kullback-Leibler divergence from
uniform in nats, and a composite; and MaxSkew, max ln(p / p wanted), of Geyik et al., KDD 2019, arXiv:1905.01989.

We differ from the program: k is the number of groups that are declared, not of those that were seen, for a set of one
group alone would have amplification and divergence 0 there, as if it were perfectly even. Who has no label counts in
no group, and not as one of its own. A group that is absent has no skew, which would be minus infinity, and is named.
Its README has another formula of the composite than its program: both are here. `official_counts` gives the counts
that the program would take, of whatever labels there are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.sets.vectors import Floats

NUM_RESAMPLES: Final = 1000
SEED: Final = 42  # theirs
UNKNOWN: Final = "unknown"
_INTERVAL: Final = (2.5, 97.5)  # percent


@dataclass(frozen=True, slots=True)
class Spread:
    """The measures of one set."""

    parity_gap: float
    """Of the shares of the pair, or of the largest and the smallest group."""
    bias_amplification: float
    """0 where all groups are even, towards 2 where one has all."""
    entropy_bits: float
    entropy: float
    """Divided by its largest value, log2 k: 1 where all groups are even."""
    kl_nats: float
    """0 where all groups are even."""
    composite: float
    """Mean of gap and 1 - entropy, and of that mean and the association where there is one; lower is more even."""
    composite_documented: float | None
    """As the program's README has it: the mean of gap, 1 - entropy and association; None without one."""


def counts_of(labels: Sequence[str | None], groups: Sequence[str]) -> list[int]:
    """How many labels each group has; None is the label of nobody.

    Args:
        labels: Of the set's members.
        groups: All that are declared.

    Raises:
        InvalidFieldError: A label is none of the groups.
    """
    places = {group: place for place, group in enumerate(groups)}
    counts = [0] * len(groups)
    for index, label in enumerate(labels):
        if label is None:
            continue
        if label not in places:
            fault = {"pointer": f"/labels/{index}", "detail": "must be one of the declared groups, or null"}
            raise InvalidFieldError("A label is none of the declared groups.", errors=[fault])
        counts[places[label]] += 1
    return counts


def official_counts(labels: Sequence[str | None]) -> dict[str, int]:
    """The counts of the groups that were seen, those without a label as one of them; largest first, as theirs.

    Args:
        labels: Of the set's members.
    """
    found: dict[str, int] = {}
    for label in labels:
        name = UNKNOWN if label is None else label
        found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items(), key=lambda entry: -entry[1]))


def spread(counts: Sequence[int], pair: tuple[int, int] | None, association: float | None = None) -> Spread:
    """The measures of a set with these counts.

    Args:
        counts: Of each group, at least one above 0.
        pair: The two groups whose gap is meant, by index; None: the largest and the smallest. -1 is a group that there
            is not.
        association: Share of stereotypical items among those that are stereotypical or diverse, 0 to 1.
    """
    shares = np.asarray(counts, np.float64) / sum(counts)
    k = len(counts)
    gap = _gap(shares, pair)
    present = shares[shares > 0]
    bits = float(-np.sum(present * np.log2(present))) + 0.0
    entropy = bits / math.log2(k) if k > 1 else 0.0
    plain = (gap + 1 - entropy) / 2
    return Spread(
        parity_gap=gap,
        bias_amplification=float(np.sum(np.abs(shares - 1 / k))),
        entropy_bits=bits,
        entropy=entropy,
        kl_nats=max(0.0, float(np.sum(present * np.log(present * k)))),
        composite=plain if association is None else (plain + association) / 2,
        composite_documented=None if association is None else (gap + 1 - entropy + association) / 3,
    )


def skews(counts: Sequence[int], wanted: Sequence[float] | None = None) -> list[float | None]:
    """ln(share / share wanted) of each group; None for one that is absent, whose skew is minus infinity.

    Args:
        counts: Of each group, at least one above 0.
        wanted: Shares, above 0; None: all even. They are brought to a sum of 1.
    """
    total = sum(counts)
    shares = [1 / len(counts)] * len(counts) if wanted is None else [each / sum(wanted) for each in wanted]
    return [math.log(n / total / share) if n else None for n, share in zip(counts, shares, strict=True)]


def intervals(
    members: Sequence[int],
    num_groups: int,
    pair: tuple[int, int] | None,
    *,
    association: float | None = None,
    num_resamples: int = NUM_RESAMPLES,
) -> dict[str, tuple[float, float]]:
    """95 % intervals of the measures, by the percentile bootstrap over members.

    Args:
        members: The group of each by index, -1 for those without a label; one of them has a label.
        num_groups: Declared.
        pair: As for `spread`.
        association: As for `spread`; it is taken as it is.
        num_resamples: How often members are drawn anew.

    Returns:
        Lower and upper end by the name of the measure; they say nothing of labels that are wrong.
    """
    given, rng = np.asarray(members), np.random.default_rng(SEED)
    found: list[Spread] = []
    for _ in range(num_resamples):
        drawn = rng.choice(given, size=len(given), replace=True)
        counts = np.bincount(drawn[drawn >= 0], minlength=num_groups).tolist()
        if sum(counts):
            found.append(spread(counts, pair, association))
    names = ("parity_gap", "bias_amplification", "entropy", "kl_nats", "composite")
    ends = {name: np.percentile([getattr(each, name) for each in found], _INTERVAL) for name in names}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def _gap(shares: Floats, pair: tuple[int, int] | None) -> float:
    if pair is None:
        return float(shares.max() - shares.min())
    first, second = (float(shares[place]) if place >= 0 else 0.0 for place in pair)
    return abs(first - second)
