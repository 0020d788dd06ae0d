"""Ways to decode and resize less exactly: how much less work they are, and how far they move a CLIPScore.

Photographs as JPEGs of 1024 pixels. Each way is from bytes to what the encoder takes. Scores are those of the embedded
encoder, which means something by them, and of a ViT-B/32 with random weights.
"""

import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import simplejpeg
import skimage
from numpy.typing import NDArray
from PIL import Image

from loadtests.scorers.interleaved import interleave, ratios
from loadtests.scorers.product import encode, open_context, write_clip
from plumbline_models.core.protocols import Embedded, Encoder, Score
from plumbline_models.images.decode import DecodePolicy, decode
from plumbline_models.images.nvjpeg.agreement import MAX_DIFFERENCE
from plumbline_models.scorers.clipscore import ClipScore

Pixels: TypeAlias = NDArray[np.uint8]
Shortcut: TypeAlias = Callable[[bytes, int], Pixels]
"""From a JPEG to pixels that are fitted to a side, or that the encoder still fits."""

FOLDER = Path(skimage.__file__).parent / "data"
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "retina.jpg")
CAPTIONS = ("a woman in an orange suit", "a cat", "a cup of coffee", "a rocket", "an eye")
SIDE_PX = 1024
ARCH = "ViT-B-32"
POLICY = DecodePolicy()


def _scaled(data: bytes, size_px: int, margin: int) -> Pixels:
    # Scaled by the discrete cosine transform to an eighth, a quarter, ... of the side, never under the wanted one.
    side_px = margin * size_px
    pixels: Pixels = simplejpeg.decode_jpeg(data, min_height=side_px, min_width=side_px, min_factor=1)
    return pixels


def _reduced(data: bytes, size_px: int) -> Pixels:
    image = Image.fromarray(decode(data, POLICY))
    return np.asarray(image.resize((size_px, size_px), Image.Resampling.BICUBIC, reducing_gap=2.0))


def _off(data: bytes, most: int) -> Pixels:
    """As another decoder may give them: each sample off by as much at most, at random."""
    pixels = decode(data, POLICY)
    error = np.random.default_rng(0).integers(-most, most + 1, pixels.shape)
    off: Pixels = np.clip(pixels + error, 0, 255).astype(np.uint8)
    return off


SHORTCUTS: Mapping[str, Shortcut] = {
    "exact": lambda data, _: decode(data, POLICY),
    "fast transform": lambda data, _: simplejpeg.decode_jpeg(data, fastdct=True, fastupsample=True),
    "scaled to 1x or more": lambda data, size_px: _scaled(data, size_px, 1),
    "scaled to 2x or more": lambda data, size_px: _scaled(data, size_px, 2),
    "resized by way of 2x": _reduced,
    "chroma not interpolated": lambda data, _: simplejpeg.decode_jpeg(data, fastupsample=True),
    "off by 1 at most": lambda data, _: _off(data, 1),
    f"off by {MAX_DIFFERENCE} at most": lambda data, _: _off(data, MAX_DIFFERENCE),
}


def measure_shortcuts(num_rounds: int) -> dict[str, Any]:
    """Ratios of each way to a fitted image, and the largest change of a score."""
    files = [_as_jpeg(name) for name in PHOTOGRAPHS]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_clip(ARCH, Path(folder))
        sections: dict[str, dict[str, Any]] = {"embedded": {}, ARCH: {"arch": ARCH, "checkpoint": checkpoint}}
        return {name: _measure(section, files, num_rounds, Path(folder)) for name, section in sections.items()}


def _measure(section: Mapping[str, Any], files: Sequence[bytes], num_rounds: int, folder: Path) -> dict[str, Any]:
    scorer = ClipScore.build(section, open_context("torch", precision="fp32", cache_dir=folder))
    image, text = scorer.image, scorer.text
    image.load()
    text.load()
    captions = encode(text, [text.preprocess(caption) for caption in CAPTIONS])
    size_px = image.preprocess(decode(files[0], POLICY)).shape[0]

    def score(shortcut: Shortcut) -> NDArray[np.float64]:
        encodings = encode(image, [image.preprocess(shortcut(data, size_px)) for data in files])
        answers = scorer.score(Embedded(images=encodings, captions=captions))
        return np.array([answer.details["cosine"] for answer in answers if isinstance(answer, Score)])

    exact = score(SHORTCUTS["exact"])
    measured = interleave(
        {name: _preprocess_images(shortcut, image, files, size_px) for name, shortcut in SHORTCUTS.items()},
        num_rounds=num_rounds,
    )
    moved = {name: float(f"{2.5 * np.abs(score(shortcut) - exact).max():.1e}") for name, shortcut in SHORTCUTS.items()}
    return {"size_px": size_px, "ratio": ratios(measured, "exact"), "largest_change_of_clipscore": moved}


def _preprocess_images(
    shortcut: Shortcut, image: Encoder, files: Sequence[bytes], size_px: int
) -> Callable[[int], object]:
    return lambda _: [image.preprocess(shortcut(data, size_px)) for data in files]


def _as_jpeg(name: str) -> bytes:
    buffer = io.BytesIO()
    image = Image.open(FOLDER / name).convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
