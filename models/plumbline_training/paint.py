"""The training renderer: Pillow polygons, drawn large and averaged down."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from plumbline_models.core.arrays import Pixels
from plumbline_training.outlines import corners_of
from plumbline_training.photographs import photograph
from plumbline_training.scenes import Backdrop, Rgb, Scene, Thing
from plumbline_training.styles import PLAIN, Gap, Style

OVERSAMPLING = 4
THINNEST_OUTLINE_PX = 1.3
DISC, RING = 0.93, 0.98  # outer radius of a circle and of a ring
TINT = 0.45  # how far a tinted gap is from the object's colour towards black or white
BRIGHT = 384  # sum of RGB above which a tint is darker


def paint(scene: Scene, style: Style = PLAIN) -> Pixels:
    """Draw a scene; `[H, W, 3]` RGB uint8 at the scene's own size."""
    rng = np.random.default_rng(scene.backdrop.seed)
    canvas = Image.fromarray(_behind(scene.backdrop, scene.width_px, scene.height_px, rng))
    for thing in scene.things:
        left = math.floor(thing.x_px - thing.diameter_px / 2) - 1
        top = math.floor(thing.y_px - thing.diameter_px / 2) - 1
        whole, painted = _masks(thing, style, left, top)
        if thing.look.fill == "striped" and style.gap != "clear":
            canvas.paste(Image.new("RGB", whole.size, _between(thing.rgb, style.gap)), (left, top), whole)
        canvas.paste(Image.new("RGB", painted.size, thing.rgb), (left, top), painted)
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


def _between(rgb: Rgb, gap: Gap) -> Rgb:
    """What shows between stripes of that colour."""
    if gap == "white" and sum(rgb) < 2 * BRIGHT - 100:
        return (255, 255, 255)
    end = 0 if sum(rgb) > BRIGHT else 255
    red, green, blue = (round(part + TINT * (end - part)) for part in rgb)
    return red, green, blue


def _masks(thing: Thing, style: Style, left: int, top: int) -> tuple[Image.Image, Image.Image]:
    """The object's area, and the part of it that is painted in its colour."""
    side = math.ceil(thing.diameter_px) + 4
    large = Image.new("L", (side * OVERSAMPLING,) * 2, 0)
    centre = ((thing.x_px - left) * OVERSAMPLING, (thing.y_px - top) * OVERSAMPLING)
    radius = thing.diameter_px / 2 * OVERSAMPLING
    draw = ImageDraw.Draw(large)
    is_outlined = thing.look.fill == "outlined"
    stroke = max(THINNEST_OUTLINE_PX * OVERSAMPLING, style.outline * radius) if is_outlined else 0.0
    if thing.look.shape in {"circle", "ring"}:
        hole = style.ring_hole if thing.look.shape == "ring" else 0.0
        _draw_round(draw, (*centre, radius), hole, stroke)
    else:
        _draw_polygon(draw, corners_of(thing.look.shape, style, thing.angle_deg) * radius + centre, stroke)
    painted = large
    if thing.look.fill == "striped":
        painted = ImageChops.multiply(large, _stripes(large.size[0], thing, style, (*centre, radius)))
    whole, part = (mask.resize((side, side), Image.Resampling.BOX) for mask in (large, painted))
    return whole, part


def _draw_round(draw: ImageDraw.ImageDraw, disc: tuple[float, float, float], hole: float, stroke: float) -> None:
    x, y, radius = disc

    def circle(r: float, *, value: int) -> None:
        draw.ellipse((x - r, y - r, x + r, y + r), fill=value)

    outer = radius * (RING if hole else DISC)
    circle(outer, value=255)
    if stroke:
        circle(outer - stroke, value=0)
    if hole and stroke:
        circle(hole * outer + stroke, value=255)
    if hole:
        circle(hole * outer, value=0)


def _draw_polygon(draw: ImageDraw.ImageDraw, corners: NDArray[np.float64], stroke: float) -> None:
    points = [(float(x), float(y)) for x, y in corners]
    if not stroke:
        draw.polygon(points, fill=255)
        return
    draw.line([*points, points[0], points[1]], fill=255, width=max(1, round(stroke)), joint="curve")


def _stripes(side: int, thing: Thing, style: Style, disc: tuple[float, float, float]) -> Image.Image:
    x, y, radius = disc
    angle = math.radians(thing.stripes_deg)
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32)
    along = (columns - x) * math.cos(angle) + (rows - y) * math.sin(angle)
    phase = (along / (style.stripe_period * radius) + style.stripe_share / 2) % 1.0
    return Image.fromarray(((phase < style.stripe_share) * np.uint8(255)).astype(np.uint8))
