"""The golden folders of the causal families, and scorers loaded from them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from PIL import Image

from plumbline_models.backends import Tuning, open_backend
from plumbline_models.core.arrays import Pixels
from plumbline_models.core.protocols import BuildContext, Embedded, PairInput, Score
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.scorers.vqascore import VqaScore
from plumbline_serve.encoding_cache.store import StoredEncoding

GOLDEN = Path(__file__).parents[2] / "golden" / "vqascore"
FOLDERS = {"llava-1.5": "llava15_tiny", "qwen2.5-vl": "qwen25vl_tiny", "smolvlm": "smolvlm_tiny"}
TOLERANCES = {"llava-1.5": 2e-5, "qwen2.5-vl": 3e-5, "smolvlm": 3e-5}
"""As the record states them: float32 rounding, in another order."""


@cache
def record(family: str) -> dict[str, Any]:
    return json.loads((GOLDEN / FOLDERS[family] / "golden.json").read_text(encoding="utf-8"))


@cache
def pixels(family: str, name: str) -> Pixels:
    """One golden image as RGB; transparency is dropped."""
    entry = next(entry for entry in record(family)["images"] if entry["name"] == name)
    if entry["source"] == "gradient":
        height, width = entry["hw"]
        row, column = np.mgrid[:height, :width]
        planes = (column * 255 // (width - 1), row * 255 // (height - 1), (column + row) * 7 % 256)
        made = np.stack(planes, axis=-1).astype(np.uint8)
    else:
        made = getattr(skimage.data, entry["source"].removeprefix("skimage:"))()
    if "transpose" in entry.get("ops", ()):
        made = made.swapaxes(0, 1)
    return np.asarray(Image.fromarray(np.ascontiguousarray(made)).convert("RGB"))


def context(cache_dir: Path, precision: Any = "fp32", backend: str = "torch") -> BuildContext:
    tuning = Tuning(cache_dir, num_threads=1, device="cpu")
    return BuildContext(open_backend(backend, precision=precision, tuning=tuning), EncoderRegistry())


def load(family: str, within: BuildContext, **options: Any) -> VqaScore:
    options.setdefault("model", str(GOLDEN / FOLDERS.get(family, "")))
    scorer = VqaScore.build({"family": family, **options}, within)
    scorer.image.load()
    scorer.pair.load()
    return scorer


def rows(scorer: VqaScore, images: Sequence[Pixels]) -> list[Any]:
    return [scorer.image.encode([scorer.image.preprocess(each)])[0] for each in images]


def kept(rows: Sequence[Any]) -> list[Any]:
    """Rows of images as the service's cache gives them, their arrays read-only; under names of their own, so that a
    prefix that was read of the same image before does not stand in for them."""
    return [replace(StoredEncoding.of(row).load(), key=(row.key[0], ~row.key[1])) for row in rows]


def scores(scorer: VqaScore, pairs: Sequence[tuple[Any, str]]) -> list[Score]:
    preprocessed = [scorer.pair.preprocess(PairInput(caption, row)) for row, caption in pairs]
    return list(scorer.score(Embedded(pairs=scorer.pair.encode(preprocessed))))
