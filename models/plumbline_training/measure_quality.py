"""Measures the embedded QualiCLIP on photographs it was never trained on and prints the table.

python -m plumbline_training.measure_quality [--folder FOLDER] [--seed 77] [--crops 8]
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from rich.progress import track
from safetensors.torch import load_file

from plumbline_models.core.arrays import Pixels
from plumbline_training.distortions import DISTORTIONS, NUM_LEVELS, Distortion, distort
from plumbline_training.photographs import photograph
from plumbline_training.pristine import MEASURED_ON
from plumbline_training.quality import Quality, score
from plumbline_training.towers import normalised

EMBEDDED = Path(__file__).parents[1] / "embedded"
SIDES_PX = (128, 512)
PREFIX = "clip_model.visual."


def load_quality(folder: Path) -> Quality:
    """The tower and prompt features of `weights.safetensors`, float32, in eval mode."""
    state = {name: value.float() for name, value in load_file(folder / "weights.safetensors").items()}
    quality = Quality(seed=0)
    quality.visual.load_state_dict(
        {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
    )
    quality.get_buffer("prompts_features").copy_(state["prompts_features"])
    return quality.eval()


def held_out_crops(num_crops: int, rng: Generator) -> Iterator[Pixels]:
    """Crops of every held-out photograph, 128 to 512 px a side, at its own resolution."""
    for name in MEASURED_ON:
        whole = photograph(name)
        for _ in range(num_crops):
            height, width = (int(rng.integers(SIDES_PX[0], min(SIDES_PX[1], side) + 1)) for side in whole.shape[:2])
            top = int(rng.integers(whole.shape[0] - height + 1))
            left = int(rng.integers(whole.shape[1] - width + 1))
            yield whole[top : top + height, left : left + width]


@torch.no_grad()
def values_by_level(quality: Quality, crop: Pixels, kind: Distortion, rng: Generator) -> NDArray[np.float64]:
    """Scores of a crop untouched and at levels 1 to 5."""
    spoiled = [distort(crop, kind, float(level), rng) for level in range(NUM_LEVELS + 1)]
    return score(quality(normalised(np.stack(spoiled)))).double().numpy()


def spearman(values: NDArray[np.float64]) -> float:
    """Rank correlation of values with falling quality, 1 where each level scores below the one before."""
    ranks = np.array([np.mean(np.flatnonzero(np.sort(values) == value)) for value in values])
    if np.ptp(ranks) == 0:
        return 0.0
    return float(-np.corrcoef(ranks, np.arange(len(values)))[0, 1])


def measure(folder: Path, seed: int, num_crops: int) -> list[str]:
    """Lines of a Markdown table."""
    quality, rng = load_quality(folder), np.random.default_rng(seed)
    crops = list(held_out_crops(num_crops, rng))
    lines = [
        "| distortion | crops | Spearman, levels 1-5 | Spearman, clean and 1-5 | mean score by level |",
        "| --- | --- | --- | --- | --- |",
    ]
    means = []
    for kind in track(DISTORTIONS, description="measuring"):
        values = np.stack([values_by_level(quality, crop, kind, rng) for crop in crops])
        alone = float(np.mean([spearman(row[1:]) for row in values]))
        whole = float(np.mean([spearman(row) for row in values]))
        shown = " ".join(f"{value:.2f}" for value in values.mean(axis=0))
        lines.append(f"| {kind} | {len(crops)} | {alone:.3f} | {whole:.3f} | {shown} |")
        means.append((alone, whole))
    first, second = np.mean(means, axis=0)
    return [*lines, f"| mean | | {first:.3f} | {second:.3f} | |"]


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--folder", type=Path, default=EMBEDDED / "mini-qualiclip")
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--crops", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("\n".join(measure(options.folder, options.seed, options.crops)))  # noqa: T201


if __name__ == "__main__":
    main()
