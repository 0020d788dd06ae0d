"""Foils: descriptions with exactly one thing changed, so that they no longer hold."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from numpy.random import Generator

from plumbline_training.descriptions import Description, Mention, holds
from plumbline_training.scenes import COLOURS, FILLS, OPPOSITES, SHAPES, Scene, Size

FoilKind: TypeAlias = Literal[
    "colour", "shape", "fill", "size", "relation", "count", "background", "binding", "addition"
]
MOST_OBJECTS = 4
ATTEMPTS = 4
OTHER_SIZE: dict[Size, Size] = {"small": "large", "large": "small"}


@dataclass(frozen=True, slots=True)
class Foil:
    """A false description and what was changed to make it so."""

    kind: FoilKind
    description: Description


def foil(kind: FoilKind, truth: Description, scene: Scene, rng: Generator) -> Foil | None:
    """Change one thing of that kind; None where the description offers nothing of the kind to change."""
    for _ in range(ATTEMPTS):
        changed = _CHANGES[kind](truth, rng)
        if changed is not None and not holds(changed, scene):
            return Foil(kind, changed)
    return None


def foils(truth: Description, scene: Scene, rng: Generator) -> Iterator[Foil]:
    """One foil of each kind that the description offers, kinds in random order."""
    for k in rng.permutation(len(KINDS)):
        found = foil(KINDS[int(k)], truth, scene, rng)
        if found is not None:
            yield found


def _with_mention(truth: Description, place: int, mention: Mention) -> Description:
    mentions = [*truth.mentions[:place], mention, *truth.mentions[place + 1 :]]
    return replace(truth, mentions=tuple(mentions))


def _any_place(truth: Description, rng: Generator) -> int:
    return int(rng.integers(len(truth.mentions)))


def _other(known: tuple[str, ...], present: str | None, rng: Generator) -> str:
    return str(rng.choice([value for value in known if value != present]))


def _colour(truth: Description, rng: Generator) -> Description | None:
    place = _any_place(truth, rng)
    old = truth.mentions[place]
    if old.colour is None:
        return None
    return _with_mention(truth, place, replace(old, colour=_other(COLOURS, old.colour, rng)))


def _shape(truth: Description, rng: Generator) -> Description | None:
    place = _any_place(truth, rng)
    old = truth.mentions[place]
    return _with_mention(truth, place, replace(old, shape=_other(SHAPES, old.shape, rng)))


def _fill(truth: Description, rng: Generator) -> Description | None:
    place = _any_place(truth, rng)
    old = truth.mentions[place]
    pattern = [fill for fill in FILLS if fill not in {"solid", old.fill}]
    return _with_mention(truth, place, replace(old, fill=pattern[int(rng.integers(len(pattern)))]))


def _size(truth: Description, rng: Generator) -> Description | None:
    place = _any_place(truth, rng)
    old = truth.mentions[place]
    if old.size is None:
        return None
    return _with_mention(truth, place, replace(old, size=OTHER_SIZE[old.size]))


def _relation(truth: Description, _: Generator) -> Description | None:
    return None if truth.relation is None else replace(truth, relation=OPPOSITES[truth.relation])


def _count(truth: Description, rng: Generator) -> Description | None:
    if truth.relation is not None or any(mention.size for mention in truth.mentions):
        return None
    place = _any_place(truth, rng)
    old = truth.mentions[place]
    counts = [count for count in range(1, MOST_OBJECTS + 1) if count != old.count]
    return _with_mention(truth, place, replace(old, count=counts[int(rng.integers(len(counts)))]))


def _background(truth: Description, rng: Generator) -> Description | None:
    if truth.background is None:
        return None
    return replace(truth, background=_other(COLOURS, truth.background, rng))


def _binding(truth: Description, rng: Generator) -> Description | None:
    if len(truth.mentions) < 2:  # noqa: PLR2004
        return None
    first, second = (int(k) for k in rng.permutation(len(truth.mentions))[:2])
    one, two = truth.mentions[first], truth.mentions[second]
    swaps = [
        (replace(one, colour=two.colour), replace(two, colour=one.colour)),
        (replace(one, shape=two.shape), replace(two, shape=one.shape)),
        (replace(one, fill=two.fill), replace(two, fill=one.fill)),
    ]
    real = [swap for swap in swaps if set(swap) != {one, two}]
    if not real or None in {one.colour, two.colour}:
        return None
    swap = real[int(rng.integers(len(real)))]
    return _with_mention(_with_mention(truth, first, swap[0]), second, swap[1])


def _addition(truth: Description, rng: Generator) -> Description | None:
    if len(truth.mentions) >= MOST_OBJECTS - 1 or truth.relation is not None:
        return None
    new = Mention(1, str(rng.choice(SHAPES)), str(rng.choice(COLOURS)))
    return replace(truth, mentions=(*truth.mentions, new))


_CHANGES: dict[FoilKind, Callable[[Description, Generator], Description | None]] = {
    "colour": _colour,
    "shape": _shape,
    "fill": _fill,
    "size": _size,
    "relation": _relation,
    "count": _count,
    "background": _background,
    "binding": _binding,
    "addition": _addition,
}
KINDS: tuple[FoilKind, ...] = tuple(_CHANGES)
WORD_KINDS: tuple[FoilKind, ...] = ("colour", "shape", "fill")
"""Where one word is wrong, and F-CLIPScore is to find it."""
