"""How qualiclip follows growing distortion, on photographs that it was never trained on."""

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from loadtests.accuracy.served import encoded, score
from loadtests.accuracy.targets import Figure
from plumbline_models.core.arrays import Pixels
from plumbline_serve.requests.service import CoreService
from plumbline_training.distortions import DISTORTIONS, NUM_LEVELS, distort
from plumbline_training.measure_quality import spearman


async def figures(service: CoreService, crops: Sequence[Pixels], rng: Generator) -> list[Figure]:
    """Rank correlation with levels 1 to 5, by kind and on average, and the mean score of untouched crops."""
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
