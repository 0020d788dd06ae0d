"""The golden folders of VQAScore: their records, their images, and scorers loaded from them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from PIL import Image

from loadtests import goldens
from plumbline_models.backends import Tuning, open_backend
from plumbline_models.core.arrays import Pixels
from plumbline_models.core.protocols import BuildContext, Embedded, PairInput, Score
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.scorers.vqascore import VqaScore
from plumbline_serve.encoding_cache.store import StoredEncoding

GOLDEN = goldens.GOLDEN / "vqascore"
FLANT5 = GOLDEN / "clip_flant5_tiny"
FOLDERS = {"llava-1.5": "llava15_tiny", "qwen2.5-vl": "qwen25vl_tiny", "smolvlm": "smolvlm_tiny"}
TOLERANCES = {"llava-1.5": 2e-5, "qwen2.5-vl": 3e-5, "smolvlm": 3e-5}
"""As the record states them: float32 rounding, in another order."""


@cache
def record(family: str) -> dict[str, Any]:
    """The authors' numbers for one causal family."""
    found: dict[str, Any] = json.loads((GOLDEN / FOLDERS[family] / "golden.json").read_text(encoding="utf-8"))
    return found


@cache
def pixels(family: str, name: str) -> Pixels:
    """One golden image of a causal family."""
    return draw(next(entry for entry in record(family)["images"] if entry["name"] == name))


def draw(entry: Mapping[str, Any]) -> Pixels:
    """The image that a record describes, as RGB; transparency is dropped and not composited, as the authors do."""
    if entry["source"] == "gradient":
        height, width = entry["hw"]
        row, column = np.mgrid[:height, :width]
        planes = (column * 255 // (width - 1), row * 255 // (height - 1), (column + row) * 7 % 256)
        drawn = np.stack(planes, axis=-1).astype(np.uint8)
    else:
        drawn = getattr(skimage.data, entry["source"].removeprefix("skimage:"))()
    for operation in entry.get("ops", ()):
        drawn = drawn.swapaxes(0, 1) if operation == "transpose" else drawn[:, ::-1]
    return np.asarray(Image.fromarray(np.ascontiguousarray(drawn)).convert("RGB"))


def context(cache_dir: Path, precision: Any = "fp32", backend: str = "torch") -> BuildContext:
    """What scorers are built with: one thread on the CPU, no encoders yet."""
    tuning = Tuning(cache_dir, num_threads=1, device="cpu")
    return BuildContext(open_backend(backend, precision=precision, tuning=tuning), EncoderRegistry())


def load(family: str, within: BuildContext, **options: Any) -> VqaScore:
    """A VQAScore of a causal family with its encoders loaded."""
    options.setdefault("model", str(GOLDEN / FOLDERS.get(family, "")))
    scorer = VqaScore.build({"family": family, **options}, within)
    scorer.image.load()
    scorer.pair.load()
    return scorer


def encode_images(scorer: VqaScore, images: Sequence[Pixels]) -> list[Any]:
    """Encodings of images, each encoded by itself."""
    return [scorer.image.encode([scorer.image.preprocess(each)])[0] for each in images]


def from_cache(encodings: Sequence[Any]) -> list[Any]:
    """Encodings of images as the service's cache gives them, their arrays read-only.

    They have keys of their own, so that a prefix that was read of the same image before does not stand in for them.
    """
    return [replace(StoredEncoding.of(each).load(), key=(each.key[0], ~each.key[1])) for each in encodings]


def scores(scorer: VqaScore, pairs: Sequence[tuple[Any, str]]) -> list[Score]:
    """Scores of encodings of images with texts, all pairs in one batch."""
    pair = scorer.pair
    preprocessed = [pair.preprocess(PairInput(caption, encoding)) for encoding, caption in pairs]
    found = scorer.score(Embedded(pairs=pair.encode(preprocessed)))
    return [each for each in found if isinstance(each, Score)]
