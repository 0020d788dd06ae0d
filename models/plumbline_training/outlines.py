"""Corners of the shapes that are polygons, in the proportions of a style."""

import math

import numpy as np
from numpy.typing import NDArray

from plumbline_training.styles import Style

Corners = list[tuple[float, float]]
CROSS_REACH = 0.95


def corners_of(shape: str, style: Style, angle_deg: float) -> NDArray[np.float64]:
    """`[N, 2]` corners in a circle of radius 1 around the origin, y downwards, turned by the angle."""
    corners = np.asarray(_polygon(shape, style), dtype=np.float64)
    angle = math.radians(angle_deg)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return np.asarray(corners @ turn)


def _polygon(shape: str, style: Style) -> Corners:
    if shape == "square":
        half = style.square_half
        return [(-half, -half), (half, -half), (half, half), (-half, half)]
    if shape == "triangle":
        return [(x * style.triangle_width, y) for x, y in _regular(3, 1.0)]
    if shape == "star":
        return _regular(10, 1.0, style.star_notch)
    if shape == "cross":
        return _cross(style.cross_arm)
    if shape == "heart":
        return _lobed_heart() if style.has_lobed_heart else _curved_heart()
    return [(0.0, -1.0), (style.diamond_width, 0.0), (0.0, 1.0), (-style.diamond_width, 0.0)]


def _regular(num: int, *radii: float) -> Corners:
    steps = [(2 * math.pi * k / num - math.pi / 2, radii[k % len(radii)]) for k in range(num)]
    return [(r * math.cos(a), r * math.sin(a)) for a, r in steps]


def _cross(arm: float) -> Corners:
    corner = [(-arm, -CROSS_REACH), (arm, -CROSS_REACH), (arm, -arm)]
    return [_quarter(point, turns) for turns in range(4) for point in corner]


def _quarter(point: tuple[float, float], turns: int) -> tuple[float, float]:
    x, y = point
    for _ in range(turns):
        x, y = -y, x
    return x, y


def _curved_heart() -> Corners:
    """The well-known curve of sines and cosines."""
    turns = [2 * math.pi * k / 48 for k in range(48)]
    return [
        (
            math.sin(t) ** 3 * 0.96,
            -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 17 * 0.96,
        )
        for t in turns
    ]


def _lobed_heart() -> Corners:
    """Two half discs on a triangle."""
    radius, top = 0.46, -0.34
    right = [(radius + radius * math.cos(a), top - radius * math.sin(a)) for a in np.linspace(math.pi, -0.6, 16)]
    left = [(-x, y) for x, y in reversed(right)]
    return [*left[:-1], *right, (0.0, 0.92)]
