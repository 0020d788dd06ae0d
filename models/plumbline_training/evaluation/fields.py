"""The renderer that training never saw: signed distance fields in numpy.

Each shape is a formula for the distance of a point from its border, negative inside. A pixel's coverage follows
from the distance of its centre, so edges are smooth without oversampling. Shapes differ a little from the
training renderer's on purpose: the star's notches are deeper, the heart is built from discs and a square, the
noise is blocky.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from plumbline_models.core.arrays import Pixels
from plumbline_training.photographs import photograph
from plumbline_training.scenes import Backdrop, Scene, Thing

Field: TypeAlias = NDArray[np.float64]
STROKE = 0.24  # outline over radius
STRIPES_ACROSS = 4.0
PAINTED = 0.55


def render(scene: Scene) -> Pixels:
    """Draw a scene; `[H, W, 3]` RGB uint8 at the scene's own size."""
    ys, xs = np.meshgrid(np.arange(scene.height_px) + 0.5, np.arange(scene.width_px) + 0.5, indexing="ij")
    picture = _ground(scene.backdrop, xs / scene.width_px, ys / scene.height_px)
    for thing in scene.things:
        coverage = _coverage(thing, xs, ys)[..., None]
        picture = picture * (1 - coverage) + np.array(thing.rgb, dtype=float) * coverage
    return np.asarray(np.rint(np.clip(picture, 0, 255)), dtype=np.uint8)


def _coverage(thing: Thing, xs: Field, ys: Field) -> Field:
    radius = thing.diameter_px / 2
    turn = math.radians(thing.angle_deg)
    dx, dy = (xs - thing.x_px) / radius, (ys - thing.y_px) / radius
    x = dx * math.cos(turn) + dy * math.sin(turn)
    y = -dx * math.sin(turn) + dy * math.cos(turn)
    distance = _DISTANCES[thing.look.shape](x, y)
    if thing.look.fill == "outlined":
        half = max(STROKE, 2.6 / thing.diameter_px) / 2
        distance = np.abs(distance + half) - half
    if thing.look.fill == "striped":
        lean = math.radians(thing.stripes_deg)
        along = (dx * math.cos(lean) + dy * math.sin(lean)) * STRIPES_ACROSS / 2
        from_crest = np.abs(along - np.round(along)) - PAINTED / 2
        distance = np.maximum(distance, from_crest * 2 / STRIPES_ACROSS)
    return np.clip(0.5 - distance * radius, 0.0, 1.0)


def _ground(backdrop: Backdrop, u: Field, v: Field) -> Field:
    start, end = (np.array(rgb, dtype=float) for rgb in backdrop.rgbs)
    if backdrop.kind == "gradient":
        lean = math.radians(backdrop.angle_deg)
        along = u * math.cos(lean) + v * math.sin(lean)
        ramp = np.interp(along, (along.min(), along.max()), (0.0, 1.0))
        return start * (1 - ramp[..., None]) + end * ramp[..., None]
    if backdrop.kind == "photo":
        return _nearest(backdrop, u, v)
    ground = np.ones((*u.shape, 3)) * start
    if backdrop.kind == "noise":
        height, width = u.shape
        blocks = (height // 2 + 1, width // 2 + 1, 3)
        grain = np.random.default_rng(backdrop.seed ^ 0x5EED).uniform(-1.7, 1.7, blocks)
        ground += backdrop.grain * grain.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return np.asarray(ground)


def _nearest(backdrop: Backdrop, u: Field, v: Field) -> Field:
    source = photograph(backdrop.photo)
    left, top, right, bottom = backdrop.box
    rows = ((top + v * (bottom - top)) * source.shape[0]).astype(int)
    columns = ((left + u * (right - left)) * source.shape[1]).astype(int)
    crop = source[np.clip(rows, 0, source.shape[0] - 1), np.clip(columns, 0, source.shape[1] - 1)]
    return np.asarray((crop.astype(float) - 128) * (backdrop.grain / 100) + backdrop.rgbs[0][0])


def _box(x: Field, y: Field, half_x: float, half_y: float) -> Field:
    over_x, over_y = np.abs(x) - half_x, np.abs(y) - half_y
    outside = np.hypot(np.maximum(over_x, 0), np.maximum(over_y, 0))
    return np.asarray(outside + np.minimum(np.maximum(over_x, over_y), 0))


def _disc(x: Field, y: Field, radius: float) -> Field:
    return np.hypot(x, y) - radius


def _half_planes(x: Field, y: Field, num: int, reach: float) -> Field:
    """Distances beyond `num` lines around the origin, ascending along the last axis; one faces straight down."""
    angles = math.pi / 2 + 2 * math.pi * np.arange(num) / num
    beyond = x[..., None] * np.cos(angles) + y[..., None] * np.sin(angles) - reach
    return np.sort(beyond, axis=-1)


def _triangle(x: Field, y: Field) -> Field:
    return np.asarray(_half_planes(x, y, 3, 0.48)[..., -1])


def _star(x: Field, y: Field) -> Field:
    # A point lies in a pentagram if it is behind at least four of the five lines.
    return np.asarray(_half_planes(x, y, 5, math.cos(2 * math.pi / 5))[..., -2])


def _cross(x: Field, y: Field) -> Field:
    return np.minimum(_box(x, y, 0.3, 0.93), _box(x, y, 0.93, 0.3))


def _ring(x: Field, y: Field) -> Field:
    return np.abs(np.hypot(x, y) - 0.73) - 0.23


def _heart(x: Field, y: Field) -> Field:
    diagonal, other = (x + y - 0.05) / math.sqrt(2), (x - y + 0.05) / math.sqrt(2)
    tip = _box(diagonal, other, 0.53, 0.53)
    lobes = np.minimum(_disc(x - 0.40, y + 0.33, 0.52), _disc(x + 0.40, y + 0.33, 0.52))
    return np.minimum(tip, lobes)


def _diamond(x: Field, y: Field) -> Field:
    half = 0.66
    return (np.abs(x) / half + np.abs(y) - 1.0) * half / math.hypot(half, 1.0)


_DISTANCES: dict[str, Callable[[Field, Field], Field]] = {
    "circle": lambda x, y: _disc(x, y, 0.94),
    "square": lambda x, y: _box(x, y, 0.71, 0.71),
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "heart": _heart,
    "diamond": _diamond,
}
