"""Draws scenes at random from a seeded generator."""

import math

import numpy as np
from numpy.random import Generator

from plumbline_training.photographs import BACKDROPS, THUMBNAIL_PX, thumbnail
from plumbline_training.scenes import (
    COLOURS,
    FILLS,
    PALETTE,
    SHADES,
    SHAPES,
    Backdrop,
    Group,
    Look,
    Rgb,
    Scene,
    Size,
    Thing,
)

SHORT_SIDES_PX = (64, 256)
DIAMETERS = (0.14, 0.45)  # of the shorter side
PATTERNS: tuple[tuple[int, ...], ...] = (
    (1,), (1, 1), (2,), (3,), (4,), (2, 1), (1, 2), (1, 3), (3, 1), (2, 2), (1, 1, 1), (1, 1, 1, 1),
)  # fmt: skip
PATTERN_WEIGHTS = (0.2, 0.4, 0.06, 0.06, 0.06, 0.03, 0.03, 0.02, 0.02, 0.02, 0.06, 0.04)
LARGEST = {1: 0.45, 2: 0.45, 3: 0.36, 4: 0.30}  # diameter by number of objects, so that they find room
SIZED = 0.45  # share of pairs of which one object is clearly larger
CLEARLY_LARGER = 1.5
MIN_CONTRAST = 90.0  # Euclidean RGB distance of an object from what lies behind it
MAX_ROTATION_DEG = 20.0
GREY = "grey"
EVEN = 0.5
PLAIN_UP_TO, GRADIENT_UP_TO, NOISE_UP_TO = 0.4, 0.6, 0.75  # cumulated shares of backdrops; the rest are photos


class NoRoomError(ValueError):
    """The objects of one draw found no place; draw again."""


def sample_scene(rng: Generator) -> Scene:
    """Draw one scene."""
    while True:
        try:
            return _attempt(rng)
        except NoRoomError:
            continue


def _attempt(rng: Generator) -> Scene:
    width, height = _canvas(rng)
    backdrop = _backdrop(rng)
    counts = PATTERNS[int(rng.choice(len(PATTERNS), p=PATTERN_WEIGHTS))]
    diameters, sizes = _diameters(rng, counts, min(width, height))
    looks = _looks(rng, counts, sizes)
    things: list[Thing] = []
    for look, count, diameter in zip(looks, counts, diameters, strict=True):
        for _ in range(count):
            things.append(_place(rng, look, diameter, (width, height, backdrop, things)))
    groups = tuple(Group(look, count) for look, count in zip(looks, counts, strict=True))
    return Scene(width, height, backdrop, groups, tuple(things))


def _canvas(rng: Generator) -> tuple[int, int]:
    low, high = SHORT_SIDES_PX
    short = math.exp(rng.uniform(math.log(low), math.log(high)))
    long = short * 2.0 ** rng.uniform(0.0, 1.0)
    sides = (round(short), max(round(short), math.floor(long)))
    return sides if rng.random() < EVEN else (sides[1], sides[0])


def _backdrop(rng: Generator) -> Backdrop:
    draw = rng.random()
    name = str(rng.choice([*COLOURS, GREY]))
    first = _varied(rng, (128, 128, 128), 12) if name == GREY else _shade(rng, name)
    if draw < PLAIN_UP_TO:
        return Backdrop("plain", None if name == GREY else name, (first, first))
    anything: Rgb = (int(rng.integers(256)), int(rng.integers(256)), int(rng.integers(256)))
    if draw < GRADIENT_UP_TO:
        other = _varied(rng, anything, 1)
        return Backdrop("gradient", None, (first, other), angle_deg=float(rng.uniform(0, 360)))
    if draw < NOISE_UP_TO:
        grain = float(rng.uniform(8, 60))
        return Backdrop("noise", None, (anything, anything), grain=grain, seed=int(rng.integers(2**31)))
    return _photo(rng)


def _photo(rng: Generator) -> Backdrop:
    side = float(rng.uniform(0.25, 0.9))
    left, top = float(rng.uniform(0, 1 - side)), float(rng.uniform(0, 1 - side))
    level = int(rng.integers(60, 200))
    return Backdrop(
        "photo",
        None,
        ((level, level, level),) * 2,
        grain=float(rng.uniform(35, 100)),
        photo=str(rng.choice(BACKDROPS)),
        box=(left, top, left + side, top + side),
    )


def _diameters(rng: Generator, counts: tuple[int, ...], short_px: int) -> tuple[list[float], list[Size | None]]:
    low, _ = DIAMETERS
    if counts == (1, 1) and rng.random() < SIZED:
        small = float(rng.uniform(low, 0.24))
        large = float(rng.uniform(max(0.28, CLEARLY_LARGER * small), 0.45))
        if rng.random() < EVEN:
            return [small * short_px, large * short_px], ["small", "large"]
        return [large * short_px, small * short_px], ["large", "small"]
    base = float(rng.uniform(low, LARGEST[sum(counts)] / 1.15))
    return [base * short_px * float(rng.uniform(1.0, 1.15)) for _ in counts], [None] * len(counts)


def _looks(rng: Generator, counts: tuple[int, ...], sizes: list[Size | None]) -> list[Look]:
    looks: list[Look] = []
    while len(looks) < len(counts):
        fill = FILLS[int(rng.choice(3, p=(0.6, 0.2, 0.2)))]
        colour, shape = str(rng.choice(COLOURS)), str(rng.choice(SHAPES))
        if all((colour, shape) != (look.colour, look.shape) for look in looks):
            looks.append(Look(colour, shape, fill, sizes[len(looks)]))
    return looks


def _place(rng: Generator, look: Look, diameter: float, setting: tuple[int, int, Backdrop, list[Thing]]) -> Thing:
    width, height, backdrop, others = setting
    rgb = _shade(rng, look.colour)
    radius = diameter / 2
    for _ in range(40):
        x = float(rng.uniform(radius + 1, width - radius - 1))
        y = float(rng.uniform(radius + 1, height - radius - 1))
        apart = all(
            math.hypot(x - other.x_px, y - other.y_px) >= 0.97 * (radius + other.diameter_px / 2) for other in others
        )
        if apart and _contrast(rgb, backdrop, x / width, y / height) >= MIN_CONTRAST:
            angle = float(rng.uniform(-MAX_ROTATION_DEG, MAX_ROTATION_DEG))
            return Thing(look, x, y, diameter, angle, float(rng.uniform(0, 180)), rgb)
    raise NoRoomError


def _contrast(rgb: Rgb, backdrop: Backdrop, x: float, y: float) -> float:
    """RGB distance between a colour and the backdrop around a point given as fractions of the canvas."""
    behind = [np.asarray(end, dtype=np.float32) for end in backdrop.rgbs]
    if backdrop.kind == "photo":
        left, top, right, bottom = backdrop.box
        column = int(THUMBNAIL_PX * (left + x * (right - left)))
        row = int(THUMBNAIL_PX * (top + y * (bottom - top)))
        mean = thumbnail(backdrop.photo)[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
        level = np.float32(backdrop.rgbs[0][0])
        behind = [level + (mean.mean(axis=(0, 1)) - 128) * np.float32(backdrop.grain / 100)]
    target = np.asarray(rgb, dtype=np.float32)
    return min(float(np.linalg.norm(target - colour)) for colour in behind)


def _shade(rng: Generator, name: str) -> Rgb:
    """A colour that goes by that name: between its middle shade and one of the others, slightly varied."""
    middle = np.asarray(PALETTE[name], dtype=np.float64)
    other = np.asarray(SHADES[name][int(rng.integers(len(SHADES[name])))], dtype=np.float64)
    red, green, blue = (round(float(part)) for part in middle + rng.uniform(0, 1) * (other - middle))
    return _varied(rng, (red, green, blue), 12)


def _varied(rng: Generator, rgb: Rgb, spread: int) -> Rgb:
    shifts = rng.integers(-spread, spread + 1, size=3)
    red, green, blue = (int(min(255, max(0, base + int(s)))) for base, s in zip(rgb, shifts, strict=True))
    return red, green, blue
