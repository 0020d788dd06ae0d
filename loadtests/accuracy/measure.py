"""Whether the embedded networks mean what they say: `make eval-mini`.

Fresh scenes by the renderer that training never saw, each with a true caption and one foil, and photographs never
trained on, spoiled step by step; all scored by the service's own path, from image bytes on. Prints Markdown, and
writes JSON where `--json` says.

    python -m loadtests.accuracy.measure [--pairs 2000] [--crops 8] [--seed 77] [--json FILE]
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from rich.progress import track

from loadtests.accuracy import scenes
from loadtests.accuracy.served import encoded, score
from loadtests.accuracy.targets import Figure, markdown
from plumbline_models.core.arrays import Pixels
from plumbline_serve.assembly import assembled
from plumbline_serve.requests.service import CoreService
from plumbline_serve.settings import load_settings
from plumbline_training.distortions import DISTORTIONS, NUM_LEVELS, distort
from plumbline_training.evaluation.pairs import draw_pairs
from plumbline_training.measure_quality import held_out_crops, spearman

PAIRS_AT_ONCE = 128


async def measure(options: argparse.Namespace) -> list[Figure]:
    """All figures."""
    with tempfile.TemporaryDirectory() as cache:
        settings = load_settings(options.config, {"cache_dir": options.cache or Path(cache)})
        async with assembled(settings) as assembly:
            service = assembly.service
            pairs = list(draw_pairs(options.pairs, options.seed))
            scored = []
            for first in track(range(0, len(pairs), PAIRS_AT_ONCE), description="scoring", disable=options.quiet):
                scored += await scenes.score_pairs(service, pairs[first : first + PAIRS_AT_ONCE])
            rng = np.random.default_rng(options.seed)
            crops = list(held_out_crops(options.crops, rng))
            return [*scenes.figures(scored), *await quality_figures(service, crops, rng)]


async def quality_figures(service: CoreService, crops: Sequence[Pixels], rng: Generator) -> list[Figure]:
    """How qualiclip follows growing distortion: rank correlation with the level, and the mean score of clean crops."""
    rows, correlations, clean = [], [], []
    for kind in DISTORTIONS:
        values = [
            await _values(service, [distort(crop, kind, float(level), rng) for level in range(NUM_LEVELS + 1)])
            for crop in crops
        ]
        clean += [one[0] for one in values]
        correlations.append(float(np.mean([spearman(one[1:]) for one in values])))
        rows.append(Figure("qualiclip", f"Spearman with the level, {kind}", correlations[-1], 0.70, len(crops)))
        worst = float(np.mean([one[-1] for one in values]))
        rows.append(Figure("qualiclip", f"mean score at level {NUM_LEVELS}, {kind}", worst, None, len(crops)))
    rows.append(Figure("qualiclip", "Spearman with the level, mean", float(np.mean(correlations)), 0.85, len(crops)))
    return [*rows, Figure("qualiclip", "mean score untouched", float(np.mean(clean)), None, len(crops))]


async def _values(service: CoreService, images: Sequence[Pixels]) -> NDArray[np.float64]:
    found = await score(service, [(encoded(image), None) for image in images], ("qualiclip",))
    return np.array([one["qualiclip"].value for one in found])


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--crops", type=int, default=8, help="of each photograph")
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--config", type=Path, help="of the service; default: the embedded weights")
    parser.add_argument("--cache", type=Path, help="keeps compiled engines; default: none are kept")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args()
    started = time.monotonic()
    figures = asyncio.run(measure(options))
    print(markdown(figures))
    print(f"\n{options.pairs} pairs, seed {options.seed}, {time.monotonic() - started:.0f} s")
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(one) for one in figures], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
