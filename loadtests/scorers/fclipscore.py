"""How much less CPU time our F-CLIPScore takes than the straightforward one: `python -m loadtests.scorers.fclipscore`.

ViT-B/32 with random weights, one thread, all programs in one process and in turn, medians of CPU seconds. Cases:

- `shared`: 16 pairs of 4 images and 4 captions, from decoded pixels to words;
- `distinct`: 16 pairs of 16 images and 16 captions, the same;
- `best_of_64`: one caption held against 64 images whose embeddings are given, another caption each round; and beside
  it `kept`, where the caption was asked about before.

The programs `fp32` and `bf16` differ in the image tower's precision; attributions are computed in fp32 in both.
"""

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from PIL import Image

from loadtests.baselines.fclipscore_eager import EagerFClipScore
from loadtests.scorers.interleaved import Program, add_out, interleave, ratios, report
from loadtests.scorers.product import FClipScoring, open_fclipscore, write_clip

ARCH = "ViT-B-32-quickgelu"
SIZE = (480, 640, 3)
CAPTIONS = (
    *("a brown dog runs across a wet beach", "two children in red coats play with a ball on the grass"),
    *("an old wooden boat lies on the shore", "a bowl of ripe strawberries stands beside a blue cup"),
    *("a cat sleeps on a pile of grey blankets", "a woman rides a white horse along the river"),
    *("three yellow taxis wait at a crossing in the rain", "a green train leaves a small station at dusk"),
    *("a man reads a newspaper under a large umbrella", "a pair of black shoes on a striped carpet"),
    *("five birds sit on a wire above the road", "a plate of pasta with basil and tomatoes"),
    *("a girl throws a frisbee in a crowded park", "an astronaut stands next to a model of a rocket"),
    *("snow covers the roofs of a village in the mountains", "a red bicycle leans against a brick wall"),
)
Pixels = NDArray[np.uint8]


class Baseline:
    """The eager program, with open_clip's own preprocessing and tokenizer."""

    def __init__(self, checkpoint: Path) -> None:
        clip, _, self._preprocess = open_clip.create_model_and_transforms(ARCH, pretrained=str(checkpoint))
        self._eager = EagerFClipScore(clip.eval(), open_clip.get_tokenizer(ARCH))

    def score(self, pairs: Sequence[tuple[Pixels, str]]) -> list[NDArray[np.float32]]:
        """Attributions of each pair's tokens, start and end of text left out."""
        resized = ((self._preprocess(Image.fromarray(pixels)), caption) for pixels, caption in pairs)
        return [self._eager(image, caption)[1].numpy() for image, caption in resized]

    def attribute(self, embeddings: NDArray[np.float32], caption: str) -> list[NDArray[np.float32]]:
        """The same for one caption and images embedded already."""
        images = torch.from_numpy(embeddings)
        return [self._eager.attribute(image[None], caption)[1].numpy() for image in images]


def pairs_case(images: Sequence[Pixels], captions: Sequence[str], *, crossed: bool) -> list[tuple[Pixels, str]]:
    if crossed:
        return [(image, caption) for image in images for caption in captions]
    return list(zip(images, captions, strict=True))


def measure(
    programs: Mapping[str, Program], results: Mapping[str, Callable[[], Any]], num_rounds: int
) -> dict[str, Any]:
    expected = results["eager"]()
    errors = {name: _error(result(), expected) for name, result in results.items() if name != "eager"}
    measured = interleave(programs, num_rounds=num_rounds)
    return {"ratio": ratios(measured, "eager"), "largest_error_of_row_maximum": errors, **measured}


def _error(found: Sequence[NDArray[np.float32]], expected: Sequence[NDArray[np.float32]]) -> float:
    both = zip(found, expected, strict=True)
    return float(f"{max(np.abs(ours - theirs).max() / np.abs(theirs).max() for ours, theirs in both):.1e}")


def _without_round(program: Any, pairs: list[Any]) -> Program:
    return lambda _: program.score(pairs)


def score_pairs(
    ours: Mapping[str, FClipScoring], baseline: Baseline, pairs: list[Any], num_rounds: int
) -> dict[str, Any]:
    everyone: dict[str, Any] = {"eager": baseline, **ours}
    programs: dict[str, Program] = {name: _without_round(program, pairs) for name, program in everyone.items()}
    results = {name: lambda program=program: program.score(pairs) for name, program in everyone.items()}
    return measure(programs, results, num_rounds)


def best_of_64(ours: FClipScoring, baseline: Baseline, num_rounds: int) -> dict[str, Any]:
    embeddings = np.random.default_rng(1).standard_normal((64, 512)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    programs: dict[str, Program] = {
        "eager": lambda number: baseline.attribute(embeddings, CAPTIONS[number]),
        "fp32": lambda number: ours.attribute(embeddings, CAPTIONS[number]),
        "kept": lambda _: ours.attribute(embeddings, CAPTIONS[-1]),
    }
    results = {
        "eager": lambda: baseline.attribute(embeddings, CAPTIONS[-1]),
        "fp32": lambda: ours.attribute(embeddings, CAPTIONS[-1]),
    }
    return measure(programs, results, num_rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, choices=range(1, len(CAPTIONS)))
    add_out(parser)
    arguments = parser.parse_args()
    num_rounds = arguments.rounds
    torch.set_num_threads(1)
    images = list(np.random.default_rng(0).integers(0, 256, (16, *SIZE), dtype=np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_clip(ARCH, Path(folder))
        ours = {
            precision: open_fclipscore(ARCH, checkpoint, precision=precision, cache_dir=Path(folder))
            for precision in ("fp32", "bf16")
        }
        baseline = Baseline(checkpoint)
        shared = pairs_case(images[:4], CAPTIONS[:4], crossed=True)
        distinct = pairs_case(images, CAPTIONS, crossed=False)
        cases = {
            "shared": score_pairs(ours, baseline, shared, num_rounds),
            "distinct": score_pairs(ours, baseline, distinct, num_rounds),
            "best_of_64": best_of_64(ours["fp32"], baseline, num_rounds),
        }
    report("fclipscore", cases, out=arguments.out)


if __name__ == "__main__":
    main()
