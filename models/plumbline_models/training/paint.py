"""The training renderer: Pillow polygons, drawn large and averaged down."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from plumbline_models.core.arrays import Pixels
from plumbline_models.training.photographs import photograph
from plumbline_models.training.scenes import Backdrop, Scene, Thing

OVERSAMPLING = 4
OUTLINE = 0.11  # stroke over diameter
RING_HOLE = 0.52  # inner over outer radius
STRIPE_PERIOD = 0.24  # over diameter
STRIPE_SHARE = 0.56  # of a period that is painted


def paint(scene: Scene) -> Pixels:
    """Draw a scene; `[H, W, 3]` RGB uint8 at the scene's own size."""
    rng = np.random.default_rng(scene.backdrop.seed)
    canvas = Image.fromarray(_behind(scene.backdrop, scene.width_px, scene.height_px, rng))
    for thing in scene.things:
        left = math.floor(thing.x_px - thing.diameter_px / 2) - 1
        top = math.floor(thing.y_px - thing.diameter_px / 2) - 1
        mask = _mask(thing, left, top)
        canvas.paste(Image.new("RGB", mask.size, thing.rgb), (left, top), mask)
    return np.asarray(canvas)


def _behind(backdrop: Backdrop, width: int, height: int, rng: np.random.Generator) -> Pixels:
    first, second = (np.asarray(rgb, dtype=np.float32) for rgb in backdrop.rgbs)
    if backdrop.kind == "photo":
        return _photo(backdrop, width, height)
    if backdrop.kind == "gradient":
        angle = math.radians(backdrop.angle_deg)
        rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
        along = math.cos(angle) * columns / width + math.sin(angle) * rows / height
        share = (along - along.min()) / max(float(np.ptp(along)), 1e-6)
        return _to_pixels(first + share[..., None] * (second - first))
    field = np.broadcast_to(first, (height, width, 3))
    if backdrop.kind == "noise":
        field = field + rng.normal(0, backdrop.grain, size=(height, width, 3)).astype(np.float32)
    return _to_pixels(field)


def _photo(backdrop: Backdrop, width: int, height: int) -> Pixels:
    whole = Image.fromarray(photograph(backdrop.photo))
    left, top, right, bottom = backdrop.box
    box = (left * whole.width, top * whole.height, right * whole.width, bottom * whole.height)
    crop = whole.resize((width, height), Image.Resampling.BILINEAR, box=box)
    field = np.asarray(crop, dtype=np.float32) - 128
    return _to_pixels(field * (backdrop.grain / 100) + backdrop.rgbs[0][0])


def _to_pixels(field: NDArray[np.float32]) -> Pixels:
    return np.clip(field, 0, 255).astype(np.uint8)


def _mask(thing: Thing, left: int, top: int) -> Image.Image:
    side = math.ceil(thing.diameter_px) + 4
    large = Image.new("L", (side * OVERSAMPLING,) * 2, 0)
    centre = ((thing.x_px - left) * OVERSAMPLING, (thing.y_px - top) * OVERSAMPLING)
    radius = thing.diameter_px / 2 * OVERSAMPLING
    draw = ImageDraw.Draw(large)
    stroke = max(1.3 * OVERSAMPLING, OUTLINE * 2 * radius) if thing.look.fill == "outlined" else 0.0
    if thing.look.shape in {"circle", "ring"}:
        _draw_round(draw, thing, (*centre, radius), stroke)
    else:
        _draw_polygon(draw, _corners(thing.look.shape, thing.angle_deg) * radius + centre, stroke)
    if thing.look.fill == "striped":
        large = ImageChops.multiply(large, _stripes(large.size[0], thing, centre, radius))
    return large.resize((side, side), Image.Resampling.BOX)


def _draw_round(draw: ImageDraw.ImageDraw, thing: Thing, disc: tuple[float, float, float], stroke: float) -> None:
    x, y, radius = disc

    def circle(r: float, *, value: int) -> None:
        draw.ellipse((x - r, y - r, x + r, y + r), fill=value)

    is_ring = thing.look.shape == "ring"
    outer = radius * (0.98 if is_ring else 0.93)
    circle(outer, value=255)
    if stroke:
        circle(outer - stroke, value=0)
    if is_ring and stroke:
        circle(RING_HOLE * outer + stroke, value=255)
    if is_ring:
        circle(RING_HOLE * outer, value=0)


def _draw_polygon(draw: ImageDraw.ImageDraw, corners: NDArray[np.float64], stroke: float) -> None:
    points = [(float(x), float(y)) for x, y in corners]
    if not stroke:
        draw.polygon(points, fill=255)
        return
    draw.line([*points, points[0], points[1]], fill=255, width=max(1, round(stroke)), joint="curve")


def _stripes(side: int, thing: Thing, centre: tuple[float, float], radius: float) -> Image.Image:
    angle = math.radians(thing.stripes_deg)
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32)
    along = (columns - centre[0]) * math.cos(angle) + (rows - centre[1]) * math.sin(angle)
    phase = (along / (STRIPE_PERIOD * 2 * radius) + STRIPE_SHARE / 2) % 1.0
    return Image.fromarray(((phase < STRIPE_SHARE) * np.uint8(255)).astype(np.uint8))


def _corners(shape: str, angle_deg: float) -> NDArray[np.float64]:
    """Corners in a circle of radius 1 around the origin, y downwards, turned by the angle."""
    corners = np.asarray(_POLYGONS[shape], dtype=np.float64)
    angle = math.radians(angle_deg)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return np.asarray(corners @ turn)


def _regular(num: int, *radii: float) -> list[tuple[float, float]]:
    steps = [(2 * math.pi * k / num - math.pi / 2, radii[k % len(radii)]) for k in range(num)]
    return [(r * math.cos(a), r * math.sin(a)) for a, r in steps]


def _heart() -> list[tuple[float, float]]:
    turns = [2 * math.pi * k / 48 for k in range(48)]
    return [
        (
            math.sin(t) ** 3 * 0.96,
            -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 17 * 0.96,
        )
        for t in turns
    ]


_ARM, _REACH = 0.29, 0.95
_POLYGONS: dict[str, list[tuple[float, float]]] = {
    "square": [(-0.72, -0.72), (0.72, -0.72), (0.72, 0.72), (-0.72, 0.72)],
    "triangle": _regular(3, 1.0),
    "star": _regular(10, 1.0, 0.42),
    "cross": [
        (-_ARM, -_REACH), (_ARM, -_REACH), (_ARM, -_ARM), (_REACH, -_ARM), (_REACH, _ARM), (_ARM, _ARM),
        (_ARM, _REACH), (-_ARM, _REACH), (-_ARM, _ARM), (-_REACH, _ARM), (-_REACH, -_ARM), (-_ARM, -_ARM),
    ],
    "heart": _heart(),
    "diamond": [(0.0, -1.0), (0.64, 0.0), (0.0, 1.0), (-0.64, 0.0)],
}  # fmt: skip
