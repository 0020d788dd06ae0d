"""What int8 does to embeddings and scores: `python -m loadtests.engine.int8`.

Image towers in `auto` (bf16 where the CPU has it) and in int8 against float32, texts in float32 always: the embedded
mini-clip, and ViT-B/32 with random weights and with those of the golden numbers. Engines are fitted to 96 scenes, and
measured on scenes of another seed and on the photographs of the golden set, with its captions. The order of scores is
Spearman's correlation with float32's: of all pairs, and of the images of each caption, where that of the worst
caption is said.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import spearmanr

from loadtests.engine.towers import open_ours
from loadtests.goldens.clips import build_golden, golden_image
from loadtests.scorers.interleaved import add_out, report
from loadtests.scorers.product import encode, write_clip
from plumbline_models.backends import PrecisionChoice, Tuning
from plumbline_models.core.arrays import Pixels
from plumbline_models.core.protocols import Encoder
from plumbline_training.evaluation.pairs import draw_pairs

NUM_RESIZED, NUM_CAPTIONS = 96, 40
FITTED_SEED, MEASURED_SEED = 5, 99
PRECISIONS: tuple[PrecisionChoice, ...] = ("auto", "int8")


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Images, and captions that each of them is scored with."""

    images: Sequence[Pixels]
    captions: Sequence[str]


def draw_sets(num_scenes: int, golden: Any) -> Mapping[str, ImageSet]:
    """Fresh scenes, and the golden photographs."""
    scenes = list(draw_pairs(num_scenes, MEASURED_SEED))
    captions = list(dict.fromkeys(scene.truth for scene in scenes))[:NUM_CAPTIONS]
    photographs = [golden_image(name) for name in golden.image_embeddings]
    texts = list(dict.fromkeys(golden.text_of(case) for case in golden.cases))
    return {"scenes": ImageSet([scene.image for scene in scenes], captions), "golden": ImageSet(photographs, texts)}


def write_scenes(folder: Path) -> Path:
    """Scenes to fit engines to."""
    folder.mkdir()
    for number, pair in enumerate(draw_pairs(NUM_RESIZED, FITTED_SEED)):
        Image.fromarray(pair.image).save(folder / f"{number:03}.png")
    return folder


def measure(section: Mapping[str, Any], sets: Mapping[str, ImageSet], tuning: Tuning) -> dict[str, Any]:
    """Every set in every precision."""
    image, text = open_ours(section, "fp32", tuning)
    exact = {name: embed(image, each.images) for name, each in sets.items()}
    texts = {name: embed(text, each.captions) for name, each in sets.items()}
    rows: dict[str, Any] = {}
    for precision in PRECISIONS:
        image, _ = open_ours(section, precision, tuning)
        for name, each in sets.items():
            found = embed(image, each.images)
            rows[f"{name}, {image.info().precision}"] = compare(exact[name], found, texts[name])
    return rows


def embed(encoder: Encoder, inputs: Sequence[Any]) -> NDArray[np.float64]:
    """Unit-norm embeddings `[N, D]`."""
    return np.stack([np.asarray(each) for each in encode(encoder, [encoder.preprocess(one) for one in inputs])]).astype(
        float
    )


def compare(exact: NDArray[np.float64], found: NDArray[np.float64], texts: NDArray[np.float64]) -> dict[str, float]:
    """Of the same images, and of their scores with texts."""
    before, after = exact @ texts.T, found @ texts.T
    columns = [spearmanr(*pair).statistic for pair in zip(before.T, after.T, strict=True)]
    return {
        "images": len(exact),
        "captions": len(texts),
        "least_cosine": round(float(np.sum(exact * found, axis=1).min()), 5),
        "largest_move_of_a_cosine": round(float(np.abs(after - before).max()), 5),
        "spearman": round(float(spearmanr(before, after, axis=None).statistic), 4),
        "spearman_of_worst_caption": round(float(min(columns)), 4),
    }


def main() -> None:
    """Measure, print, and write where told."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--only", choices=["mini-clip", "random", "golden"], help="one set of weights")
    add_out(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        golden = build_golden("b32_quickgelu", folder)
        sections: dict[str, Mapping[str, Any]] = {
            "mini-clip": {},
            "random": {"arch": "ViT-B-32", "checkpoint": write_clip("ViT-B-32", folder)},
            "golden": golden.options,
        }
        tuning = Tuning(folder / "cache", num_threads=1, calibration_dir=write_scenes(folder / "resized"))
        sets = draw_sets(options.scenes, golden)
        chosen = [options.only] if options.only else list(sections)
        report("int8", {name: measure(sections[name], sets, tuning) for name in chosen}, out=options.out)


if __name__ == "__main__":
    main()
