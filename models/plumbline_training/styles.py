"""How the training renderer draws: proportions and fills that vary from scene to scene.

A network that has seen one star only takes every other star for something else. So whatever the world leaves open
(how deep a star's notches are, how wide a diamond is, how thick an outline, what shows between stripes) is drawn anew
for each scene.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from numpy.random import Generator

Gap: TypeAlias = Literal["clear", "tint", "white"]
GAPS: tuple[Gap, ...] = ("clear", "tint", "white")
GAP_WEIGHTS = (0.7, 0.2, 0.1)
HEART_BY_CURVE = 0.5


@dataclass(frozen=True, slots=True)
class Style:
    """Proportions of shapes and fills; lengths are shares of an object's radius unless said otherwise."""

    outline: float = 0.22
    ring_hole: float = 0.52
    """Inner over outer radius."""
    stripe_period: float = 0.48
    stripe_share: float = 0.56
    """Share of a period that is painted."""
    gap: Gap = "clear"
    """What shows between stripes: the backdrop, a lighter or darker tint, or white (grey in white objects)."""
    star_notch: float = 0.42
    cross_arm: float = 0.29
    diamond_width: float = 0.64
    triangle_width: float = 1.0
    """Over that of a regular triangle."""
    square_half: float = 0.72
    has_lobed_heart: bool = False
    """Built from two discs and a corner instead of one curve."""


PLAIN = Style()


def sample_style(rng: Generator) -> Style:
    """Draw a style."""
    return Style(
        outline=float(rng.uniform(0.13, 0.26)),
        ring_hole=float(rng.uniform(0.42, 0.64)),
        stripe_period=float(rng.uniform(0.32, 0.62)),
        stripe_share=float(rng.uniform(0.42, 0.62)),
        gap=GAPS[int(rng.choice(len(GAPS), p=GAP_WEIGHTS))],
        star_notch=float(rng.uniform(0.36, 0.52)),
        cross_arm=float(rng.uniform(0.2, 0.36)),
        diamond_width=float(rng.uniform(0.55, 0.95)),
        triangle_width=float(rng.uniform(0.85, 1.12)),
        square_half=float(rng.uniform(0.66, 0.76)),
        has_lobed_heart=bool(rng.random() < HEART_BY_CURVE),
    )
