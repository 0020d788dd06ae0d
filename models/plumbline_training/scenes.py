"""Scenes: one to four plain objects on a background, as values that any renderer can draw.

Lengths are in pixels of the scene's own canvas, angles in degrees, colours in RGB 0 to 255.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Rgb: TypeAlias = tuple[int, int, int]
Fill: TypeAlias = Literal["solid", "striped", "outlined"]
Size: TypeAlias = Literal["small", "large"]
Relation: TypeAlias = Literal["left of", "right of", "above", "below"]
BackdropKind: TypeAlias = Literal["plain", "gradient", "noise", "photo"]

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "diamond")
FILLS: tuple[Fill, ...] = ("solid", "striped", "outlined")
PALETTE: dict[str, Rgb] = {
    "red": (218, 36, 36),
    "green": (38, 160, 58),
    "blue": (40, 82, 215),
    "yellow": (245, 220, 40),
    "orange": (245, 140, 28),
    "purple": (130, 50, 170),
    "pink": (250, 150, 192),
    "brown": (122, 74, 36),
    "black": (20, 20, 22),
    "white": (246, 246, 244),
}
SHADES: dict[str, tuple[Rgb, ...]] = {
    "red": ((255, 0, 0), (196, 22, 42)),
    "green": ((0, 128, 0), (0, 190, 30), (60, 179, 90)),
    "blue": ((0, 0, 255), (30, 110, 235), (24, 44, 150)),
    "yellow": ((255, 255, 0), (250, 208, 10)),
    "orange": ((255, 165, 0), (255, 122, 0)),
    "purple": ((128, 0, 128), (146, 60, 205)),
    "pink": ((255, 192, 203), (255, 105, 180)),
    "brown": ((139, 69, 19), (150, 82, 46), (101, 60, 30)),
    "black": ((0, 0, 0),),
    "white": ((255, 255, 255),),
}
"""Other shades that go by the same name: those of CSS and of common plotting palettes."""
COLOURS = tuple(PALETTE)
OPPOSITES: dict[Relation, Relation] = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
}
DOMINANCE = 1.3  # how much longer one axis of an offset must be before the offset has a name


@dataclass(frozen=True, slots=True)
class Look:
    """What like objects share."""

    colour: str
    shape: str
    fill: Fill
    size: Size | None = None
    """Set only where two objects are present and their diameters differ clearly."""


@dataclass(frozen=True, slots=True)
class Group:
    """One to four objects of the same look."""

    look: Look
    count: int


@dataclass(frozen=True, slots=True)
class Thing:
    """One object: its look, where it lies, and the exact colour it is painted in."""

    look: Look
    x_px: float
    y_px: float
    diameter_px: float
    angle_deg: float
    stripes_deg: float
    rgb: Rgb


@dataclass(frozen=True, slots=True)
class Backdrop:
    """What lies behind the objects.

    Args:
        kind: How it is made.
        colour: Its name in the palette where `kind` is `plain`, else None.
        rgbs: The plain colour, the gradient's two ends, or the noise's mean; twice where one is enough.
        angle_deg: Direction of the gradient.
        grain: Strength of the noise, 0 to 255, and the contrast of a photograph in percent.
        photo: Name of the photograph, or an empty string.
        box: Left, top, right and bottom of the crop of it, as fractions.
        seed: Of the noise.
    """

    kind: BackdropKind
    colour: str | None
    rgbs: tuple[Rgb, Rgb]
    angle_deg: float = 0.0
    grain: float = 0.0
    photo: str = ""
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Scene:
    """A canvas, its backdrop, and the objects on it; `things` lists the groups' objects in order."""

    width_px: int
    height_px: int
    backdrop: Backdrop
    groups: tuple[Group, ...]
    things: tuple[Thing, ...]


def relation_of(first: Thing, second: Thing) -> Relation | None:
    """How the first object lies to the second; None where no axis dominates."""
    dx, dy = second.x_px - first.x_px, second.y_px - first.y_px
    if abs(dx) > DOMINANCE * abs(dy):
        return "left of" if dx > 0 else "right of"
    if abs(dy) > DOMINANCE * abs(dx):
        return "above" if dy > 0 else "below"
    return None
