"""Sharp, clean pictures to spoil: bundled photographs, dead leaves, and scenes.

The photographs are split once: what quality is measured on was never trained on, nor drawn as a backdrop in
the scenes used here.
"""

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from plumbline_models.core.arrays import Pixels
from plumbline_training.paint import paint
from plumbline_training.photographs import photograph
from plumbline_training.sampling import sample_scene

TRAINED_ON = (
    "astronaut.png", "motorcycle_left.png", "motorcycle_right.png", "hubble_deep_field.jpg", "retina.jpg", "ihc.png",
    "brick.png", "gravel.png", "coins.png", "moon.png", "page.png",
)  # fmt: skip
MEASURED_ON = ("chelsea.png", "coffee.png", "camera.png", "rocket.jpg", "grass.png")
PHOTO_SHARE, LEAVES_SHARE = 0.55, 0.35
NUM_LEAVES = 500


def pristine(size_px: int, rng: Generator) -> Pixels:
    """Draw one square picture of that size, to be trained on."""
    draw = rng.random()
    if draw < PHOTO_SHARE:
        return photo_crop(str(rng.choice(TRAINED_ON)), size_px, rng)
    return dead_leaves(size_px, rng) if draw < PHOTO_SHARE + LEAVES_SHARE else _scene(size_px, rng)


def photo_crop(name: str, size_px: int, rng: Generator) -> Pixels:
    """A random crop of a photograph, shrunk by up to half, perhaps mirrored, turned or with channels swapped."""
    whole = photograph(name)
    longest = min(whole.shape[:2]) / size_px
    side = round(size_px * rng.uniform(1.0, max(1.0, min(2.0, longest))))
    top, left = (int(rng.integers(0, max(1, extent - side))) for extent in whole.shape[:2])
    crop = Image.fromarray(whole[top : top + side, left : left + side])
    pixels = np.asarray(crop.resize((size_px, size_px), Image.Resampling.LANCZOS))
    pixels = np.rot90(pixels, int(rng.integers(4)))
    if rng.random() < 0.5:  # noqa: PLR2004  (a coin)
        pixels = pixels[..., rng.permutation(3)]
    return np.ascontiguousarray(pixels[:, ::-1] if rng.random() < 0.5 else pixels)  # noqa: PLR2004


def dead_leaves(size_px: int, rng: Generator) -> Pixels:
    """Overlapping discs and boxes with radii after a power law, which have the edges of natural pictures."""
    canvas = Image.new("RGB", (2 * size_px, 2 * size_px), tuple(int(v) for v in rng.integers(256, size=3)))
    draw = ImageDraw.Draw(canvas)
    for _ in range(NUM_LEAVES):
        radius = min(size_px * 0.6, 4.0 / max(1e-3, float(rng.random())) ** 0.8)
        x, y = (float(v) for v in rng.uniform(0, 2 * size_px, size=2))
        colour = tuple(int(v) for v in np.clip(rng.normal(rng.uniform(60, 190), 45, size=3), 0, 255))
        box = (x - radius, y - radius, x + radius, y + radius * float(rng.uniform(0.3, 1.0)))
        (draw.ellipse if rng.random() < 0.6 else draw.rectangle)(box, fill=colour)  # noqa: PLR2004
    return np.asarray(canvas.resize((size_px, size_px), Image.Resampling.LANCZOS))


def _scene(size_px: int, rng: Generator) -> Pixels:
    while True:
        scene = sample_scene(rng)
        if scene.backdrop.kind in {"plain", "gradient"} or scene.backdrop.photo in TRAINED_ON:
            painted = Image.fromarray(paint(scene))
            return np.asarray(painted.resize((size_px, size_px), Image.Resampling.LANCZOS))
